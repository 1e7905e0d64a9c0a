"""Open Inference: golden bytes of both forms, the binary extension's rules, and complaints by input."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
import pytest

from server.codecs.json import Json
from server.codecs.open_inference import MEDIA_TYPE, OpenInference
from server.errors import MalformedInput, NotAcceptable, UnprocessableInput
from server.request import Head, Payload
from server.tensors import BF16, BY_NAME, RAW_BYTES, ModelSpec, TensorSpec, bfloat16_of_float32, float32_of_bfloat16


def tensor(name: str, dtype: str, *shape: int) -> TensorSpec:
    return TensorSpec(name, BY_NAME[dtype], shape)


SPEC = ModelSpec((tensor("x", "FP32", -1, 2),), (tensor("y", "FP32", -1, 2), tensor("s", "BYTES", -1)))
ROW: dict[str, Any] = {"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}
OUTPUTS = [np.array([[1, 2.5]], np.float32), np.array(["hé"], object)]


def decode(document: Any, blobs: bytes = b"", spec: ModelSpec = SPEC, length: bytes | None = None) -> Payload:
    text = document if isinstance(document, bytes) else orjson.dumps(document)
    given = str(len(text)).encode() if length is None and blobs else length
    headers = [] if given is None else [(b"inference-header-content-length", given)]
    return OpenInference().decode(text + blobs, Head(b"POST", b"/", headers), {}, spec)


def encode(payload: Payload, outputs: Any = OUTPUTS) -> Any:
    return OpenInference().encode(outputs, payload, SPEC, "m", "3")


def row(**changes: Any) -> dict[str, Any]:
    return {"inputs": [{key: value for key, value in {**ROW, **changes}.items() if value is not ...}]}


def test_golden_json_reply() -> None:
    payload = decode({"id": "42", "parameters": {"timeout": 5}, "model_name": "m", "inputs": [ROW]})
    assert payload.arrays[0].tolist() == [[1.0, 2.0]]
    assert payload.parameters == {"timeout": 5}
    body = (
        '{"model_name":"m","model_version":"3","id":"42","outputs":['
        '{"name":"y","datatype":"FP32","shape":[1,2],"data":[1.0,2.5]},'
        '{"name":"s","datatype":"BYTES","shape":[1],"data":["hé"]}]}'
    ).encode()
    assert encode(payload) == (body, b"application/json", [])


GOLDEN_TEXT = (
    b'{"model_name":"m","model_version":"3","id":"","outputs":['
    b'{"name":"y","datatype":"FP32","shape":[1,2],"parameters":{"binary_data_size":8}},'
    b'{"name":"s","datatype":"BYTES","shape":[1],"parameters":{"binary_data_size":7}}]}'
)
GOLDEN_BLOBS = b"\x00\x00\x80?\x00\x00 @" + b"\x03\x00\x00\x00h\xc3\xa9"


def test_golden_binary_reply() -> None:
    document = {
        "id": "",
        **row(data=..., parameters={"binary_data_size": 8}),
        "parameters": {"binary_data_output": True},
    }
    payload = decode(document, b"\x00\x00\x80?\x00\x00\x00@")
    assert payload.arrays[0].tolist() == [[1.0, 2.0]]
    length = [(b"inference-header-content-length", str(len(GOLDEN_TEXT)).encode())]
    assert encode(payload) == (GOLDEN_TEXT + GOLDEN_BLOBS, b"application/octet-stream", length)


def test_the_length_may_come_and_go_in_the_media_type() -> None:
    text = orjson.dumps({"id": "", **row(), "parameters": {"binary_data_output": True}})
    head = Head(b"POST", b"/invocations", [])
    payload = OpenInference().decode(text, head, {"json-header-size": str(len(text))}, SPEC)
    media_type = f"{MEDIA_TYPE};json-header-size={len(GOLDEN_TEXT)}".encode()
    assert encode(payload) == (GOLDEN_TEXT + GOLDEN_BLOBS, media_type, [])
    foreign = Json().decode(b"[1,2]", head, {}, SPEC)
    assert encode(foreign)[0].endswith(GOLDEN_BLOBS)


def test_outputs_are_chosen_and_mixed() -> None:
    asked = [{"name": "s"}, {"name": "y", "parameters": {"binary_data": True}}]
    payload = decode({**row(), "outputs": asked})
    assert payload.wanted == (1, 0)
    body, content_type, headers = encode(payload)
    size = int(dict(headers)[b"inference-header-content-length"])
    first, second = orjson.loads(body[:size])["outputs"]
    assert (first["data"], second["parameters"]) == (["hé"], {"binary_data_size": 8})
    assert content_type == b"application/octet-stream"
    assert body[size:] == GOLDEN_BLOBS[:8]


def test_an_outputs_own_word_wins_over_the_requests() -> None:
    asked = [{"name": "y", "parameters": {"binary_data": False}}]
    payload = decode({**row(), "parameters": {"binary_data_output": True}, "outputs": asked})
    assert encode(payload)[1] == b"application/json"


def test_a_raw_request_is_the_only_input() -> None:
    payload = decode(b"\x00\x00\x80?\x00\x00\x00@", length=b"0")
    assert payload.arrays[0].tolist() == [[1.0, 2.0]]
    assert encode(payload)[0].endswith(GOLDEN_BLOBS)
    text = decode("hé".encode(), length=b"0", spec=ModelSpec((tensor("t", "BYTES", -1),), SPEC.outputs))
    assert text.arrays[0].tolist() == ["hé"]
    series = decode(bytes(12), length=b"0", spec=ModelSpec((tensor("t", "FP32", -1, -1),), SPEC.outputs))
    assert series.arrays[0].shape == (1, 3)
    with pytest.raises(MalformedInput, match="at most one variable axis"):
        decode(bytes(12), length=b"0", spec=ModelSpec((tensor("t", "FP32", -1, -1, -1),), SPEC.outputs))


def test_data_may_be_nested_or_flat_and_scalar_or_empty() -> None:
    assert decode(row(data=[[1, 2]])).arrays[0].tolist() == [[1.0, 2.0]]
    scalar = ModelSpec((tensor("x", "FP16"),), (tensor("y", "FP16"),))
    assert decode(row(shape=[], datatype="FP16", data=[0.5]), spec=scalar).arrays[0].tolist() == 0.5
    hollow = ModelSpec((tensor("x", "FP32", -1, -1),), SPEC.outputs)
    assert decode(row(shape=[2, 0], data=[]), spec=hollow).arrays[0].shape == (2, 0)
    assert decode(row(shape=[2, 0], data=..., parameters={"binary_data_size": 0}), spec=hollow).rows == 2


def test_an_odd_offset_is_copied_to_be_aligned() -> None:
    for pad in range(4):
        text = orjson.dumps(row(data=..., parameters={"binary_data_size": 8})) + b" " * pad
        array = decode(text, np.array([1, 2], "<f4").tobytes()).arrays[0]
        assert array.flags.aligned
        assert array.tolist() == [[1.0, 2.0]]


@pytest.mark.parametrize(
    ("document", "complaint"),
    [
        ([], 'JSON object with "inputs"'),
        ({"inputs": {}}, 'JSON object with "inputs"'),
        ({"inputs": []}, 'input "x" is missing'),
        ({"inputs": [5]}, "an object with a name, got 5"),
        ({"inputs": [ROW, ROW]}, 'input "x" is given twice'),
        (row(name="z"), 'unknown input "z"; the model has "x"'),
        (row(datatype="FP64"), 'datatype "FP64", expected FP32'),
        (row(datatype="BF16"), 'datatype "BF16", expected FP32'),
        (row(shape=[1, -2]), "shape must be a list of sizes"),
        (row(shape=[1, True]), "shape must be a list of sizes"),
        (row(shape=[1, 3]), r'"x" has shape \[1, 3\], expected \[any, 2\]'),
        (row(shape=[2, 2]), r"data has 2 values, shape \[2, 2\] needs 4"),
        (row(shape=[2, 2], data=[[1, 2]]), r"nested as \[1, 2\], its shape is \[2, 2\]"),
        (row(shape=[0, 2], data=[]), "no rows"),
        (row(data=5), "data must be a list, got 5"),
        (row(data=["1", 2]), r'expected a number \(FP32\) at \[0\], got "1"'),
        (row(data=[1, True]), r"at \[1\], got true"),
        (row(data=...), 'either "data" or the parameter binary_data_size'),
        (row(parameters={"binary_data_size": 8}), 'either "data" or the parameter binary_data_size'),
        (row(data=..., parameters={"binary_data_size": 8}), "0 bytes are left"),
        (row(data=..., parameters={"binary_data_size": "8"}), 'binary_data_size is "8"'),
        (row(parameters=[]), '"parameters" must be an object'),
        ({**row(), "id": 7}, '"id" must be a string'),
        ({**row(), "outputs": [{"name": "w"}]}, 'output "w" is unknown .* the model has "y", "s"'),
        ({**row(), "outputs": [{"name": "y"}, {"name": "y"}]}, "asked for twice"),
        ({**row(), "outputs": [{"name": "y", "parameters": {"classification": -2}}]}, "number of classes"),
        (
            {**row(), "outputs": [{"name": "y", "parameters": {"shared_memory_region": "r"}}]},
            'output "y" .* shared memory',
        ),
        (row(data=..., parameters={"shared_memory_region": "r"}), 'input "x" .* shared memory'),
        ({**row(), "outputs": "y"}, '"outputs" must be a list of objects'),
    ],
)
def test_a_complaint_names_the_input(document: Any, complaint: str) -> None:
    with pytest.raises(MalformedInput, match=complaint):
        decode(document)


@pytest.mark.parametrize("length", [b"-1", b"x", b"", b"1e2", b"99999", b"9" * 5000, b"\xb2"])
def test_a_wrong_length_of_the_json_is_refused(length: bytes) -> None:
    with pytest.raises(MalformedInput, match="length of the JSON"):
        decode(row(), length=length)


@pytest.mark.parametrize(
    ("dtype", "shape", "blob", "complaint"),
    [
        ("FP32", [1, 2], bytes(7), "has 7 bytes, FP32 .* needs 8"),
        ("BOOL", [1, 2], b"\x00\x02", "a BOOL must be a byte 0 or 1"),
        ("BYTES", [1, 2], b"\x01\x00\x00\x00a", "has 1 strings, .* needs 2"),
        ("BYTES", [1, 2], b"\x01\x00", "string 0 does not end"),
        ("BYTES", [1, 2], b"\xff\xff\xff\xffa", "string 0 does not end"),
        ("BYTES", [1, 2], b"\x01\x00\x00\x00\xff", "string 0 is not UTF-8"),
    ],
)
def test_a_wrong_blob_is_refused(dtype: str, shape: list[int], blob: bytes, complaint: str) -> None:
    spec = ModelSpec((tensor("x", dtype, -1, 2),), SPEC.outputs)
    document = row(shape=shape, datatype=dtype, data=..., parameters={"binary_data_size": len(blob)})
    with pytest.raises(MalformedInput, match=complaint):
        decode(document, blob, spec)


def test_bytes_that_nobody_claims_are_refused() -> None:
    with pytest.raises(MalformedInput, match="announce 0 bytes of binary data, but 3 follow"):
        decode(row(), b"abc")


def test_nan_in_binary_is_unprocessable() -> None:
    document = row(data=..., parameters={"binary_data_size": 8})
    with pytest.raises(UnprocessableInput, match=r'"x" is infinite at \[0\]\[1\]'):
        decode(document, np.array([1, np.inf], np.float32).tobytes())


def test_what_json_cannot_hold_asks_for_binary() -> None:
    payload = decode(row())
    with pytest.raises(NotAcceptable, match='"s" is not text'):
        encode(payload, [OUTPUTS[0], np.array([b"\xff"], object)])


def test_the_json_codec_hands_this_protocol_on() -> None:
    body = orjson.dumps({"id": "7", **row()})
    payload = Json().decode(body, Head(b"POST", b"/invocations", []), {}, SPEC)
    assert Json().encode(OUTPUTS, payload, SPEC, "m", "3") == encode(decode(body))


def test_through_sagemaker_the_media_type_carries_the_length_of_the_json() -> None:
    """A JSON request at /invocations may ask for binary outputs; the platform drops the protocol's own header."""
    body = orjson.dumps({**row(), "parameters": {"binary_data_output": True}})
    payload = Json().decode(body, Head(b"POST", b"/invocations", []), {}, SPEC)
    reply, content_type, headers = Json().encode(OUTPUTS, payload, SPEC, "m", "3")
    assert headers == []
    media_type, _, size = content_type.decode().partition(";json-header-size=")
    assert media_type == MEDIA_TYPE
    assert orjson.loads(reply[: int(size)])["outputs"][0]["parameters"]["binary_data_size"] == OUTPUTS[0].nbytes


