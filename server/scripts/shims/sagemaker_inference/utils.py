"""The toolkit's header functions that scripts import."""

from __future__ import annotations

from collections.abc import Mapping


def parse_accept(accept: str) -> list[str]:
    """The media types of an Accept header, in their order and without parameters."""
    return [item.partition(";")[0].strip() for item in accept.split(",") if item.strip()]


def retrieve_content_type_header(request_property: Mapping[str, str]) -> str | None:
    """The Content-Type among headers of any case."""
    return next((value for key, value in request_property.items() if key.lower() == "content-type"), None)
