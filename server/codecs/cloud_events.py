"""Cloud events (specification 1.0) around the V1 protocol's JSON, as KServe's servers take them.

A binary event has its attributes in headers ``ce-...`` and the request as the body; a structured one is a JSON object
with its attributes and the request as ``data``. The response is an event of the same form.
"""

from __future__ import annotations

import binascii
import datetime
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from ..errors import MalformedInput, UnsupportedMedia
from ..request import Head, Headers, Payload
from ..tensors import Array, ModelSpec
from . import Encoded, body_bytes
from .json_documents import parse
from .nested import shown
from .v1 import V1Json

MARK = b"ce-specversion"
"""The header that every binary event has."""
FAMILY = b"application/cloudevents"
STRUCTURED = b"application/cloudevents+json"
TYPE, SOURCE = "io.kserve.inference.response", "io.kserve.inference."
ATTRIBUTES = ("specversion", "id", "source", "type")
"""Those that every event has."""

_KIND = b"content-type"


class CloudEvents:
    """Reads events of any Content-Type but another event format's."""

    media_types: tuple[str, ...] = (STRUCTURED.decode(),)
    interpreted = True
    expanded_bytes = staticmethod(body_bytes)

    def __init__(self, json: V1Json) -> None:
        self._json = json

    def decode(self, body: bytes, head: Head, parameters: Mapping[str, str], spec: ModelSpec) -> Payload:
        """Read the request in an event. Raises MalformedInput, UnprocessableInput or UnsupportedMedia."""
        kind = (head.get(_KIND) or b"").partition(b";")[0].strip().lower()
        structured = kind.startswith(FAMILY)
        if structured and kind != STRUCTURED:
            raise UnsupportedMedia(
                f"{kind.decode('latin-1')[:60]} is not read; send one event as {STRUCTURED.decode()}"
            )
        if structured:
            event, literals = parse(body)
            if type(event) is not dict:
                raise MalformedInput(f"a structured cloud event is a JSON object, got {shown(event)}")
            _check({name: event.get(name) for name in ATTRIBUTES})
            document, more = _data(event)
            payload = self._json.read(document, literals or more, spec)
        else:
            _check({name: _text(head.get(b"ce-" + name.encode())) for name in ATTRIBUTES})
            payload = self._json.decode(body, head, parameters, spec)
        payload.notes = structured
        return payload

    def encode(self, outputs: Sequence[Array], payload: Payload, spec: ModelSpec, name: str, version: str) -> Encoded:
        """Write the response of V1 as an event of the request's form."""
        body, content_type, headers = self._json.encode(outputs, payload, spec, name, version)
        attributes = {
            "specversion": "1.0",
            "id": str(uuid.uuid4()),
            "source": SOURCE + name,
            "type": TYPE,
            "time": datetime.datetime.now(datetime.UTC).isoformat(),
        }
        if payload.notes:
            event = {**attributes, "datacontenttype": content_type.decode(), "data": orjson.Fragment(body)}
            return orjson.dumps(event), STRUCTURED, headers
        own: Headers = [(b"ce-" + key.encode(), _header(value)) for key, value in attributes.items()]
        return body, content_type, [*headers, *own]


def is_event(name: bytes, value: bytes) -> bool:
    """Whether a header says that the request is a cloud event."""
    return name == MARK or (name == _KIND and value[: len(FAMILY)].lower() == FAMILY)


def _check(attributes: Mapping[str, Any]) -> None:
    for name, value in attributes.items():
        if type(value) is not str or not value:
            raise MalformedInput(f'a cloud event needs the attribute "{name}", a text; got {shown(value)}')
    if not attributes["specversion"].startswith("1."):
        raise MalformedInput(f'cloud events of version {shown(attributes["specversion"])} are not read; send "1.0"')


def _data(event: Mapping[str, Any]) -> tuple[Any, bool]:
    """The request in a structured event, and whether it holds the literals NaN or Infinity."""
    if "data" in event:
        return event["data"], False
    try:
        return parse(binascii.a2b_base64(event["data_base64"], strict_mode=True))
    except (KeyError, ValueError, TypeError) as error:
        raise MalformedInput('a cloud event needs "data", the request as JSON, or "data_base64", its text') from error


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("latin-1")


def _header(value: str) -> bytes:
    """A value as the specification writes it in a header: percent-encoded where it is not printable ASCII."""
    return b"".join(
        b"%c" % byte if 0x21 <= byte <= 0x7E and byte not in b'"%' else b"%%%02X" % byte for byte in value.encode()
    )
