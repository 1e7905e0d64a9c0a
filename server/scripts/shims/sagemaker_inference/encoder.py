"""The toolkit's encoder: the default ``output_fn``."""

from __future__ import annotations

from typing import Any

from server.scripts import default_functions

SUPPORTED_CONTENT_TYPES = (default_functions.JSON, default_functions.CSV, default_functions.NPY)


def encode(array_like: Any, content_type: str) -> str | bytes:
    """Text for JSON and CSV, bytes for npy. Raises NotAcceptable (406)."""
    body, written = default_functions.encode(array_like, content_type)
    return body.decode() if written in default_functions.TEXT else body
