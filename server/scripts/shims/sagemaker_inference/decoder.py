"""The toolkit's decoder: the default ``input_fn``."""

from __future__ import annotations

from typing import Any

from server.scripts import default_input, media_types

SUPPORTED_TYPES = (media_types.JSON, media_types.CSV, media_types.NPY, media_types.NPZ)


def decode(obj: str | bytes, content_type: str | None) -> Any:
    """The array, dictionary or list of a body. Raises MalformedInput (400) or UnsupportedMedia (415)."""
    name, charset = media_types.media_of(content_type.encode() if content_type else None, "")
    body = bytes(obj) if isinstance(obj, (bytearray, memoryview)) else obj
    if isinstance(body, bytes):
        body = media_types.text_of(body, name, charset)
    return default_input.decode(body, name)
