"""The installed libraries: the version of one by the name of its module or package, whichever wheel brought it."""

from __future__ import annotations

import importlib
import re
from importlib import metadata
from importlib.util import find_spec

WHEELS = {
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime-training"),
    "xgboost": ("xgboost", "xgboost-cpu"),
    "tensorrt": ("tensorrt", "tensorrt-cu13", "tensorrt-cu12"),
    "tensorflow": ("tensorflow", "tensorflow-cpu", "tensorflow-gpu"),
    "cv2": ("opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless"),
    "faiss": ("faiss-cpu", "faiss-gpu", "faiss-gpu-cu12"),
}
"""Libraries that several wheels install under one module name."""

SEPARATORS = re.compile(r"[-_.]+")


def canonical(name: str) -> str:
    """The form of a wheel's name in which equal names are equal: ``Foo.bar_baz`` is ``foo-bar-baz``."""
    return SEPARATORS.sub("-", name).lower()


def wheel(library: str) -> tuple[str, str] | None:
    """Name and version of the installed wheel that brings a library, or the module of another wheel's name.

    None where no such wheel is installed.
    """
    name = canonical(library)
    family = next((wheels for key, wheels in WHEELS.items() if name == key or name in wheels), ())
    for one in (name, *family):
        try:
            return one, metadata.version(one)
        except metadata.PackageNotFoundError:
            continue
    return None


def version(library: str) -> str | None:
    """The version of a library; None where it is not installed. A library without a wheel's record is asked itself."""
    found = wheel(library)
    if found is not None:
        return found[1]
    module = library.replace("-", "_")
    try:
        if find_spec(module) is None:
            return None
        own = getattr(importlib.import_module(module), "__version__", None)
    except (ImportError, OSError, ValueError):
        return None
    return None if own is None else str(own)
