"""Headers between caller and container: only those of the called operation pass, within the limits of the API."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from . import attributes
from .api_error import invalid
from .attributes import ACCEPT, CONTENT_TYPE, PREFIX, REQUEST, RESPONSE

PLAIN, STREAM, ASYNC = "InvokeEndpoint", "InvokeEndpointWithResponseStream", "InvokeEndpointAsync"
FORWARDED_API = PREFIX + "forwarded-api"
VARIANT = "x-Amzn-Invoked-Production-Variant"

ON_THE_WIRE = {
    PLAIN: {},
    STREAM: {PREFIX + "accept": ACCEPT},
    ASYNC: {PREFIX + "accept": ACCEPT, PREFIX + "content-type": CONTENT_TYPE},
}
"""Headers that an operation carries under other names; the container sees the plain names."""

_ASYNC_ONLY = frozenset({attributes.INPUT_LOCATION, attributes.OUTPUT_EXTENSION, attributes.FILENAME})
_COMMON = frozenset(REQUEST) - _ASYNC_ONLY
TO_CONTAINER = {
    PLAIN: _COMMON,
    STREAM: _COMMON - {attributes.TARGET_MODEL, PREFIX + "enable-explanations"},
    ASYNC: frozenset({CONTENT_TYPE, ACCEPT, attributes.CUSTOM_ATTRIBUTES, attributes.INFERENCE_ID}),
}
"""The request headers of each operation that reach the container."""


def to_container(sent: Iterable[tuple[str, str]], api: str) -> dict[str, str]:
    """The headers that the container gets, names in lower case; ``api`` is the operation that was called.

    Raises ApiError, a ValidationError, for a value beyond the API's limits.
    """
    wire = ON_THE_WIRE[api]
    given = {name.lower(): value for name, value in sent}
    # A renamed header replaces the plain one, which is then the client library's own.
    named = {plain: given.get(name) for name, plain in wire.items()}
    passed = {name: value for name, value in given.items() if name in TO_CONTAINER[api] and name not in named}
    passed |= {name: value for name, value in named.items() if value is not None}
    reason = attributes.problem(passed, REQUEST)
    if reason is not None:
        raise invalid(reason)
    if api == STREAM and passed.get(attributes.SESSION_ID) == "NEW_SESSION":
        raise invalid("InvokeEndpointWithResponseStream cannot open a session; use InvokeEndpoint")
    return {**passed, FORWARDED_API: api}


def to_caller(answered: Mapping[str, str], variant: str) -> dict[str, str]:
    """The headers that the caller gets: those of the container that pass, and the platform's own.

    ``answered``: the container's response headers, names in lower case.
    """
    return {**{name: answered[name] for name in RESPONSE if name in answered}, VARIANT: variant}
