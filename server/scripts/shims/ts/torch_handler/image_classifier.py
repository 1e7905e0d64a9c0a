"""TorchServe's handler ``image_classifier``: the most probable classes of each image."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..utils.util import map_class_to_label
from .vision_handler import Transform, VisionHandler, array_of, softmax


class ImageClassifier(VisionHandler):
    """For each image: the names of the ``topk`` best classes with their probabilities, best first."""

    topk = 5
    image_processing = staticmethod(Transform(shorter=256, size=224))

    def set_max_result_classes(self, topk: int) -> None:
        """Set the number of classes in each result."""
        self.topk = topk

    def get_max_result_classes(self) -> int:
        """The number of classes in each result."""
        return self.topk

    def postprocess(self, data: Any) -> Any:
        """Scores [images, classes] to names with probabilities."""
        shares = softmax(array_of(data))
        best = np.argsort(-shares, axis=1, kind="stable")[:, : self.topk]
        return map_class_to_label(np.take_along_axis(shares, best, axis=1).tolist(), self.mapping, best.tolist())
