"""The capture record: one request and its response as a line of JSON, in SageMaker's data capture format."""

from __future__ import annotations

import base64
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache

import orjson

from ...content_encoding import expand, is_compressed
from ...errors import SlipwayError
from .redaction import NotRedactable, Redaction

Pairs = list[tuple[bytes, bytes]]
Taken = tuple[int, bytes, bytes, Pairs, bytes, bytes, bytes, Pairs]
"""Time (Unix epoch, nanoseconds), model, version (empty if unknown), request headers, request body, media type of the
response, response body, response headers. Plain values, which ``marshal`` can carry; names are UTF-8."""

JSON_TYPES = frozenset(
    (
        "application/json",
        "application/jsonlines",
        "application/jsonl",
        "application/x-jsonlines",
        "application/x-ndjson",
    )
)
CSV_TYPES = frozenset(("text/csv", "application/csv"))
BINARY_TENSORS = "application/vnd.sagemaker-triton.binary+json;json-header-size="
"""The media type that SageMaker gives to Open Inference bodies with binary tensors. Over HTTP a header has the size."""

INFERENCE_ID = b"x-amzn-sagemaker-inference-id"
CUSTOM_ATTRIBUTES = b"x-amzn-sagemaker-custom-attributes"
HEADER_LENGTH = b"inference-header-content-length"
CONTENT_ENCODING = b"content-encoding"
LONGEST_FIELD = 1_024
IDS_AT_ONCE = 256
LINE = b'{"captureData":{%b},"eventMetadata":{"eventId":"%b"%b,"inferenceTime":"%b"%b},"eventVersion":"0"}\n'
"""The sides, the id, further members, the time, and the version. Every line has this form, so it is no document."""


@dataclass(slots=True)
class Encoder:
    """Makes the lines. ``withheld`` counts bodies that were left out because they could not be redacted or expanded."""

    mode: str = "both"
    """``input``, ``output`` or ``both``."""
    redaction: Redaction = field(default_factory=Redaction)
    max_body_bytes: int = 1_000_000
    """Largest expanded body; a compressed body beyond it is left out."""
    withheld: int = 0
    _ids: Iterator[bytes] = field(default_factory=lambda: new_ids())

    def line(self, taken: Taken) -> bytes:
        """One record as JSON with a line break."""
        time_ns, _, version, asked, body, content_type, answer, told = taken
        given = dict(asked)
        sides = []
        if self.mode != "output":
            sent = given.get(b"content-type", b"")
            sides.append(self._side("INPUT", sent, given, self._expanded(body, given)))
        if self.mode != "input":
            fields = dict(told)
            sides.append(self._side("OUTPUT", content_type, fields, self._expanded(answer, fields)))
        known = b""
        attributes, identity = given.get(CUSTOM_ATTRIBUTES), given.get(INFERENCE_ID)
        if attributes:
            known += b',"customAttributes":[%b]' % _quoted(_text(attributes))
        if identity:
            known += b',"inferenceId":' + _quoted(_text(identity))
        time_s = timestamp(time_ns // 1_000_000_000)
        names = b',"modelVersion":' + _quoted(version.decode()) if version else b""
        return LINE % (b",".join(sides), next(self._ids), known, time_s, names)

    def _side(self, mode: str, content_type: bytes, headers: dict[bytes, bytes], body: bytes | None) -> bytes:
        """``endpointInput`` or ``endpointOutput``. A body of None, or one that cannot be redacted, has empty data."""
        observed = _text(content_type)
        length = headers.get(HEADER_LENGTH, b"")
        size = int(length) if length.isdigit() and len(length) < 12 else None
        if size is not None:
            observed = f"{BINARY_TENSORS}{size}"
        encoding, opening = _opening(mode, observed)
        if body is not None and self.redaction.active:
            try:
                body = self.redaction.apply(body, encoding, size, is_input=mode == "INPUT")
            except NotRedactable:
                body = None
        if body is None:
            self.withheld += 1
            body = b""
        if encoding != "BASE64":
            try:
                return b'%b%b,"encoding":"%b"}' % (opening, _quoted(body.decode()), encoding.encode())
            except UnicodeDecodeError:
                pass
        return b'%b"%b","encoding":"BASE64"}' % (opening, base64.b64encode(body))

    def _expanded(self, body: bytes, headers: dict[bytes, bytes]) -> bytes | None:
        """The plain body; None if it cannot be expanded within the limit."""
        coding = headers.get(CONTENT_ENCODING)
        if coding is None or not is_compressed(coding):
            return body
        try:
            return expand(body, coding, self.max_body_bytes)
        except SlipwayError:
            return None


def new_ids() -> Iterator[bytes]:
    """Random UUIDs of version 4, at a fraction of the time of ``uuid.uuid4``."""
    while True:
        digits = os.urandom(16 * IDS_AT_ONCE).hex()
        for at in range(0, len(digits), 32):
            one = digits[at : at + 32]
            variant = "89ab"[int(one[16], 16) & 3]
            yield f"{one[:8]}-{one[8:12]}-4{one[13:16]}-{variant}{one[17:20]}-{one[20:]}".encode()


@lru_cache(maxsize=8)
def timestamp(time_s: int) -> bytes:
    """Seconds of the Unix epoch in ISO 8601, UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time_s)).encode()


@lru_cache(maxsize=256)
def _opening(mode: str, observed: str) -> tuple[str, bytes]:
    """The encoding of a body of an observed media type, and the JSON before its data."""
    name = b"endpointInput" if mode == "INPUT" else b"endpointOutput"
    media = _quoted(observed)
    return encoding_of(observed), b'"%b":{"observedContentType":%b,"mode":"%b","data":' % (name, media, mode.encode())


def encoding_of(content_type: str) -> str:
    """``JSON``, ``CSV`` or ``BASE64``, by the media type."""
    media = content_type.partition(";")[0].strip().lower()
    if media in CSV_TYPES:
        return "CSV"
    plain = media in JSON_TYPES or (media.endswith("+json") and "binary" not in media)
    return "JSON" if plain else "BASE64"


def _text(value: bytes) -> str:
    return value[:LONGEST_FIELD].decode("latin-1")


_quoted = orjson.dumps
"""A text as JSON."""
