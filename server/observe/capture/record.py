"""The capture record: one request and its response as a line of JSON, in SageMaker's data capture format."""

from __future__ import annotations

import base64
import os
import time
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import orjson

from ...content_encoding import expand, is_compressed
from ...errors import SlipwayError
from .redaction import NotRedactable, Redaction

Pairs = list[tuple[bytes, bytes]]
Taken = tuple[int, str, str, Pairs, bytes, bytes, bytes, Pairs]
"""Time (Unix epoch, nanoseconds), model, version (empty if unknown), request headers, request body, media type of the
response, response body, response headers. Plain values, which ``marshal`` can carry."""

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


@dataclass(slots=True)
class Encoder:
    """Makes the lines. ``withheld`` counts bodies that were left out because they could not be redacted or expanded."""

    mode: str = "both"
    """``input``, ``output`` or ``both``."""
    redaction: Redaction = field(default_factory=Redaction)
    max_body_bytes: int = 1_000_000
    """Largest expanded body; a compressed body beyond it is left out."""
    withheld: int = 0

    def line(self, taken: Taken) -> bytes:
        """One record as JSON with a line break."""
        time_ns, _, version, asked, body, content_type, answer, told = taken
        given = dict(asked)
        data: dict[str, Any] = {}
        if self.mode != "output":
            sent = given.get(b"content-type", b"")
            data["endpointInput"] = self._side("INPUT", sent, given, self._expanded(body, given))
        if self.mode != "input":
            fields = dict(told)
            data["endpointOutput"] = self._side("OUTPUT", content_type, fields, self._expanded(answer, fields))
        event: dict[str, Any] = {"eventId": new_id()}
        attributes, identity = given.get(CUSTOM_ATTRIBUTES), given.get(INFERENCE_ID)
        if attributes:
            event["customAttributes"] = [_text(attributes)]
        if identity:
            event["inferenceId"] = _text(identity)
        event["inferenceTime"] = timestamp(time_ns // 1_000_000_000)
        if version:
            event["modelVersion"] = version
        document = {"captureData": data, "eventMetadata": event, "eventVersion": "0"}
        return orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE)

    def _side(self, mode: str, content_type: bytes, headers: dict[bytes, bytes], body: bytes | None) -> dict[str, str]:
        """``endpointInput`` or ``endpointOutput``. A body of None, or one that cannot be redacted, has empty data."""
        observed = _text(content_type)
        length = headers.get(HEADER_LENGTH, b"")
        size = int(length) if length.isdigit() and len(length) < 12 else None
        if size is not None:
            observed = f"{BINARY_TENSORS}{size}"
        encoding = encoding_of(observed)
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
                return {"observedContentType": observed, "mode": mode, "data": body.decode(), "encoding": encoding}
            except UnicodeDecodeError:
                pass
        data = base64.b64encode(body).decode("ascii")
        return {"observedContentType": observed, "mode": mode, "data": data, "encoding": "BASE64"}

    def _expanded(self, body: bytes, headers: dict[bytes, bytes]) -> bytes | None:
        """The plain body; None if it cannot be expanded within the limit."""
        coding = headers.get(CONTENT_ENCODING)
        if coding is None or not is_compressed(coding):
            return body
        try:
            return expand(body, coding, self.max_body_bytes)
        except SlipwayError:
            return None


def new_id() -> str:
    """A random UUID of version 4, at a fraction of the time of ``uuid.uuid4``."""
    digits = os.urandom(16).hex()
    variant = "89ab"[int(digits[16], 16) & 3]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"


@lru_cache(maxsize=8)
def timestamp(time_s: int) -> str:
    """Seconds of the Unix epoch in ISO 8601, UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time_s))


@lru_cache(maxsize=256)
def encoding_of(content_type: str) -> str:
    """``JSON``, ``CSV`` or ``BASE64``, by the media type."""
    media = content_type.partition(";")[0].strip().lower()
    if media in CSV_TYPES:
        return "CSV"
    plain = media in JSON_TYPES or (media.endswith("+json") and "binary" not in media)
    return "JSON" if plain else "BASE64"


def _text(value: bytes) -> str:
    return value[:LONGEST_FIELD].decode("latin-1")
