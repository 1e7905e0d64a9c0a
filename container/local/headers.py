"""Which headers pass: only those that the API lists, from caller to container and back."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from . import limits
from .refusal import invalid

PREFIX = "x-amzn-sagemaker-"
ATTRIBUTES = PREFIX + "custom-attributes"
TARGET_MODEL = PREFIX + "target-model"
TARGET_VARIANT = PREFIX + "target-variant"
SESSION = PREFIX + "session-id"
INFERENCE_ID = PREFIX + "inference-id"
FORWARDED_API = PREFIX + "forwarded-api"
VARIANT = "x-Amzn-Invoked-Production-Variant"
ON_THE_WIRE = {PREFIX + "accept": "accept", PREFIX + "content-type": "content-type"}
"""Streams and asynchronous requests carry these under other names, and the container sees them under its own."""

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
_LONGEST = {
    ATTRIBUTES: ("CustomAttributes", limits.CUSTOM_ATTRIBUTES),
    INFERENCE_ID: ("InferenceId", limits.INFERENCE_ID),
    SESSION: ("SessionId", limits.SESSION_ID),
    TARGET_MODEL: ("TargetModel", limits.TARGET_MODEL),
}


def to_container(sent: Iterable[tuple[str, str]], api: str) -> dict[str, str]:
    """What of a caller's headers the container gets, names in lower case; ``api`` is the call that was made.

    Raises Refusal, a ValidationError, for a value beyond the API's limits.
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
        # Its Accept has a name of its own; the plain one is the client library's.
        passed.pop("accept", None)
    elif api == "InvokeEndpointAsync":
        passed = {name: value for name, value in passed.items() if name not in ON_THE_WIRE.values()}
    passed |= wired
    for low, (name, longest) in _LONGEST.items():
        value = passed.get(low, "")
        if len(value) > longest or not _PRINTABLE.fullmatch(value):
            raise invalid(f"{name} must be at most {longest} visible ASCII characters")
    return {**passed, FORWARDED_API: api}


def to_caller(answered: Mapping[str, str], variant: str) -> dict[str, str]:
    """What of the container's headers the caller gets, and the platform's own. Names of ``answered`` in lower case."""
    return {**{name: answered[name] for name in TO_CALLER if name in answered}, VARIANT: variant}
