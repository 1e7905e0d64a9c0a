"""Infer messages and arrays: each datatype in both forms, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from server.errors import MalformedInput, NotAcceptable, SlipwayError, UnprocessableInput
from server.grpc.codec import CONTENTS, InferMessages
from server.grpc.inference_pb2 import InferParameter, ModelInferRequest, ModelInferResponse
from server.request import Head, Payload
from server.tensors import BF16, BY_NAME, RAW_BYTES, Array, DType, ModelSpec, TensorSpec

HEAD = Head(b"POST", b"/", [])
CODEC = InferMessages(interpreted=False)
FLOATS = ModelSpec(
    (TensorSpec("x", BY_NAME["FP32"], (-1, 2)),),
    (TensorSpec("y", BY_NAME["FP32"], (-1, 2)), TensorSpec("z", BY_NAME["FP16"], (-1, 2))),
)
PAIR = ModelSpec((TensorSpec("a", BY_NAME["INT64"], (-1, 1)), TensorSpec("b", BY_NAME["INT64"], (-1, 1))), ())

VALUES: dict[str, list[Any]] = {
    "BOOL": [True, False],
    "UINT8": [0, 255],
    "UINT16": [0, 65_535],
    "UINT32": [0, 2**32 - 1],
    "UINT64": [0, 2**64 - 1],
    "INT8": [-128, 127],
    "INT16": [-32_768, 32_767],
    "INT32": [-(2**31), 2**31 - 1],
    "INT64": [-(2**63), 2**63 - 1],
    "FP16": [0.5, -2.0],
    "BF16": [0.5, -2.0],
    "FP32": [0.1, -3.5e38],
    "FP64": [0.1, -1e300],
    "BYTES": ["", "grüße"],
}
VALUES["FP32"][1] = -3.0e38


def spec_of(dtype: DType) -> ModelSpec:
    return ModelSpec((TensorSpec("x", dtype, (-1, 2)),), (TensorSpec("x", dtype, (-1, 2)),))


def array_of(dtype: DType, values: list[Any]) -> Array:
    array = np.empty(len(values), dtype.numpy)
    array[:] = values
    return array.reshape(-1, 2)


def request(datatype: str = "FP32", shape: tuple[int, ...] = (1, 2), **fields: Any) -> ModelInferRequest:
    message = ModelInferRequest(model_name="m", **fields)
    message.inputs.add(name="x", datatype=datatype, shape=shape)
    return message


def typed(datatype: str, values: list[Any], shape: tuple[int, ...] = (1, 2)) -> ModelInferRequest:
    message = request(datatype, shape)
    kept = [value.encode() if isinstance(value, str) else value for value in values]
    getattr(message.inputs[0].contents, CONTENTS[datatype]).extend(kept)
    return message


def raw(*values: float, **fields: Any) -> ModelInferRequest:
    return request(raw_input_contents=[np.array(values, "<f4").tobytes()], **fields)


def decode(message: ModelInferRequest, spec: ModelSpec = FLOATS) -> Payload:
    return CODEC.decode(message.SerializeToString(), HEAD, {}, spec)


def encode(payload: Payload, *outputs: Array, spec: ModelSpec = FLOATS) -> ModelInferResponse:
    response: ModelInferResponse = ModelInferResponse.FromString(CODEC.encode(outputs, payload, spec, "m", "3")[0])
    return response


@pytest.mark.parametrize("name", VALUES)
def test_raw_contents_of_every_datatype_go_in_and_come_out_as_they_are(name: str) -> None:
    dtype, spec = BY_NAME[name], spec_of(BY_NAME[name])
    array = array_of(dtype, VALUES[name])
    out = encode(Payload((), 1), array, spec=spec)
    assert (out.outputs[0].datatype, list(out.outputs[0].shape)) == (name, [1, 2])
    back = decode(request(name, raw_input_contents=list(out.raw_output_contents)), spec)
    assert back.arrays[0].dtype == dtype.numpy
    assert back.arrays[0].tolist() == array.tolist()
    assert back.arrays[0].flags.aligned


@pytest.mark.parametrize("name", CONTENTS)
def test_typed_contents_of_every_datatype_that_has_them(name: str) -> None:
    dtype, spec = BY_NAME[name], spec_of(BY_NAME[name])
    message = typed(name, VALUES[name])
    message.parameters["binary_data_output"].bool_param = False
    payload = decode(message, spec)
    assert payload.arrays[0].dtype == dtype.numpy
    assert payload.arrays[0].tolist() == array_of(dtype, VALUES[name]).tolist()
    out = encode(payload, payload.arrays[0], spec=spec)
    assert not out.raw_output_contents
    assert list(getattr(out.outputs[0].contents, CONTENTS[name])) == list(
        getattr(message.inputs[0].contents, CONTENTS[name])
    )


def test_bytes_that_are_no_text_pass_where_the_input_takes_them() -> None:
    message = typed("BYTES", [], (1, 1))
    message.inputs[0].contents.bytes_contents.append(b"\xff\x00")
    spec = ModelSpec((TensorSpec("x", RAW_BYTES, (-1, 1)),), ())
    assert decode(message, spec).arrays[0].tolist() == [[b"\xff\x00"]]
    with pytest.raises(MalformedInput, match="not UTF-8"):
        decode(message, ModelSpec((TensorSpec("x", BY_NAME["BYTES"], (-1, 1)),), ()))


@pytest.mark.parametrize(
    ("message", "what"),
    [
        (typed("FP32", [1.0]), "1 values, shape .* needs 2"),
        (typed("FP32", [1.0, 2.0, 3.0]), "3 values"),
        (typed("FP64", [1.0, 2.0]), 'datatype "FP64", expected FP32'),
        (typed("FP32", [1.0, 2.0, 3.0], (1, 3)), r"shape \[1, 3\], expected \[any, 2\]"),
        (request(shape=(-1, 2)), "shape must be sizes"),
        (request(shape=(0, 2)), "no rows"),
        (request(shape=(1 << 60, 2)), "real sizes"),
        (request(), "0 values"),
        (raw(1.0), "4 bytes"),
        (raw(1.0, 2.0, 3.0), "12 bytes"),
        (ModelInferRequest(raw_input_contents=[b""]), "0 inputs and 1 raw contents"),
        (request(raw_input_contents=[b"12345678", b""]), "1 inputs and 2 raw contents"),
        (ModelInferRequest(), 'input "x" is missing'),
        (ModelInferRequest(inputs=[ModelInferRequest.InferInputTensor(name="q")]), 'unknown input "q"'),
        (raw(1.0, 2.0, outputs=[ModelInferRequest.InferRequestedOutputTensor(name="q")]), 'output "q" is unknown'),
        (raw(1.0, 2.0, outputs=[ModelInferRequest.InferRequestedOutputTensor(name="y")] * 2), "asked for twice"),
    ],
)
def test_what_does_not_fit_is_malformed(message: ModelInferRequest, what: str) -> None:
    with pytest.raises(MalformedInput, match=what):
        decode(message)


def test_an_input_given_twice() -> None:
    message = typed("FP32", [1.0, 2.0])
    message.inputs.append(message.inputs[0])
    with pytest.raises(MalformedInput, match="given twice"):
        decode(message)


def test_contents_in_the_field_of_another_datatype_or_in_two() -> None:
    message = request("FP32")
    message.inputs[0].contents.int_contents.extend([1, 2])
    with pytest.raises(MalformedInput, match="belong in fp32_contents, got int_contents"):
        decode(message)
    message.inputs[0].contents.fp32_contents.extend([1.0, 2.0])
    with pytest.raises(MalformedInput, match="belong in fp32_contents, got int_contents"):
        decode(message)


def test_contents_beside_raw_contents() -> None:
    message = raw(1.0, 2.0)
    message.inputs[0].contents.fp32_contents.extend([1.0, 2.0])
    with pytest.raises(MalformedInput, match="beside raw_input_contents"):
        decode(message)


@pytest.mark.parametrize("name", ["FP16", "BF16"])
def test_half_floats_are_raw_only(name: str) -> None:
    message = request(name)
    message.inputs[0].contents.fp32_contents.extend([1.0, 2.0])
    with pytest.raises(MalformedInput, match=f"{name} has no typed contents"):
        decode(message, spec_of(BY_NAME[name]))


@pytest.mark.parametrize(
    ("name", "values"), [("INT8", [0, 128]), ("INT16", [0, -32_769]), ("UINT8", [0, 256]), ("UINT16", [0, 65_536])]
)
def test_integers_out_of_the_range_of_their_datatype(name: str, values: list[int]) -> None:
    with pytest.raises(MalformedInput, match=f"value 1, {values[1]}, is out of the range of {name}"):
        decode(typed(name, values), spec_of(BY_NAME[name]))


@pytest.mark.parametrize("message", [typed("FP32", [1.0, float("nan")]), raw(1.0, float("nan"))])
def test_nan_is_refused_where_the_model_does_not_accept_it(message: ModelInferRequest) -> None:
    with pytest.raises(UnprocessableInput, match="NaN"):
        decode(message)


@pytest.mark.parametrize("blob", [b"\x01", b"\x05\0\0\0ab", b"\x01\0\0\0a\x01\0\0", b"\x01\0\0\0a" * 3])
def test_raw_strings_must_end_where_they_say(blob: bytes) -> None:
    with pytest.raises(MalformedInput):
        decode(request("BYTES", raw_input_contents=[blob]), spec_of(BY_NAME["BYTES"]))


def test_inputs_of_different_numbers_of_rows() -> None:
    message = ModelInferRequest()
    for name, rows in (("b", 1), ("a", 2)):
        message.inputs.add(name=name, datatype="INT64", shape=(rows, 1)).contents.int64_contents.extend(range(rows))
    with pytest.raises(MalformedInput, match="all need the same number"):
        decode(message, PAIR)


def test_inputs_come_in_any_order_and_raw_contents_in_theirs() -> None:
    message = ModelInferRequest(raw_input_contents=[np.int64(7).tobytes(), np.int64(8).tobytes()])
    for name in ("b", "a"):
        message.inputs.add(name=name, datatype="INT64", shape=(1, 1))
    assert [one.item() for one in decode(message, PAIR).arrays] == [8, 7]


def test_id_parameters_and_outputs_of_a_request() -> None:
    message = raw(1.0, 2.0, id="seven")
    message.parameters["timeout"].int64_param = 5
    message.parameters["name"].string_param = "s"
    message.parameters["share"].double_param = 0.5
    message.parameters["none"].SetInParent()
    message.outputs.add(name="z")
    payload = decode(message)
    assert payload.parameters == {"timeout": 5, "name": "s", "share": 0.5}
    out = encode(payload, np.ones((1, 2), np.float32), np.ones((1, 2), np.float16))
    assert (out.model_name, out.model_version, out.id) == ("m", "3", "seven")
    assert [(row.name, row.datatype) for row in out.outputs] == [("z", "FP16")]
    assert out.raw_output_contents == [np.ones(2, "<f2").tobytes()]


def test_outputs_are_typed_only_if_none_is_to_be_binary() -> None:
    outputs: list[Array] = [np.ones((1, 2), np.float32), np.ones((1, 2), np.float16)]
    message = raw(1.0, 2.0)
    message.outputs.add(name="y").parameters["binary_data"].bool_param = False
    out = encode(decode(message), *outputs)
    assert list(out.outputs[0].contents.fp32_contents) == [1.0, 1.0]
    message.outputs.add(name="z")
    assert len(encode(decode(message), *outputs).raw_output_contents) == 2
    message.outputs[1].parameters["binary_data"].bool_param = False
    with pytest.raises(NotAcceptable, match="FP16 has no typed contents"):
        encode(decode(message), *outputs)


def test_shared_memory_is_refused_by_name() -> None:
    message = request()
    message.inputs[0].parameters["shared_memory_region"].string_param = "r"
    with pytest.raises(MalformedInput, match="a region of shared memory"):
        decode(message)
    message = raw(1.0, 2.0)
    message.outputs.add(name="y").parameters["shared_memory_region"].CopyFrom(InferParameter(string_param="r"))
    with pytest.raises(MalformedInput, match="a region of shared memory"):
        decode(message)


def test_strings_that_are_no_text_come_out_as_bytes() -> None:
    spec = ModelSpec((), (TensorSpec("y", RAW_BYTES, (-1,)),))
    array = np.array([b"\xff", b""], object)
    assert encode(Payload((), 1), array, spec=spec).raw_output_contents == [b"\x01\0\0\0\xff\0\0\0\0"]


def test_bfloat16_is_rounded_to_its_bits() -> None:
    out = encode(Payload((), 1), np.array([[1.0, 3.14159]], np.float32), spec=spec_of(BF16))
    assert out.raw_output_contents == [b"\x80\x3f\x49\x40"]


@pytest.mark.parametrize("body", [b"\xff", b"\x0a\x05ab", b"\x3a", b"\x0b", b"\x0a\x01\xff"])
@pytest.mark.parametrize("padding", [0, 20_000])
def test_bytes_that_are_no_message_are_malformed(body: bytes, padding: int) -> None:
    whole = ModelInferRequest(raw_input_contents=[bytes(padding)] if padding else []).SerializeToString() + body
    with pytest.raises(SlipwayError, match="not a well-formed ModelInferRequest"):
        CODEC.decode(whole, HEAD, {}, FLOATS)


def test_the_best_classes_of_an_output_are_strings_of_each_row() -> None:
    message = raw(1.0, 2.0)
    message.outputs.add(name="y").parameters["classification"].int64_param = 1
    message.outputs.add(name="z")
    out = encode(decode(message), np.array([[0.5, 2.0]], np.float32), np.ones((1, 2), np.float16))
    assert [(one.datatype, list(one.shape)) for one in out.outputs] == [("BYTES", [1, 1]), ("FP16", [1, 2])]
    assert out.raw_output_contents[0][4:] == b"2.0:1"
    message.outputs[0].parameters["classification"].int64_param = -1
    with pytest.raises(MalformedInput, match="classification"):
        decode(message)
