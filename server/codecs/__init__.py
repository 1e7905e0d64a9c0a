"""The codecs: bytes to tensors and back. One file each, one row in the table, one contract suite for all.

Every codec checks names, dtypes, shapes and values against the model's spec, per request, before anything is shared
with another request; every refusal is a ``MalformedInput``, ``UnprocessableInput`` or ``NotAcceptable`` that says
what was wrong, where, and what was expected.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from ..request import Head, Headers, Payload
from ..tensors import Array, ModelSpec

Encoded = tuple[bytes, bytes, Headers]
"""Body, content type, and further headers (usually none)."""


class Codec(Protocol):
    """One format. Stateless: the same instance serves every request."""

    media_types: tuple[str, ...]
    """What it reads and writes, lower case, without parameters; the first is what it writes by default."""

    def decode(self, body: bytes, head: Head, parameters: Mapping[str, str], spec: ModelSpec) -> Payload:
        """Read a body. ``parameters`` are those of the media type (``charset``, ``json-header-size``).

        Raises MalformedInput (400) or UnprocessableInput (422).
        """
        ...

    def encode(self, outputs: Sequence[Array], payload: Payload, spec: ModelSpec, name: str, version: str) -> Encoded:
        """Write the outputs, given in the order of ``spec.outputs`` (all of them; ``payload.wanted`` selects), for the
        request that ``payload`` came from, which may have been read by another codec.

        Raises NotAcceptable when this format cannot hold these outputs.
        """
        ...
