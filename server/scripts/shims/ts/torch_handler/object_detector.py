"""TorchServe's handler ``object_detector``: the objects of each image with their boxes."""

from __future__ import annotations

from typing import Any

from ..utils.util import map_class_to_label
from .vision_handler import VisionHandler, array_of


class ObjectDetector(VisionHandler):
    """For each image: the name of each object with its box, and its score, of those with at least ``threshold``.

    The model gives ``boxes``, ``labels`` and ``scores`` of each image, as the detectors of torchvision do.
    """

    threshold = 0.5

    def postprocess(self, data: Any) -> Any:
        """The outputs of the model to a list of objects for each image."""
        found = data[1] if isinstance(data, tuple) else data  # a scripted detector gives its losses first
        return [self._objects({name: array_of(row[name]) for name in ("boxes", "labels", "scores")}) for row in found]

    def _objects(self, row: dict[str, Any]) -> list[dict[str, Any]]:
        kept = row["scores"] >= self.threshold
        columns = (row[name][kept].tolist() for name in ("labels", "boxes", "scores"))
        return [
            {**map_class_to_label([[box]], self.mapping, [[label]])[0], "score": score}
            for label, box, score in zip(*columns, strict=True)
        ]
