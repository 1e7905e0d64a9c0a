"""Capture records: SageMaker's fields and encodings, and redaction that leaves out what it cannot find."""

from __future__ import annotations

import base64
import gzip
import json
import re
import zlib
from itertools import islice
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.observe.capture.record import Encoder, Taken, encoding_of, new_ids
from server.observe.capture.redaction import redaction_of

TIME_NS = 1_769_860_800_123_456_789
JSON = b"application/json"


def taken(body: bytes, content_type: bytes = JSON, answer: bytes = b'{"predictions":[1]}', **headers: str) -> Taken:
    asked = [(b"content-type", content_type)]
    asked += [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return TIME_NS, "digits", "3", asked, body, JSON, answer, []


def record(one: Taken, encoder: Encoder | None = None) -> Any:
    line = (encoder or Encoder()).line(one)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    return json.loads(line)


def test_a_record_has_the_fields_of_the_format() -> None:
    body = b"1,2\n3,4\n"
    sent = taken(body, b"text/csv", x_amzn_sagemaker_inference_id="me-1", x_amzn_sagemaker_custom_attributes="a=b")
    document = record(sent)
    event_id = document["eventMetadata"].pop("eventId")
    assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", event_id)
    assert document == {
        "captureData": {
            "endpointInput": {
                "observedContentType": "text/csv", "mode": "INPUT", "data": body.decode(), "encoding": "CSV"
            },
            "endpointOutput": {
                "observedContentType": "application/json", "mode": "OUTPUT", "data": '{"predictions":[1]}',
                "encoding": "JSON",
            },
        },
        "eventMetadata": {
            "customAttributes": ["a=b"], "inferenceId": "me-1", "inferenceTime": "2026-01-31T12:00:00Z",
            "modelVersion": "3",
        },
        "eventVersion": "0",
    }  # fmt: skip


def test_ids_differ() -> None:
    assert len(set(islice(new_ids(), 1_000))) == 1_000


@pytest.mark.parametrize(("mode", "sides"), [("input", ["endpointInput"]), ("output", ["endpointOutput"])])
def test_one_side_only(mode: str, sides: list[str]) -> None:
    assert list(record(taken(b"{}"), Encoder(mode))["captureData"]) == sides


@pytest.mark.parametrize(
    ("content_type", "encoding"),
    [
        ("text/csv; charset=utf-8", "CSV"),
        ("Application/JSON", "JSON"),
        ("application/jsonlines", "JSON"),
        ("application/vnd.api+json", "JSON"),
        ("application/x-npy", "BASE64"),
        ("application/vnd.sagemaker-triton.binary+json;json-header-size=3", "BASE64"),
        ("", "BASE64"),
    ],
)
def test_encodings(content_type: str, encoding: str) -> None:
    assert encoding_of(content_type) == encoding


def test_bytes_that_are_no_text_are_base64_whatever_their_type_says() -> None:
    side = record(taken(b"\xff\x00"))["captureData"]["endpointInput"]
    assert side["encoding"] == "BASE64"
    assert base64.b64decode(side["data"]) == b"\xff\x00"


def test_binary_tensors_get_the_platform_s_media_type() -> None:
    one = taken(b'{"a":1}\x00\x01', b"application/octet-stream", inference_header_content_length="7")
    side = record(one)["captureData"]["endpointInput"]
    assert side["observedContentType"] == "application/vnd.sagemaker-triton.binary+json;json-header-size=7"
    assert side["encoding"] == "BASE64"


@pytest.mark.parametrize("coding", ["gzip", "deflate", "raw deflate"])
def test_compressed_bodies_are_captured_expanded(coding: str) -> None:
    raw = zlib.compressobj(wbits=-15)
    plain = b'{"instances":[[1]]}'
    body = {
        "gzip": gzip.compress(plain),
        "deflate": zlib.compress(plain),
        "raw deflate": raw.compress(plain) + raw.flush(),
    }[coding]
    side = record(taken(body, content_encoding=coding.split()[-1]))["captureData"]["endpointInput"]
    assert side["data"] == plain.decode()


@pytest.mark.parametrize(
    "body",
    [b"no gzip", gzip.compress(bytes(5_000), mtime=0), gzip.compress(b"[]", mtime=0)[:-9]],
    ids=["another format", "too large", "cut off"],
)
def test_a_body_that_expands_beyond_the_limit_or_not_at_all_is_withheld(body: bytes) -> None:
    encoder = Encoder(max_body_bytes=1_000)
    assert record(taken(body, content_encoding="gzip"), encoder)["captureData"]["endpointInput"]["data"] == ""
    assert encoder.withheld == 1


def redacted(text: str, body: bytes, content_type: bytes = JSON, **headers: str) -> tuple[str, int]:
    """The captured input, and how many bodies were withheld."""
    encoder = Encoder("input", redaction_of(text))
    side = record(taken(body, content_type, b"{}", **headers), encoder)["captureData"]["endpointInput"]
    data = side["data"]
    return (base64.b64decode(data).decode("latin-1") if side["encoding"] == "BASE64" else data), encoder.withheld


SECRET = "s3cret"


@pytest.mark.parametrize(
    ("fields", "body", "content_type"),
    [
        ("name", b'{"instances":[{"name":"s3cret","age":4}]}', JSON),
        ("name", b'{"deep":{"er":[{"name":{"first":"s3cret"}}]}}', JSON),
        ("name", b'{"inputs":{"name":["s3cret"],"age":[4]}}', JSON),
        ("name", b'{"inputs":[{"name":"name","shape":[1],"datatype":"BYTES","data":["s3cret"]}]}', JSON),
        ("name", b'{"dataframe_split":{"columns":["name","age"],"data":[["s3cret",4]]}}', JSON),
        ("name", b'{"columns":["age","name"],"data":[[4,"s3cret"]]}', JSON),
        ("name", b'{"inputs":{"columns":["age","name"],"data":[[4,"s3cret"]]}}', JSON),
        ("0", b'{"dataframe_split":{"columns":["name"],"data":["s3cret"]}}', JSON),
        ("name", b'{"dataframe_records":[{"name":"s3cret"}]}', JSON),
        ("instances", b'{"instances":["s3cret"]}', JSON),
        ("1", b'{"instances":[[4,"s3cret"]]}', JSON),
        ("1", b'[[4,"s3cret"]]', JSON),
        ("0", b'{"instances":["s3cret"]}', JSON),
        ("name", b'{"name":"s3cret"}\n{"name":"s3cret","age":4}\n', b"application/jsonlines"),
        ("1", b'[4,"s3cret"]\n[5,"s3cret"]\n', b"application/jsonlines"),
        ("1", b'4,"s3cret"\n5,s3cret\n', b"text/csv"),
        ("name", b"age,name\n4,s3cret\n", b"text/csv"),
        # What cannot be found for sure is withheld.
        ("name", b'{"instances":[["s3cret"]]}', JSON),
        ("name", b'["s3cret"]', JSON),
        ("name", b"s3cret,4\n", b"text/csv"),
        ("name", b"s3cret", b"text/plain"),
        ("name", b"{s3cret", JSON),
        ("name", b"[" * 5_000 + b'"s3cret"' + b"]" * 5_000, JSON),
    ],
)
def test_redacted_fields_leave_no_trace(fields: str, body: bytes, content_type: bytes) -> None:
    data, _ = redacted(fields, body, content_type)
    assert SECRET not in data


SHAPES = st.recursive(
    st.integers() | st.none() | st.just("plain"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["instances", "inputs", "data", "a", "outputs"]), inner, max_size=3)
        | st.fixed_dictionaries({"name": st.just(SECRET) | st.lists(st.just(SECRET), max_size=2), "a": inner})
        | st.fixed_dictionaries({"name": st.just("name"), "datatype": st.just("BYTES"), "data": st.just([SECRET])})
        | st.fixed_dictionaries({"columns": st.just(["a", "name"]), "data": st.lists(st.just([1, SECRET]), max_size=2)})
    ),
    max_leaves=12,
)


