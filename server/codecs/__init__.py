"""The codecs: from bytes to tensors and back. Each codec has one file, one row in the table, and one contract suite.

A codec checks names, dtypes, shapes and values of every request against the model's spec, before the request shares a
batch with others. A refusal is MalformedInput, UnprocessableInput or NotAcceptable; it says what was wrong, where, and
what was expected.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from ..request import Head, Headers, Payload
from ..tensors import Array, ModelSpec

Encoded = tuple[bytes, bytes, Headers]
"""Body, content type, and further headers (usually none)."""


class Writer(Protocol):
    """One format of responses. A writer has no state; one instance serves all requests."""

    interpreted: bool
    """Whether values are handled one at a time, in the interpreter. Else whole arrays are copied."""

    def encode(self, outputs: Sequence[Array], payload: Payload, spec: ModelSpec, name: str, version: str) -> Encoded:
        """Write all outputs, in the order of ``spec.outputs``; ``payload.wanted`` selects some of them.

        ``payload`` is the decoded request; another codec may have read it. Raises NotAcceptable if the format cannot
        hold these outputs.
        """
        ...


class Codec(Writer, Protocol):
    """One format of requests and responses."""

    media_types: tuple[str, ...]
    """The media types that it reads and writes, lower case, without parameters; it writes the first one by default."""

    def expanded_bytes(self, body: bytes, spec: ModelSpec) -> int:
        """An estimate of the bytes that decoding handles: more than the body's for a compressed or sparse format."""
        ...

    def decode(self, body: bytes, head: Head, parameters: Mapping[str, str], spec: ModelSpec) -> Payload:
        """Read a body. ``parameters`` are those of the media type (``charset``, ``json-header-size``).

        Raises MalformedInput (400) or UnprocessableInput (422).
        """
        ...


def body_bytes(body: bytes, spec: ModelSpec) -> int:  # noqa: ARG001 - as a codec's ``expanded_bytes``
    """The bytes of a body whose format neither compresses nor leaves values out."""
    return len(body)
