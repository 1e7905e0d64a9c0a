"""The capture record: one request and its response as a line of JSON, in SageMaker's data capture format."""

from __future__ import annotations

import base64
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import orjson

from ...content_encoding import expand, is_compressed
from ...errors import SlipwayError
from .redaction import NotRedactable, Redaction

Pairs = list[tuple[bytes, bytes]]
Taken = tuple[int, str, str, Pairs, bytes, bytes, bytes, Pairs]
"""Time (Unix epoch, nanoseconds), model, version, request headers, request body, media type of the response, response
body, response headers. Plain values, which ``marshal`` can carry."""

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
BINARY_TENSORS = b"application/vnd.sagemaker-triton.binary+json;json-header-size="
"""The media type that SageMaker gives to Open Inference bodies with binary tensors. Over HTTP a header has the size."""

INFERENCE_ID = b"x-amzn-sagemaker-inference-id"
CUSTOM_ATTRIBUTES = b"x-amzn-sagemaker-custom-attributes"
HEADER_LENGTH = b"inference-header-content-length"
CONTENT_ENCODING = b"content-encoding"
LONGEST_FIELD = 1_024
IDS_AT_ONCE = 1 << 16
NO_FIELDS: dict[bytes, bytes] = {}


@dataclass(slots=True)
class Encoder:
    """Makes the lines. ``withheld`` counts bodies that were left out because they could not be redacted or expanded."""

    mode: str = "both"
    """``input``, ``output`` or ``both``."""
    redaction: Redaction = field(default_factory=Redaction)
    max_body_bytes: int = 1_000_000
    """Largest expanded body; a compressed body beyond it is left out."""
    withheld: int = 0
    _ids: Iterator[str] = field(default_factory=lambda: new_ids())

    def line(self, taken: Taken) -> bytes:
        """One record as JSON with a line break."""
        time_ns, _, version, asked, body, content_type, answer, told = taken
        given, sides = dict(asked), {}
        if self.mode != "output":
            sides["endpointInput"] = self._side("INPUT", given.get(b"content-type", b""), given, body)
        if self.mode != "input":
            sides["endpointOutput"] = self._side("OUTPUT", content_type, dict(told) if told else NO_FIELDS, answer)
        event: dict[str, Any] = {"eventId": next(self._ids)}
        attributes, identity = given.get(CUSTOM_ATTRIBUTES), given.get(INFERENCE_ID)
        if attributes:
            event["customAttributes"] = [_text(attributes)]
        if identity:
            event["inferenceId"] = _text(identity)
        event["inferenceTime"] = timestamp(time_ns // 1_000_000_000)
        if version:
            event["modelVersion"] = version
        document = {"captureData": sides, "eventMetadata": event, "eventVersion": "0"}
        return orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE)

    def _side(self, mode: str, content_type: bytes, headers: dict[bytes, bytes], sent: bytes) -> dict[str, str]:
        """``endpointInput`` or ``endpointOutput``. A body that cannot be expanded or redacted has empty data."""
        body: bytes | None = sent
        if CONTENT_ENCODING in headers:
            body = self._expanded(sent, headers[CONTENT_ENCODING])
        length, size = headers.get(HEADER_LENGTH), None
        if length is not None and length.isdigit() and len(length) < 12:
            size = int(length)
            content_type = BINARY_TENSORS + length
        observed, encoding = _observed(content_type)
        if body is not None and self.redaction.active:
            try:
                body = self.redaction.apply(body, encoding, size, is_input=mode == "INPUT")
            except NotRedactable:
                body = None
        if body is None:
            self.withheld += 1
            body = b""
        try:
            data = body.decode() if encoding != "BASE64" else ""
        except UnicodeDecodeError:
            encoding = "BASE64"
        if encoding == "BASE64":
            data = base64.b64encode(body).decode()
        return {"observedContentType": observed, "mode": mode, "data": data, "encoding": encoding}

    def _expanded(self, body: bytes, coding: bytes) -> bytes | None:
        """The plain body; None if it cannot be expanded within the limit."""
        if not is_compressed(coding):
            return body
        try:
            return expand(body, coding, self.max_body_bytes)
        except SlipwayError:
            return None


def new_ids() -> Iterator[str]:
    """UUIDs of version 4, at a fraction of the time of ``uuid.uuid4``: many differ only in their last digits."""
    while True:
        digits = os.urandom(10).hex()
        variant = "89ab"[int(digits[18], 16) & 3]
        first = f"{digits[:8]}-{digits[8:12]}-4{digits[12:15]}-{variant}{digits[15:18]}-"
        for number in range(IDS_AT_ONCE):
            yield f"{first}{number:012x}"


@lru_cache(maxsize=8)
def timestamp(time_s: int) -> str:
    """Seconds of the Unix epoch in ISO 8601, UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time_s))


@lru_cache(maxsize=256)
def _observed(content_type: bytes) -> tuple[str, str]:
    """A media type as text, and the encoding of its bodies."""
    observed = _text(content_type)
    return observed, encoding_of(observed)


def encoding_of(content_type: str) -> str:
    """``JSON``, ``CSV`` or ``BASE64``, by the media type."""
    media = content_type.partition(";")[0].strip().lower()
    if media in CSV_TYPES:
        return "CSV"
    plain = media in JSON_TYPES or (media.endswith("+json") and "binary" not in media)
    return "JSON" if plain else "BASE64"


def _text(value: bytes) -> str:
    return value[:LONGEST_FIELD].decode("latin-1")
