"""The toolkit's decoder: the default ``input_fn``."""

from __future__ import annotations

from typing import Any

from server.scripts import default_functions

SUPPORTED_TYPES = (default_functions.JSON, default_functions.CSV, default_functions.NPY, default_functions.NPZ)


def decode(obj: str | bytes, content_type: str | None) -> Any:
    """The array, dictionary or list of a body. Raises MalformedInput (400) or UnsupportedMedia (415)."""
    name, charset = default_functions.media_of(content_type.encode() if content_type else None, "")
    body = bytes(obj) if isinstance(obj, (bytearray, memoryview)) else obj
    if isinstance(body, bytes):
        body = default_functions.text_of(body, name, charset)
    return default_functions.decode(body, name)
