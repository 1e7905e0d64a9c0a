"""The base class of TorchServe's handlers of images: the images of the requests as one tensor."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from server.tensors import Array

from ..utils.util import PredictionException
from .base_handler import BaseHandler, is_onnx, torch

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
MOST_PIXELS = 25_000_000
"""Larger images are refused before they are decoded."""

BAD_REQUEST = 400


@dataclass(frozen=True, slots=True)
class Transform:
    """An image to float32 [3, height, width] from 0 to 1.

    ``shorter``: the shorter side is brought to this size, then the centre square of ``size`` is cut out and normalized
    as for ImageNet; 0: the image keeps its size and its values.
    """

    shorter: int = 0
    size: int = 0

    def __call__(self, image: Image.Image) -> Array:
        image = image.convert("RGB")
        if self.shorter:
            width, height = (int(self.shorter * side / min(image.size)) for side in image.size)
            if width * height > MOST_PIXELS:
                raise PredictionException("the image is too long for its width", BAD_REQUEST)
            left, top = round((width - self.size) / 2), round((height - self.size) / 2)
            resized = image.resize((width, height), Image.Resampling.BILINEAR)
            image = resized.crop((left, top, left + self.size, top + self.size))
        pixels = np.asarray(image, np.float32) / 255
        if self.shorter:
            pixels = (pixels - np.array(MEAN, np.float32)) / np.array(STD, np.float32)
        planes: Array = np.ascontiguousarray(pixels.transpose(2, 0, 1))
        return planes


class VisionHandler(BaseHandler):
    """``image_processing`` makes an array, or a tensor of PyTorch, of one image. Derived classes replace it."""

    image_processing: Callable[[Any], Any] = staticmethod(Transform())

    def preprocess(self, data: Any) -> Any:
        """The images of the requests as one batch: bytes, base64 as text, or nested lists of numbers."""
        images = [self._image(row.get("data") or row.get("body")) for row in data]
        if isinstance(images[0], np.ndarray):
            batch = np.stack(images)
            return batch if is_onnx(self.model) else torch().from_numpy(batch).to(self.device)
        return torch().stack(images).to(self.device)

    def _image(self, value: Any) -> Any:
        if isinstance(value, list):
            return np.asarray(value, np.float32)
        if isinstance(value, str):
            value = base64.b64decode(value)
        if not isinstance(value, (bytes, bytearray)) or not value:
            raise PredictionException("send an image as the body, or as the field 'data' of a form", BAD_REQUEST)
        try:
            with Image.open(io.BytesIO(value)) as image:
                if image.width * image.height > MOST_PIXELS:
                    raise PredictionException(f"the image has more than {MOST_PIXELS:,} pixels", BAD_REQUEST)
                return self.image_processing(image)
        except (UnidentifiedImageError, OSError) as error:
            raise PredictionException("the bytes are not an image that can be read", BAD_REQUEST) from error


def array_of(tensor: Any) -> Array:
    """The values of a tensor of PyTorch, or an array as it is."""
    array: Array = tensor if isinstance(tensor, np.ndarray) else tensor.detach().cpu().numpy()
    return array


def softmax(scores: Array) -> Array:
    """Shares of one along the second axis."""
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    shares: Array = powers / powers.sum(axis=1, keepdims=True)
    return shares
