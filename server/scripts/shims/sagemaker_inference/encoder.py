"""The toolkit's encoder: the default ``output_fn``."""

from __future__ import annotations

from typing import Any

from server.scripts import default_output, media_types

SUPPORTED_CONTENT_TYPES = (media_types.JSON, media_types.CSV, media_types.NPY)


def encode(array_like: Any, content_type: str) -> str | bytes:
    """Text for JSON and CSV, bytes for npy. Raises NotAcceptable (406)."""
    body, written = default_output.encode(array_like, content_type)
    return body.decode() if written in media_types.TEXT else body