@pytest.mark.parametrize("value", [1.0, -2.5, 3.0e38, 1e-40, np.inf])
def test_bfloat16_travels_in_both_forms(value: float) -> None:
    """In JSON as a number; in binary as the upper half of a float32, rounded to the nearest."""
    spec = ModelSpec(*((TensorSpec(name, BF16, (-1, 1), infinite=True),) for name in "xy"))
    bits = bfloat16_of_float32(np.array([[value]], np.float32))
    document = row(name="x", shape=[1, 1], datatype="BF16", data=..., parameters={"binary_data_size": 2})
    (array,) = decode(document, bits.tobytes(), spec=spec).arrays
    assert array.dtype == np.float32
    assert array == float32_of_bfloat16(bits)
    if np.isfinite(value):
        plain = row(name="x", shape=[1, 1], datatype="BF16", data=[value])
        (same,) = decode(plain, spec=spec).arrays
        assert bfloat16_of_float32(same) == bits


@pytest.mark.parametrize("shape", [[0, 2**62], [2**62, 0], [2**40, 2**40, 0]])
def test_sizes_that_no_array_can_have_are_refused_beside_a_zero(shape: list[int]) -> None:
    spec = ModelSpec((tensor("x", "FP32", *[-1] * len(shape)),), SPEC.outputs)
    for document in (row(shape=shape, data=[]), row(shape=shape, data=..., parameters={"binary_data_size": 0})):
        with pytest.raises(MalformedInput):
            decode(document, spec=spec)


