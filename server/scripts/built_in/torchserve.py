"""The handlers that TorchServe brings itself, as the script of an archive that names one of them.

They come from the package ``ts``: TorchServe's own where it is installed, else the stand-in. The folder of this file
has no other module, because a script may import what lies beside it.
"""

from __future__ import annotations

import importlib


def _handler(module: str, name: str) -> type:
    found: type = getattr(importlib.import_module(f"ts.torch_handler.{module}"), name)
    return found


ImageClassifier = _handler("image_classifier", "ImageClassifier")
ImageSegmenter = _handler("image_segmenter", "ImageSegmenter")
ObjectDetector = _handler("object_detector", "ObjectDetector")