@given(SHAPES)
def test_no_shape_of_a_body_keeps_a_redacted_field(document: object) -> None:
    data, _ = redacted("name", json.dumps(document).encode())
    assert SECRET not in data


def test_what_is_not_named_stays() -> None:
    assert redacted("name", b'{"instances":[{"name":"x","age":4}]}') == ('{"instances":[{"name":null,"age":4}]}', 0)
    assert redacted("1", b"4,x\n5,y\n", b"text/csv") == ("4,\n5,\n", 0)
    assert redacted("name", b"age,name\n4,x\n", b"text/csv") == ("age,name\n4,\n", 0)


def test_binary_tensors_are_zeroed_by_name() -> None:
    header = json.dumps({
        "inputs": [
            {"name": "name", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": 10}},
            {"name": "age", "datatype": "UINT8", "shape": [1], "parameters": {"binary_data_size": 1}},
        ]
    }).encode()  # fmt: skip
    body = header + b"\x06\x00\x00\x00s3cret" + b"\x04"
    data, withheld = redacted(
        "name", body, b"application/octet-stream", inference_header_content_length=str(len(header))
    )
    assert SECRET not in data
    assert data.endswith("\x00" * 10 + "\x04")
    assert withheld == 0


def test_predictions_without_names_stay_where_only_inputs_have_positions() -> None:
    encoder = Encoder(redaction=redaction_of("name"))
    document = record(taken(b'{"instances":[{"name":"s3cret"}]}'), encoder)
    assert document["captureData"]["endpointOutput"]["data"] == '{"predictions":[1]}'