def test_bfloat16_rounds_to_the_nearest_even() -> None:
    exact = np.array([1.0, 1.0078125, -1.0078125], np.float32)
    half = np.float32(2**-8)
    assert float32_of_bfloat16(bfloat16_of_float32(exact)).tolist() == exact.tolist()
    assert float32_of_bfloat16(bfloat16_of_float32(np.array([1 + half, 1.0078125 + half]))).tolist() == [1.0, 1.015625]
    assert np.isnan(float32_of_bfloat16(bfloat16_of_float32(np.array([np.nan]))))


@pytest.mark.parametrize("datatype", ["FP32", "BF16", "FP16", "INT64"])
def test_classes_of_any_datatype_are_strings_in_binary_too(datatype: str) -> None:
    dtype = BY_NAME[datatype]
    spec = ModelSpec((TensorSpec("x", BY_NAME["FP32"], (-1, 2)),), (TensorSpec("y", dtype, (-1, 2)),))
    head = Head(b"POST", b"/v2/models/m/infer", [])
    body = orjson.dumps(
        {
            "inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}],
            "outputs": [{"name": "y", "parameters": {"classification": 1, "binary_data": True}}],
        }
    )
    codec = OpenInference()
    payload = codec.decode(body, head, {}, spec)
    outputs = [np.array([[1, 2]], np.float32 if datatype == "BF16" else dtype.numpy)]
    text, *_ = codec.encode(outputs, payload, spec, "m", "1")
    assert b'"datatype":"BYTES"' in text
    assert text.rpartition(b"}")[2].endswith(b":1")


