"""Captured events: one line of a capture file as the bodies of a request and its response.

Three formats: SageMaker's data capture (which the server writes too), KServe's payload log (CloudEvents in JSON, one
event for the request and one for the response), and lines of Open Inference requests or responses.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Any

import orjson

BINARY = "application/vnd.sagemaker-triton.binary+json"
KSERVE_TYPES = {"org.kubeflow.serving.inference.request": "INPUT", "org.kubeflow.serving.inference.response": "OUTPUT"}


class BadLine(Exception):
    """The line is no captured event. The message names the fault in a few words, the same for all such lines."""


@dataclass(slots=True)
class Body:
    """One body. ``encoding``: ``CSV``, ``JSON`` or ``BINARY`` (tensors behind ``header_size`` bytes of JSON)."""

    encoding: str
    data: Any
    """Text of CSV or JSON, bytes of BINARY, or a JSON document that was parsed already."""
    header_size: int = 0
    lines: bool = False
    """Whether JSON is lines of documents, by its media type."""


@dataclass(slots=True)
class Event:
    """A request, a response, or both, under the id that labels use."""

    identity: str
    asked: Body | None = None
    answered: Body | None = None
    label: Body | None = None


def parse(line: bytes) -> Event:
    """The event of a line. Raises BadLine."""
    try:
        document = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise BadLine("no JSON") from error
    if not isinstance(document, dict):
        raise BadLine("no object")
    captured = document.get("captureData")
    if captured is not None:
        return _captured(document, captured)
    if "groundTruthData" in document:
        return Event(_identity(document), label=_body(document["groundTruthData"]))
    side = KSERVE_TYPES.get(str(document.get("type")))
    if side is not None:
        return _cloud_event(document, side)
    if "inputs" in document or "outputs" in document:
        body = Body("JSON", document)
        identity = str(document.get("id") or "")
        return Event(identity, answered=body) if "outputs" in document else Event(identity, asked=body)
    raise BadLine("an unknown format")


def _captured(document: dict[str, Any], captured: Any) -> Event:
    if not isinstance(captured, dict):
        raise BadLine("captureData is no object")
    asked, answered = captured.get("endpointInput"), captured.get("endpointOutput")
    event = Event(_identity(document))
    if asked is not None:
        event.asked = _body(asked)
    if answered is not None:
        event.answered = _body(answered)
    return event


def _identity(document: dict[str, Any]) -> str:
    event = document.get("eventMetadata")
    if not isinstance(event, dict):
        return ""
    return str(event.get("inferenceId") or event.get("eventId") or "")


def _body(side: Any) -> Body | None:
    """A side of a captured event; None for empty data, which redaction leaves. Raises BadLine."""
    if not isinstance(side, dict) or not isinstance(side.get("data"), str):
        raise BadLine("a side without data")
    data, encoding = side["data"], side.get("encoding", "BASE64")
    if not data:
        return None
    content_type = str(side.get("observedContentType") or "")
    if encoding in ("CSV", "JSON"):
        return Body(encoding, data, lines=_is_lines(content_type))
    if encoding != "BASE64":
        raise BadLine("an unknown encoding")
    try:
        raw = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadLine("data is no base64") from error
    return _decoded(raw, content_type)


def _decoded(raw: bytes, content_type: str) -> Body:
    """The body behind base64, by its media type: the platform encodes CSV and JSON so too unless told otherwise."""
    media, _, parameters = content_type.partition(";")
    media = media.strip().lower()
    if media == BINARY:
        size = parameters.strip().removeprefix("json-header-size=")
        if not size.isdigit() or len(size) > 12:
            raise BadLine("binary tensors without the size of their header")
        return Body("BINARY", raw, int(size))
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise BadLine("a media type that is not read") from error
    if media == "text/csv":
        return Body("CSV", text)
    if media.startswith("application/") and "json" in media:
        return Body("JSON", text, lines=_is_lines(media))
    raise BadLine("a media type that is not read")


def _is_lines(content_type: str) -> bool:
    return "jsonl" in content_type or "ndjson" in content_type


def _cloud_event(document: dict[str, Any], side: str) -> Event:
    data = document.get("data")
    if data is None and isinstance(document.get("data_base64"), str):
        try:
            data = base64.b64decode(document["data_base64"], validate=True).decode()
        except (binascii.Error, ValueError) as error:
            raise BadLine("data is no base64") from error
    if data is None:
        raise BadLine("an event without data")
    body, identity = Body("JSON", data), str(document.get("id") or "")
    return Event(identity, asked=body) if side == "INPUT" else Event(identity, answered=body)
