"""Media types of a script's request and response: parsing, the accepted type, and bodies as text."""

from __future__ import annotations

from ..codecs.media import parse_media_type, ranges
from ..errors import MalformedInput

JSON, CSV, NPY, NPZ = "application/json", "text/csv", "application/x-npy", "application/x-npz"
TEXT = (JSON, CSV)
"""The types whose bodies a script gets as ``str``. All others are ``bytes``."""

ANY = "*/*"


def media_of(header: bytes | None, default: str) -> tuple[str | None, str]:
    """Media type and charset of a body: lower case and without parameters, None if the request has none.

    An invalid media type is passed on unchanged; the script decides about it.
    """
    text = header.decode("latin-1").strip() if header else default
    if not text:
        return None, "utf-8"
    try:
        media = parse_media_type(text)
    except ValueError:
        return text, "utf-8"
    return media.name, media.parameters.get("charset", "utf-8")


def accepted(header: bytes | None, default: str) -> str:
    """The one media type for the response: the preferred one of ``Accept``, else the preferred one of the default."""
    text = header.decode("latin-1").strip() if header else ANY
    return next((name for name in by_weight(text) if "*" not in name), by_weight(default)[0])


def by_weight(accept: str) -> list[str]:
    """The media types of an Accept header, the preferred one first. Invalid ones are ignored unless all are."""
    weighted = sorted(ranges(accept), key=lambda pair: -pair[1])
    return [name for name, weight in weighted if weight > 0] or [accept.strip()]


def text_of(body: bytes, content_type: str | None, charset: str) -> str | bytes:
    """The body for a script, without a byte order mark if it is text. Raises MalformedInput for a wrong charset."""
    if content_type not in TEXT:
        return body
    try:
        return body.decode(charset).removeprefix("\ufeff")
    except LookupError as error:
        raise MalformedInput(f"charset {charset[:40]!r} is not known; send utf-8") from error
    except UnicodeDecodeError as error:
        raise MalformedInput(f"the body is not {charset}: byte {error.start} is {body[error.start]:#04x}") from error
