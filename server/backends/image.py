"""Encoded images (JPEG, PNG, WebP) to a tensor: decoded, turned upright, resized, cut to the middle, normalised.

Options: ``size`` (224: side of the square), ``resize`` (``crop``: the shorter side to ``shorter``, then the middle;
``stretch``: straight to the square), ``shorter`` (size / 0.875), ``mode`` (``RGB`` or ``L``, grey), ``layout``
(``NCHW`` or ``NHWC``), ``mean`` and ``std`` (ImageNet's; a pixel p from 0 to 1 becomes (p - mean) / std),
``max_pixels`` (25,000,000: larger images are refused before they are decoded).
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from ..artifact import VariableAxis
from ..errors import BrokenArtifact, ModelFailed, OutOfMemory, UnprocessableInput
from ..tensors import BY_NAME, RAW_BYTES, Array, ModelSpec, TensorSpec
from . import BackendOptions
from .options import Options

FORMATS = ("JPEG", "PNG", "WEBP")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SHORTER = 0.875
"""Side of the crop over the shorter side: 224 of 256, as is usual for ImageNet."""

SAMPLE_SIDE = 320
"""Of the image that the step is warmed up with."""

# The library's own limit is one for the whole process, and a warning. Ours is checked before it decodes anything.
Image.MAX_IMAGE_PIXELS = None


@dataclass(frozen=True, slots=True)
class Look:
    """How every image is to look in the end."""

    size: int
    shorter: int
    mode: str
    channels_first: bool
    mean: tuple[float, ...]
    std: tuple[float, ...]
    max_pixels: int


class ImageSession:
    """BYTES [any] to float32 [any, channels, size, size], or with the channels last."""

    __slots__ = ("_look", "_offset", "_open", "_scale", "padding", "sample", "spec")

    def __init__(self, look: Look) -> None:
        channels = len(look.mean)
        shape = (channels, look.size, look.size) if look.channels_first else (look.size, look.size, channels)
        self.spec = ModelSpec(
            (TensorSpec("image", RAW_BYTES, (-1,)),), (TensorSpec("pixels", BY_NAME["FP32"], (-1, *shape)),)
        )
        self.padding: VariableAxis | None = None
        self.sample: list[Array] = [_photograph(min(SAMPLE_SIDE, math.isqrt(look.max_pixels)))]
        self._look = look
        self._scale = (1 / (255 * np.array(look.std))).astype(np.float32)
        self._offset = (-np.array(look.mean) / np.array(look.std)).astype(np.float32)
        self._open = True

    def run(self, batch: Sequence[Array]) -> list[Array]:
        if not self._open:
            raise ModelFailed("this model has been unloaded")
        if len(batch) != 1 or batch[0].ndim != 1 or batch[0].dtype.kind != "O":
            raise UnprocessableInput("the image step takes one list of encoded images")
        pixels = np.empty((len(batch[0]), *self.spec.outputs[0].shape[1:]), np.float32)
        for index, encoded in enumerate(batch[0]):
            pixels[index] = self._tensor(encoded)
        return [pixels]

    def close(self) -> None:
        self._open = False

    def _tensor(self, encoded: object) -> Array:
        look = self._look
        if not isinstance(encoded, bytes):
            raise UnprocessableInput('an image is bytes: send it as the body, in binary, or in JSON as {"b64": "..."}')
        try:
            with Image.open(io.BytesIO(encoded), formats=FORMATS) as image:
                width, height = image.size
                if width * height > look.max_pixels:
                    raise UnprocessableInput(
                        f"the image has {width} x {height} pixels, more than the {look.max_pixels:,} that are allowed:"
                        " make it smaller before sending"
                    )
                upright = ImageOps.exif_transpose(image).convert(look.mode)
        except UnprocessableInput:
            raise
        except MemoryError as error:
            raise OutOfMemory("not enough memory to decode the image") from error
        except Exception as error:
            raise UnprocessableInput(f"the bytes are not an image of type {', '.join(FORMATS)}") from error
        values: Array = np.asarray(_fitted(upright, look), np.float32).reshape(look.size, look.size, len(look.mean))
        values = values * self._scale + self._offset
        return values.transpose(2, 0, 1) if look.channels_first else values


def load(path: Path, options: BackendOptions) -> ImageSession:  # noqa: ARG001 - it has no file
    """Raises BrokenArtifact when an option is wrong."""
    asked = Options(options.options, "image")
    size = asked.whole("size", 224)
    mode = asked.choice("mode", ("RGB", "L"))
    channels = len(mode)
    crop = asked.choice("resize", ("crop", "stretch")) == "crop"
    shorter = asked.whole("shorter", max(round(size / SHORTER), size), least=size)
    grey = channels == 1
    std = asked.numbers("std", (1.0,) if grey else STD, channels)
    if not all(std):
        raise BrokenArtifact("the option 'std' of 'image' must not hold 0: pixels are divided by it")
    session = ImageSession(
        Look(
            size=size,
            shorter=shorter if crop else 0,
            mode=mode,
            channels_first=asked.choice("layout", ("NCHW", "NHWC")) == "NCHW",
            mean=asked.numbers("mean", (0.0,) if grey else MEAN, channels),
            std=std,
            max_pixels=asked.whole("max_pixels", 25_000_000),
        )
    )
    asked.finish()
    return session


def _fitted(image: Image.Image, look: Look) -> Image.Image:
    width, height = image.size
    if not look.shorter:
        return image.resize((look.size, look.size), Image.Resampling.BILINEAR)
    scale = look.shorter / min(width, height)
    # Only the middle is resampled: a strip that is ten thousand times as wide as high stays as cheap as a square.
    side = look.size / scale
    left, top = (width - side) / 2, (height - side) / 2
    box = (max(left, 0.0), max(top, 0.0), min(left + side, width), min(top + side, height))
    return image.resize((look.size, look.size), Image.Resampling.BILINEAR, box=box)


def _photograph(side: int) -> Array:
    """One JPEG, a square that is not all of one colour."""
    rows = np.tile(np.linspace(0, 255, side, dtype=np.uint8), (side, 1))
    file = io.BytesIO()
    Image.fromarray(np.stack([rows, rows[:, ::-1], rows.T], axis=2)).save(file, "JPEG")
    sample = np.empty(1, object)
    sample[0] = file.getvalue()
    return sample
