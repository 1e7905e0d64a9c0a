"""Headers between caller and container: only those that the API lists pass, within its limits."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from . import limits
from .api_error import invalid

PREFIX = "x-amzn-sagemaker-"
ATTRIBUTES = PREFIX + "custom-attributes"
TARGET_MODEL = PREFIX + "target-model"
TARGET_VARIANT = PREFIX + "target-variant"
SESSION = PREFIX + "session-id"
INFERENCE_ID = PREFIX + "inference-id"
FORWARDED_API = PREFIX + "forwarded-api"
VARIANT = "x-Amzn-Invoked-Production-Variant"
ON_THE_WIRE = {PREFIX + "accept": "accept", PREFIX + "content-type": "content-type"}
"""Streams and asynchronous requests carry these under other names; the container sees the plain names."""

TO_CONTAINER = frozenset(
    {
        "accept",
        "content-type",
        ATTRIBUTES,
        TARGET_MODEL,
        TARGET_VARIANT,
        SESSION,
        INFERENCE_ID,
        *(
            PREFIX + name
            for name in ("target-container-hostname", "enable-explanations", "inference-component", "prefix-aware-id")
        ),
    }
)
TO_CALLER = ("content-type", ATTRIBUTES, PREFIX + "new-session-id", PREFIX + "closed-session-id")

_PRINTABLE = re.compile(r"[\x20-\x7e]*")
_MAX_CHARACTERS = {
    ATTRIBUTES: ("CustomAttributes", limits.CUSTOM_ATTRIBUTES),
    INFERENCE_ID: ("InferenceId", limits.INFERENCE_ID),
    SESSION: ("SessionId", limits.SESSION_ID),
    TARGET_MODEL: ("TargetModel", limits.TARGET_MODEL),
}


def to_container(sent: Iterable[tuple[str, str]], api: str) -> dict[str, str]:
    """The headers that the container gets, names in lower case; ``api`` is the operation that was called.

    Raises ApiError, a ValidationError, for a value beyond the API's limits.
    """
    passed: dict[str, str] = {}
    wired: dict[str, str] = {}
    for name, value in sent:
        low = name.lower()
        if low in ON_THE_WIRE:
            wired[ON_THE_WIRE[low]] = value
        elif low in TO_CONTAINER:
            passed[low] = value
    if api == "InvokeEndpointWithResponseStream":
        # This operation names its Accept differently; the plain one is the client library's own.
        passed.pop("accept", None)
    elif api == "InvokeEndpointAsync":
        passed = {name: value for name, value in passed.items() if name not in ON_THE_WIRE.values()}
    passed |= wired
    for low, (name, longest) in _MAX_CHARACTERS.items():
        value = passed.get(low, "")
        if len(value) > longest or not _PRINTABLE.fullmatch(value):
            raise invalid(f"{name} must be at most {longest} visible ASCII characters")
    return {**passed, FORWARDED_API: api}


def to_caller(answered: Mapping[str, str], variant: str) -> dict[str, str]:
    """The headers that the caller gets: those of the container that pass, and the platform's own.

    ``answered``: the container's response headers, names in lower case.
    """
    return {**{name: answered[name] for name in TO_CALLER if name in answered}, VARIANT: variant}
