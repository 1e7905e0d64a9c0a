"""Encoded images (JPEG, PNG, WebP) to a tensor: decode, rotate upright, resize, crop the centre, normalise.

Options: ``size`` (224: side of the square), ``resize`` (``crop``: the shorter side to ``shorter``, then the centre;
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
"""Side of the crop divided by the shorter side: 224 / 256, as is usual for ImageNet."""

SIXTEEN_BITS = ("I;16", "I;16B", "I;16L", "I")
"""The library's modes of grey images with 16 bits a pixel."""

SAMPLE_SIDE = 320
"""Side of the warm-up image in pixels."""

# The library's own limit is global and only warns. ``max_pixels`` is checked before an image is decoded.
Image.MAX_IMAGE_PIXELS = None


@dataclass(frozen=True, slots=True)
class ImageTransform:
    """The size, colours, layout and scale of the output, and the limit of pixels."""

    size: int
    shorter: int
    mode: str
    channels_first: bool
    mean: tuple[float, ...]
    std: tuple[float, ...]
    max_pixels: int


class ImageSession:
    """BYTES [any] to float32 [any, channels, size, size], or with the channels last."""

    __slots__ = ("_offset", "_open", "_scale", "_transform", "padding", "sample", "spec")

    def __init__(self, transform: ImageTransform) -> None:
        size, channels = transform.size, len(transform.mean)
        shape = (channels, size, size) if transform.channels_first else (size, size, channels)
        self.spec = ModelSpec(
            (TensorSpec("image", RAW_BYTES, (-1,)),), (TensorSpec("pixels", BY_NAME["FP32"], (-1, *shape)),)
        )
        self.padding: VariableAxis | None = None
        self.sample: list[Array] = [_photograph(min(SAMPLE_SIDE, math.isqrt(transform.max_pixels)))]
        self._transform = transform
        self._scale = (1 / (255 * np.array(transform.std))).astype(np.float32)
        self._offset = (-np.array(transform.mean) / np.array(transform.std)).astype(np.float32)
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
        transform = self._transform
        if not isinstance(encoded, bytes):
            raise UnprocessableInput('an image is bytes: send it as the body, in binary, or in JSON as {"b64": "..."}')
        try:
            with Image.open(io.BytesIO(encoded), formats=FORMATS) as image:
                width, height = image.size
                if width * height > transform.max_pixels:
                    raise UnprocessableInput(
                        f"the image has {width} x {height} pixels, more than the allowed {transform.max_pixels:,}; "
                        "make it smaller before sending"
                    )
                upright = ImageOps.exif_transpose(_eight_bits(image)).convert(transform.mode)
        except UnprocessableInput:
            raise
        except MemoryError as error:
            raise OutOfMemory("not enough memory to decode the image") from error
        except Exception as error:
            raise UnprocessableInput(f"the bytes are not an image of type {', '.join(FORMATS)}") from error
        channels_last = transform.size, transform.size, len(transform.mean)
        values: Array = np.asarray(_fitted(upright, transform), np.float32).reshape(channels_last)
        values = values * self._scale + self._offset
        return values.transpose(2, 0, 1) if transform.channels_first else values


def load(path: Path, options: BackendOptions) -> ImageSession:  # noqa: ARG001 - the step has no file
    """Create the step. Raises BrokenArtifact for a wrong option."""
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
        ImageTransform(
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


def _eight_bits(image: Image.Image) -> Image.Image:
    """A grey image of 16 bits scaled to 8; the library's own conversion would cut its values off at 255."""
    if image.mode not in SIXTEEN_BITS:
        return image
    grey = np.asarray(image).astype(np.float32) / 257
    scaled = Image.fromarray(np.clip(np.rint(grey), 0, 255).astype(np.uint8))
    scaled.info = image.info
    return scaled


def _fitted(image: Image.Image, transform: ImageTransform) -> Image.Image:
    width, height = image.size
    if not transform.shorter:
        return image.resize((transform.size, transform.size), Image.Resampling.BILINEAR)
    scale = transform.shorter / min(width, height)
    # Only the centre is resampled, so that the cost of a very wide image is that of a square.
    side = transform.size / scale
    left, top = (width - side) / 2, (height - side) / 2
    box = (max(left, 0.0), max(top, 0.0), min(left + side, width), min(top + side, height))
    return image.resize((transform.size, transform.size), Image.Resampling.BILINEAR, box=box)


def _photograph(side: int) -> Array:
    """One JPEG of a square with a gradient."""
    rows = np.tile(np.linspace(0, 255, side, dtype=np.uint8), (side, 1))
    file = io.BytesIO()
    Image.fromarray(np.stack([rows, rows[:, ::-1], rows.T], axis=2)).save(file, "JPEG")
    sample = np.empty(1, object)
    sample[0] = file.getvalue()
    return sample
