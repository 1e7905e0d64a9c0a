"""Compressed responses: the encoding that a client accepts, and a body in it.

Only the routes under ``/v2`` compress. SageMaker's platform drops ``Content-Encoding`` from responses to /invocations.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable
from functools import partial

from ..codecs import Encoded
from ..request import Head

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

SMALLEST_BYTES = 4_096
"""Smaller bodies are sent as they are: compressing them costs more than it saves."""

ROOT = b"/v2/"
LEVEL = 1
"""The fastest. A response is compressed once and sent once."""

GZIP = 31
"""Window size of zlib for the header of gzip."""

ENCODERS: dict[bytes, Callable[[bytes], bytes]] = {
    b"zstd": partial(zstd.compress, level=LEVEL),
    b"gzip": partial(zlib.compress, level=LEVEL, wbits=GZIP),
    b"deflate": partial(zlib.compress, level=LEVEL),
}
"""From the one that is taken first where a client accepts several equally."""


def encoding_for(head: Head) -> bytes:
    """The encoding of a large response to this request, empty for none."""
    if not head.path.startswith(ROOT):
        return b""
    return accepted(b",".join(value for name, value in head.headers if name == b"accept-encoding"))


def accepted(header: bytes) -> bytes:
    """The encoding with the highest weight in an Accept-Encoding header, empty where the plain body is preferred.

    An entry that cannot be read counts as not there.
    """
    weights: dict[bytes, float] = {}
    for entry in header.lower().split(b","):
        name, *parameters = (part.strip() for part in entry.split(b";"))
        weights[b"gzip" if name == b"x-gzip" else name] = _weight(parameters)
    weights.setdefault(b"gzip", weights.get(b"*", 0.0))  # of all encodings the one that every client knows
    best = max(ENCODERS, key=lambda name: weights.get(name, 0.0))
    weight = weights.get(best, 0.0)
    return best if weight > 0 and weight >= weights.get(b"identity", 0.0) else b""


def compressed(encoded: Encoded, encoding: bytes) -> Encoded:
    """The response in this encoding; the plain one where it would not be smaller. Takes long for a large body."""
    body, content_type, headers = encoded
    small = ENCODERS[encoding](body)
    headers = [*headers, (b"vary", b"accept-encoding")]
    if len(small) >= len(body):
        return body, content_type, headers
    return small, content_type, [*headers, (b"content-encoding", encoding)]


def _weight(parameters: list[bytes]) -> float:
    """The weight of an entry: from 0 to 1, 1 without one, 0 where it is none."""
    for parameter in parameters:
        name, _, value = parameter.partition(b"=")
        if name.strip() == b"q":
            try:
                weight = float(value)
            except ValueError:
                return 0.0
            return weight if 0.0 <= weight <= 1.0 else 0.0
    return 1.0