TEXTS = ModelSpec((tensor("t", "BYTES", -1),), ())
IMAGES = ModelSpec((TensorSpec("t", RAW_BYTES, (-1,)),), ())


def strings(content_type: str, *values: str, shape: tuple[int, ...] = (1, 1)) -> dict[str, Any]:
    """As MLServer's clients write a list of strings."""
    fields = {"name": "t", "shape": shape, "datatype": "BYTES", "data": values}
    return {"inputs": [{**fields, "parameters": {"content_type": content_type}}]}


@pytest.mark.parametrize(
    ("content_type", "sent", "spec", "expected"),
    [
        ("str", "aGk=", TEXTS, "aGk="),
        ("base64", "aGk=", TEXTS, "hi"),
        ("base64", "/9j/", IMAGES, b"\xff\xd8\xff"),
    ],
)
@pytest.mark.parametrize("shape", [(1,), (1, 1)])
def test_content_types_of_mlserver_say_what_strings_hold(
    content_type: str, sent: str, spec: ModelSpec, expected: object, shape: tuple[int, ...]
) -> None:
    assert decode(strings(content_type, sent, shape=shape), spec=spec).arrays[0].tolist() == [expected]
    blob = len(sent).to_bytes(4, "little") + sent.encode()
    document = strings(content_type, shape=shape)
    del document["inputs"][0]["data"]
    document["inputs"][0]["parameters"]["binary_data_size"] = len(blob)
    (array,) = decode(document, blob, spec=spec).arrays
    assert array.tolist() == [expected]


@pytest.mark.parametrize(
    ("document", "spec", "word"),
    [
        (strings("base64", "a"), TEXTS, "value 0 is not text in base64"),
        (strings("base64", "/9j/"), TEXTS, "text in base64"),
        (strings("base64", "ü"), IMAGES, "is not base64"),
        (strings("np", "aGk="), TEXTS, "shape"),
        (strings("str", "a", "b"), TEXTS, "2 values"),
        (row(parameters={"content_type": "base64"}), SPEC, "only BYTES"),
        ({**row(), "outputs": [{"name": "s", "parameters": {"content_type": "base64"}}]}, SPEC, "binary_data"),
    ],
)
def test_what_is_not_what_its_content_type_says_is_refused(document: Any, spec: ModelSpec, word: str) -> None:
    with pytest.raises(MalformedInput, match=word):
        decode(document, spec=spec)
