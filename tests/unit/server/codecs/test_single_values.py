"""Bodies that are one value: texts and images as they are; and bytes that are no text, in every format that can."""

from __future__ import annotations

import base64
import io

import numpy as np
import orjson
import pytest

from server.codecs import Codec
from server.codecs.json import Json
from server.codecs.media import Negotiator
from server.codecs.numpy import Npy
from server.codecs.open_inference import OpenInference
from server.codecs.single_values import Bytes, Text
from server.errors import MalformedInput, NotAcceptable, SlipwayError, UnsupportedMedia
from server.request import Head, Payload
from server.tensors import BY_NAME, RAW_BYTES, ModelSpec, TensorSpec

VECTOR = TensorSpec("vector", BY_NAME["FP32"], (-1, 3))
TEXT = ModelSpec((TensorSpec("text", BY_NAME["BYTES"], (-1,)),), (VECTOR,))
COLUMN = ModelSpec((TensorSpec("text", BY_NAME["BYTES"], (-1, 1)),), (VECTOR,))
IMAGE = ModelSpec((TensorSpec("image", RAW_BYTES, (-1,)),), (TensorSpec("label", BY_NAME["BYTES"], (-1, 1)),))
NUMBERS = ModelSpec((VECTOR,), (VECTOR,))
PAIR = ModelSpec((TensorSpec("pair", BY_NAME["BYTES"], (-1, 2)),), (VECTOR,))
PICTURE = b"\x89PNG\r\n\xff\x00\xfe"


def decode(codec: Codec, body: bytes, spec: ModelSpec, headers: list[tuple[bytes, bytes]] | None = None) -> Payload:
    return codec.decode(body, Head(b"POST", b"/", headers or []), {}, spec)


def test_a_text_is_the_whole_body_with_its_lines() -> None:
    payload = decode(Text(), "zwei\nZeilen ü\n".encode(), TEXT)
    assert (payload.arrays[0].tolist(), payload.rows) == (["zwei\nZeilen ü\n"], 1)
    assert decode(Text(), b"x", COLUMN).arrays[0].tolist() == [["x"]]


@pytest.mark.parametrize(
    ("codec", "body", "spec", "error"),
    [
        (Text(), b"\xff", TEXT, MalformedInput),
        (Text(), b"", TEXT, MalformedInput),
        (Text(), b"1", NUMBERS, UnsupportedMedia),
        (Text(), b"1", PAIR, UnsupportedMedia),
        (Bytes(), b"", IMAGE, MalformedInput),
        (Bytes(), b"\xff", TEXT, MalformedInput),
        (Bytes(), b"1", NUMBERS, UnsupportedMedia),
    ],
)
def test_what_is_not_one_value_for_this_model_is_refused(
    codec: Codec, body: bytes, spec: ModelSpec, error: type[SlipwayError]
) -> None:
    with pytest.raises(error):
        decode(codec, body, spec)


def test_another_charset_than_utf8_is_refused() -> None:
    with pytest.raises(MalformedInput, match="latin-1"):
        Text().decode(b"x", Head(b"POST", b"/", []), {"charset": "latin-1"}, TEXT)


def npy() -> bytes:
    file = io.BytesIO()
    np.save(file, np.array([PICTURE]))
    return file.getvalue()


OIP_HEAD = orjson.dumps(
    {"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": 13}}]}
)
PACKED = {"b64": base64.b64encode(PICTURE).decode()}


@pytest.mark.parametrize(
    ("codec", "body", "headers"),
    [
        pytest.param(Bytes(), PICTURE, [], id="raw"),
        pytest.param(Npy(), npy(), [], id="npy"),
        pytest.param(
            OpenInference(),
            OIP_HEAD + len(PICTURE).to_bytes(4, "little") + PICTURE,
            [(b"inference-header-content-length", str(len(OIP_HEAD)).encode())],
            id="open inference, binary",
        ),
        pytest.param(OpenInference(), PICTURE, [(b"inference-header-content-length", b"0")], id="open inference, raw"),
        pytest.param(Json(), orjson.dumps({"instances": [PACKED]}), [], id="instances"),
        pytest.param(Json(), orjson.dumps({"instances": [{"image": PACKED}]}), [], id="named instances"),
        pytest.param(Json(), orjson.dumps({"inputs": [PACKED]}), [], id="inputs"),
        pytest.param(Json(), orjson.dumps({"inputs": PACKED}), [], id="one input"),
        pytest.param(Json(), orjson.dumps({"image": PACKED}), [], id="by its name"),
    ],
)
def test_bytes_that_are_not_text_survive(codec: Codec, body: bytes, headers: list[tuple[bytes, bytes]]) -> None:
    payload = decode(codec, body, IMAGE, headers)
    assert (payload.arrays[0].tolist(), payload.rows) == ([PICTURE], 1)


@pytest.mark.parametrize("value", [{"b64": "?"}, {"b64": 3}, {"b64": "AA==", "x": 1}, 3, None])
def test_what_is_no_base64_is_malformed(value: object) -> None:
    with pytest.raises(MalformedInput):
        decode(Json(), orjson.dumps({"instances": [value, value]}), IMAGE)


def test_base64_is_not_read_for_texts() -> None:
    with pytest.raises(MalformedInput):
        decode(Json(), orjson.dumps({"instances": [PACKED]}), TEXT)


@pytest.mark.parametrize("body", ['{"inputs":"a"}', '{"text":"a"}', '{"text":["a"]}', '{"instances":["a"]}', '["a"]'])
def test_every_way_to_say_one_text_in_json(body: str) -> None:
    assert decode(Json(), body.encode(), TEXT).arrays[0].tolist() == ["a"]


def test_one_text_and_one_value_are_answered_as_they_are() -> None:
    payload = decode(Bytes(), PICTURE, IMAGE)
    label = [np.array([["cat"]], object)]
    assert Text().encode(label, payload, IMAGE, "m", "1")[0] == b"cat"
    assert Bytes().encode([np.array([[PICTURE]], object)], payload, IMAGE, "m", "1")[0] == PICTURE
    for outputs in ([np.zeros((1, 3), np.float32)], [np.array(["a", "b"], object)], label * 2):
        with pytest.raises(NotAcceptable):
            Text().encode(outputs, payload, IMAGE, "m", "1")


def test_images_are_read_and_not_written() -> None:
    negotiator = Negotiator()
    assert isinstance(negotiator.negotiate(b"image/jpeg", None).reader, Bytes)
    with pytest.raises(NotAcceptable):
        negotiator.negotiate(b"image/jpeg", b"image/jpeg")
