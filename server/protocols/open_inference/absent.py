"""The absent extensions of the protocol: URLs of Triton that this server does not serve, and why."""

from __future__ import annotations

import re

_MODEL = r"/v2/models/[^/]+(/versions/[^/]+)?"
_ABSENT = tuple(
    (re.compile(pattern), sentence)
    for pattern, sentence in (
        (r"/v2/(system|cuda)sharedmemory(/.*)?", "shared memory is not supported; send tensors in the body"),
        (rf"(/v2|{_MODEL})/trace(/.*)?", "trace settings are not supported; the header X-Slipway-Timing gives times"),
        (r"/v2/logging", "log settings cannot be changed while the server runs; start it with --log-level"),
        (rf"{_MODEL}/generate(_stream)?", "the generate extension is not supported; use the route /infer"),
    )
)


def absent(path: str) -> str:
    """The sentence for a URL of an extension that is not there; empty for every other URL."""
    return next((sentence for pattern, sentence in _ABSENT if pattern.fullmatch(path)), "")
