"""Cloud events: the request in either form, a response of the same form, and refusals that name the attribute."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import orjson
import pytest

from server.codecs import Encoded
from server.codecs.cloud_events import CloudEvents, is_event
from server.codecs.v1 import V1Json
from server.errors import MalformedInput, SlipwayError, UnsupportedMedia
from server.request import Head, Headers, Payload
from server.tensors import BY_NAME, ModelSpec, TensorSpec

CODEC = CloudEvents(V1Json())
SPEC = ModelSpec((TensorSpec("x", BY_NAME["FP32"], (-1, 2)),), (TensorSpec("y", BY_NAME["FP32"], (-1, 2)),))
ROWS = {"instances": [[1.0, 2.0]]}
ATTRIBUTES = {"specversion": "1.0", "id": "7", "source": "here", "type": "test"}
STRUCTURED: Headers = [(b"content-type", b"application/cloudevents+json; charset=UTF-8")]
BINARY: Headers = [(b"ce-" + name.encode(), value.encode()) for name, value in ATTRIBUTES.items()]
LITERALS = base64.b64encode(b'{"instances": [[1, NaN]]}').decode()


def decode(document: Any, headers: Headers) -> Payload:
    assert any(is_event(*one) for one in headers)
    return CODEC.decode(orjson.dumps(document), Head(b"POST", b"/", headers), {}, SPEC)


def answer(payload: Payload) -> Encoded:
    return CODEC.encode([np.array([[3, np.nan]], np.float32)], payload, SPEC, "m", "1")


@pytest.mark.parametrize(
    "event", [ATTRIBUTES | {"data": ROWS}, ATTRIBUTES | {"data_base64": base64.b64encode(orjson.dumps(ROWS)).decode()}]
)
def test_a_structured_event_is_answered_with_one(event: dict[str, Any]) -> None:
    payload = decode(event, STRUCTURED)
    assert payload.arrays[0].tolist() == [[1, 2]]
    body, media, headers = answer(payload)
    reply = orjson.loads(body)
    assert (media, headers) == (b"application/cloudevents+json", [])
    assert reply["data"] == {"predictions": [[3, None]]}
    assert (reply["specversion"], reply["type"]) == ("1.0", "io.kserve.inference.response")
    assert (reply["source"], reply["datacontenttype"]) == ("io.kserve.inference.m", "application/json")
    assert reply["id"] != orjson.loads(answer(payload)[0])["id"]


def test_a_binary_event_is_answered_with_one() -> None:
    payload = decode(ROWS, [*BINARY, (b"content-type", b"application/json")])
    assert payload.arrays[0].tolist() == [[1, 2]]
    body, media, headers = CODEC.encode([payload.arrays[0]], payload, SPEC, "größe 1", "1")
    assert (orjson.loads(body), media) == ({"predictions": [[1, 2]]}, b"application/json")
    assert dict(headers)[b"ce-source"] == b"io.kserve.inference.gr%C3%B6%C3%9Fe%201"
    assert {name for name, _ in headers} == {b"ce-specversion", b"ce-id", b"ce-source", b"ce-type", b"ce-time"}


@pytest.mark.parametrize(
    ("document", "headers", "kind", "word"),
    [
        ([1], STRUCTURED, MalformedInput, "JSON object"),
        ({"data": ROWS}, STRUCTURED, MalformedInput, '"specversion"'),
        (ATTRIBUTES | {"id": 7, "data": ROWS}, STRUCTURED, MalformedInput, '"id"'),
        (ATTRIBUTES | {"specversion": "0.3", "data": ROWS}, STRUCTURED, MalformedInput, "0.3"),
        (ATTRIBUTES, STRUCTURED, MalformedInput, '"data"'),
        (ATTRIBUTES | {"data": None}, STRUCTURED, MalformedInput, "instances"),
        (ATTRIBUTES | {"data_base64": "?"}, STRUCTURED, MalformedInput, "data_base64"),
        (ATTRIBUTES | {"data_base64": LITERALS}, STRUCTURED, SlipwayError, "NaN"),
        (ROWS, BINARY[:3], MalformedInput, '"type"'),
        ([], [(b"content-type", b"application/cloudevents-batch+json")], UnsupportedMedia, "one event"),
    ],
)
def test_what_is_no_event_of_one_request_is_refused(
    document: Any, headers: Headers, kind: type[SlipwayError], word: str
) -> None:
    with pytest.raises(kind, match=word):
        decode(document, headers)
