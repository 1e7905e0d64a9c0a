"""The toolkit's decoder, by our rules."""

from __future__ import annotations

from typing import Any

from server.scripts import media

SUPPORTED_TYPES = (media.JSON, media.CSV, media.NPY, media.NPZ)


def decode(obj: str | bytes, content_type: str | None) -> Any:
    """Raises what becomes 400 or 415."""
    name, charset = media.media_of(content_type.encode() if content_type else None, "")
    body = bytes(obj) if isinstance(obj, (bytearray, memoryview)) else obj
    if isinstance(body, bytes):
        body = media.text_of(body, name, charset)
    return media.decode(body, name)
