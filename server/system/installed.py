"""The installed libraries: the version of one by the name of its module or package, whichever wheel brought it."""

from __future__ import annotations

import importlib
from importlib import metadata
from importlib.util import find_spec

WHEELS = {
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime-training"),
    "xgboost-cpu": ("xgboost-cpu", "xgboost"),
    "tensorrt": ("tensorrt", "tensorrt-cu13", "tensorrt-cu12"),
}
"""Libraries that several wheels install under one module name."""


def version(library: str) -> str | None:
    """The version of a library; None where it is not installed. A library without a wheel's record is asked itself."""
    for wheel in WHEELS.get(library, (library,)):
        try:
            return metadata.version(wheel)
        except metadata.PackageNotFoundError:
            continue
    module = library.replace("-", "_")
    try:
        if find_spec(module) is None:
            return None
        found = getattr(importlib.import_module(module), "__version__", None)
    except (ImportError, OSError, ValueError):
        return None
    return None if found is None else str(found)
