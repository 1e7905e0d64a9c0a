"""The toolkit's encoder, by our rules."""

from __future__ import annotations

from typing import Any

from server.scripts import media

SUPPORTED_CONTENT_TYPES = (media.JSON, media.CSV, media.NPY)


def encode(array_like: Any, content_type: str) -> str | bytes:
    """Text for JSON and CSV, bytes for npy. Raises what becomes 406."""
    body, written = media.encode(array_like, content_type)
    return body.decode() if written in media.TEXT else body
