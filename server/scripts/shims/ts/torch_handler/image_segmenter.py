"""TorchServe's handler ``image_segmenter``: the most probable class of each pixel."""

from __future__ import annotations

from typing import Any

import numpy as np

from .vision_handler import Transform, VisionHandler, array_of, softmax


class ImageSegmenter(VisionHandler):
    """For each image: [height, width, 2] of the best class and its probability, of a model with the output ``out``."""

    image_processing = staticmethod(Transform(shorter=256, size=224))

    def postprocess(self, data: Any) -> Any:
        """Scores [images, classes, height, width] to classes and probabilities."""
        shares = softmax(array_of(data["out"] if isinstance(data, dict) else data))
        best = shares.argmax(axis=1)
        return np.stack([best.astype(shares.dtype), shares.max(axis=1)], axis=3).tolist()
