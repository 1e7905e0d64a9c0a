"""What every codec promises: values survive both ways, bad bodies are refused as ours, arrays are ready to use."""

from __future__ import annotations

import csv
import io
import json
import struct
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.codecs import Codec, Encoded
from server.codecs.cloud_events import CloudEvents
from server.codecs.csv import Csv
from server.codecs.json import Json
from server.codecs.jsonlines import JsonLines
from server.codecs.media import CODECS
from server.codecs.numpy import Npy, Npz
from server.codecs.open_inference import OpenInference
from server.codecs.recordio_protobuf import RecordIOProtobuf
from server.codecs.single_values import Bytes, Text
from server.codecs.v1 import V1Json
from server.errors import MalformedInput, NotAcceptable, UnprocessableInput
from server.request import Head, Headers, Payload
from server.tensors import BY_NAME, DTYPES, Array, ModelSpec, TensorSpec

OURS = (MalformedInput, UnprocessableInput)


@dataclass(frozen=True)
class Sent:
    body: bytes
    headers: Headers
    parameters: Mapping[str, str]


@dataclass(frozen=True)
class Format:
    """A codec, and a client of it that shares no code with it."""

    name: str
    codec: Codec
    send: Callable[[dict[str, Array]], Sent]
    receive: Callable[[Encoded, ModelSpec], dict[str, Array]]
    several: bool = True
    rows: bool = False
    """Whether the body is a list of rows, so that inputs cannot differ in their number."""
    dtypes: frozenset[str] = frozenset(BY_NAME)
    """What values survive as they are: those that the format has itself, and those that fit into them."""


def plain(body: bytes) -> Sent:
    return Sent(body, [], {})


def json_send(inputs: dict[str, Array]) -> Sent:
    return plain(orjson.dumps({"inputs": {name: array.tolist() for name, array in inputs.items()}}))


def json_receive(reply: Encoded, spec: ModelSpec) -> dict[str, Array]:
    found = orjson.loads(reply[0])["outputs"]
    named = found if isinstance(found, dict) else {spec.outputs[0].name: found}
    return {
        tensor.name: np.array(named[tensor.name], tensor.dtype.numpy) for tensor in spec.outputs if tensor.name in named
    }


def python_json_send(inputs: dict[str, Array]) -> Sent:
    """As Python's json module writes it: NaN and Infinity are literals."""
    return plain(json.dumps({"inputs": {name: array.tolist() for name, array in inputs.items()}}).encode())


def event_send(inputs: dict[str, Array]) -> Sent:
    attributes = {"specversion": "1.0", "id": "1", "source": "tests", "type": "test"}
    body = json.dumps({**attributes, "data": json.loads(python_json_send(inputs).body)}).encode()
    return Sent(body, [(b"content-type", b"application/cloudevents+json")], {})


def event_receive(reply: Encoded, spec: ModelSpec) -> dict[str, Array]:
    return json_receive((orjson.dumps(orjson.loads(reply[0])["data"]), b"", []), spec)


def csv_send(inputs: dict[str, Array]) -> Sent:
    out = io.StringIO(newline="")
    (array,) = inputs.values()
    csv.writer(out).writerows(array.reshape(len(array), prod(array.shape[1:])).tolist())
    return plain(out.getvalue().encode())


def csv_receive(reply: Encoded, spec: ModelSpec) -> dict[str, Array]:
    (tensor,) = spec.outputs
    rows: list[Any] = list(csv.reader(io.StringIO(reply[0].decode(), newline="")))
    if tensor.dtype.name == "BOOL":
        rows = [[cell == "true" for cell in row] for row in rows]
    return {tensor.name: np.array(rows).astype(tensor.dtype.numpy)}


def npy_send(inputs: dict[str, Array]) -> Sent:
    out = io.BytesIO()
    (array,) = inputs.values()
    np.save(out, array.astype(str) if array.dtype.kind == "O" else array)
    return plain(out.getvalue())


def npy_receive(reply: Encoded, spec: ModelSpec) -> dict[str, Array]:
    (tensor,) = spec.outputs
    return {tensor.name: np.load(io.BytesIO(reply[0])).astype(tensor.dtype.numpy)}


def npz_send(inputs: dict[str, Array]) -> Sent:
    out = io.BytesIO()
    np.savez_compressed(out, **{n: a.astype(str) if a.dtype.kind == "O" else a for n, a in inputs.items()})  # type: ignore[arg-type]
    return plain(out.getvalue())


def npz_receive(reply: Encoded, spec: ModelSpec) -> dict[str, Array]:
    found = np.load(io.BytesIO(reply[0]))
    return {t.name: found[t.name].astype(t.dtype.numpy) for t in spec.outputs if t.name in found}


def datatype(array: Array) -> str:
    return next(row.name for row in DTYPES if row.numpy == array.dtype)


def blob(array: Array) -> bytes:
    if array.dtype.kind != "O":
        return array.tobytes()
    raws = [value.encode() for value in array.reshape(-1)]
    return b"".join(len(raw).to_bytes(4, "little") + raw for raw in raws)


def oip_json_send(inputs: dict[str, Array]) -> Sent:
    rows = [
        {"name": name, "shape": array.shape, "datatype": datatype(array), "data": array.tolist()}
        for name, array in inputs.items()
    ]
    return plain(orjson.dumps({"inputs": rows}))


def oip_binary_send(inputs: dict[str, Array]) -> Sent:
    rows, blobs = [], []
    for name, array in inputs.items():
        blobs.append(blob(array))
        sizes = {"binary_data_size": len(blobs[-1])}
        rows.append({"name": name, "shape": array.shape, "datatype": datatype(array), "parameters": sizes})
    text = orjson.dumps({"inputs": rows, "parameters": {"binary_data_output": True}})
    return Sent(text + b"".join(blobs), [(b"inference-header-content-length", str(len(text)).encode())], {})


def oip_receive(reply: Encoded, spec: ModelSpec) -> dict[str, Array]:
    body, _, headers = reply
    size = int(dict(headers).get(b"inference-header-content-length", len(body)))
    rest, found = body[size:], {}
    for row in orjson.loads(body[:size])["outputs"]:
        dtype = BY_NAME[row["datatype"]].numpy
        if "data" in row:
            values: Any = row["data"]
        else:
            length = row["parameters"]["binary_data_size"]
            raw, rest = rest[:length], rest[length:]
            values = strings(raw) if dtype.kind == "O" else np.frombuffer(raw, dtype)
        found[row["name"]] = np.array(values, dtype).reshape(row["shape"])
    assert rest == b""
    return found


def strings(raw: bytes) -> list[str]:
    values = []
    while raw:
        size = int.from_bytes(raw[:4], "little")
        values.append(raw[4 : 4 + size].decode())
        raw = raw[4 + size :]
    return values


def jsonlines_send(inputs: dict[str, Array]) -> Sent:
    lists = {name: array.tolist() for name, array in inputs.items()}
    if list(lists) == ["x"]:
        rows = lists["x"]
    else:
        rows = [{name: rows[index] for name, rows in lists.items()} for index in range(len(next(iter(lists.values()))))]
    return plain("".join(json.dumps(row) + "\n" for row in rows).encode())


def jsonlines_receive(reply: Encoded, spec: ModelSpec) -> dict[str, Array]:
    lines: list[Any] = [json.loads(line) for line in reply[0].decode().splitlines()]
    named = {spec.outputs[0].name: lines}
    if lines and isinstance(lines[0], dict):
        named = {name: [line[name] for line in lines] for name in lines[0]}
    return {t.name: np.array(named[t.name], t.dtype.numpy) for t in spec.outputs if t.name in named}


def varint(value: int) -> bytes:
    value %= 1 << 64
    return bytes([value]) if value < 128 else bytes([value % 128 + 128]) + varint(value >> 7)


def sized(field: int, content: bytes) -> bytes:
    return varint(field * 8 + 2) + varint(len(content)) + content


def recordio_value(row: Array) -> bytes:
    flat = np.asarray(row).reshape(-1)
    if flat.dtype.kind == "O":
        return sized(9, b"".join(sized(1, text.encode()) for text in flat))
    if flat.dtype.kind == "f":
        wide = flat.astype("<f8" if flat.dtype.itemsize == 8 else "<f4")
        return sized(3 if flat.dtype.itemsize == 8 else 2, sized(1, wide.tobytes()))
    return sized(7, sized(1, b"".join(varint(int(number)) for number in flat)))


def recordio_send(inputs: dict[str, Array]) -> Sent:
    body = b""
    for index in range(len(next(iter(inputs.values())))):
        record = b"".join(
            sized(1, sized(1, name.encode()) + sized(2, recordio_value(array[index]))) for name, array in inputs.items()
        )
        body += struct.pack("<II", 0xCED7230A, len(record)) + record + bytes(-len(record) % 4)
    return plain(body)


def recordio_fields(message: bytes) -> list[tuple[int, bytes]]:
    found = []
    while message:
        tag, message = message[0], message[1:]
        size, shift = 0, 0
        while True:
            byte, message = message[0], message[1:]
            size |= byte % 128 << shift
            shift += 7
            if byte < 128:
                break
        found.append((tag // 8, message[:size]))
        message = message[size:]
    return found


def recordio_row(value: bytes, tensor: TensorSpec) -> Any:
    ((field, content),) = recordio_fields(value)
    if field == 9:
        return np.array([raw.decode() for _, raw in recordio_fields(content)], object).reshape(tensor.shape[1:])
    tensors = dict(recordio_fields(content))
    if field == 7:
        flat, number, shift = [], 0, 0
        for byte in tensors[1]:
            number |= byte % 128 << shift
            shift += 7
            if byte < 128:
                flat.append(number - (1 << 64) if number >> 63 else number)
                number = shift = 0
    else:
        flat = np.frombuffer(tensors[1], "<f4" if field == 2 else "<f8").tolist()
    return np.array(flat).astype(tensor.dtype.numpy).reshape(tensor.shape[1:])


def recordio_receive(reply: Encoded, spec: ModelSpec) -> dict[str, Array]:
    rows: dict[str, list[Any]] = {}
    rest = reply[0]
    while rest:
        magic, size = struct.unpack_from("<II", rest)
        assert magic == 0xCED7230A
        for field, entry in recordio_fields(rest[8 : 8 + size]):
            pair = dict(recordio_fields(entry))
            assert field == 2
            tensor = next(one for one in spec.outputs if one.name == pair[1].decode())
            rows.setdefault(tensor.name, []).append(recordio_row(pair[2], tensor))
        rest = rest[8 + size + -size % 4 :]
    return {
        tensor.name: np.array(rows[tensor.name], tensor.dtype.numpy) for tensor in spec.outputs if tensor.name in rows
    }


IN_RECORDIO = frozenset({"BOOL", "UINT8", "UINT16", "INT8", "INT16", "INT32", "FP16", "FP32", "FP64", "BYTES"})

FORMATS = [
    Format("json", Json(), json_send, json_receive),
    Format("csv", Csv(), csv_send, csv_receive, several=False),
    Format("npy", Npy(), npy_send, npy_receive, several=False),
    Format("npz", Npz(), npz_send, npz_receive),
    Format("jsonlines", JsonLines(), jsonlines_send, jsonlines_receive, rows=True),
    Format("recordio", RecordIOProtobuf(), recordio_send, recordio_receive, rows=True, dtypes=IN_RECORDIO),
    Format("oip_json", OpenInference(), oip_json_send, oip_receive),
    Format("oip_binary", OpenInference(), oip_binary_send, oip_receive),
    Format("oip_by_json_codec", Json(), oip_json_send, oip_receive),
    Format("json_of_python", Json(), python_json_send, json_receive),
    Format("v1", V1Json(), python_json_send, json_receive),
    Format("cloud_event", CloudEvents(V1Json()), event_send, event_receive),
]
SINGLE = {Text, Bytes}
"""Whole bodies that are one value: tests/unit/server/codecs/test_single_values.py."""

every_format = pytest.mark.parametrize("form", FORMATS, ids=lambda form: form.name)
dtypes_of_formats = pytest.mark.parametrize(
    ("form", "dtype"),
    [(form, row) for form in FORMATS for row in DTYPES if row.name in form.dtypes],
    ids=lambda one: one.name,
)
several_formats = pytest.mark.parametrize("form", [f for f in FORMATS if f.several], ids=lambda form: form.name)


def echo(*specs: tuple[str, str, tuple[int, ...]]) -> ModelSpec:
    tensors = tuple(TensorSpec(name, BY_NAME[dtype], shape) for name, dtype, shape in specs)
    return ModelSpec(tensors, tensors)


def decode(form: Format, sent: Sent, spec: ModelSpec) -> Payload:
    return form.codec.decode(sent.body, Head(b"POST", b"/", sent.headers), sent.parameters, spec)


def sample(dtype: str, shape: tuple[int, ...]) -> Array:
    row = BY_NAME[dtype]
    count = int(np.prod(shape))
    if row.numpy.kind == "O":
        texts = ["plain", "ü€𝄞", 'a "quoted, thing"', "", "line\nbreak", "x" * 300]
        return np.array([texts[i % len(texts)] for i in range(count)], object).reshape(shape)
    if row.numpy.kind == "b":
        flags: Array = np.arange(count) % 3 == 0
        return flags.reshape(shape)
    if row.numpy.kind == "f":
        info = np.finfo(row.numpy)
        edges: Array = np.array([info.max, info.min, info.tiny, -0.0, 0.1, 1 / 3], row.numpy)
    else:
        limits = np.iinfo(row.numpy)
        edges = np.array([limits.max, limits.min, 0, 1, 7, 100], row.numpy)
    resized: Array = np.resize(edges, shape)
    return resized


def test_every_row_of_the_table_is_under_contract() -> None:
    assert {type(codec) for codec in CODECS} - SINGLE <= {type(form.codec) for form in FORMATS}


def accepting(dtype: str, missing: bool = True, infinite: bool = True) -> ModelSpec:
    """One input of [any, 3] with missing values and infinity, or not, and an output like it."""
    tensor = TensorSpec("x", BY_NAME[dtype], (-1, 3), missing=missing, infinite=infinite)
    return ModelSpec((tensor,), (tensor,))


FLOATS = ["FP16", "FP32", "FP64"]
LACK_INFINITY = {"json", "oip_json", "oip_by_json_codec"}
"""Formats in which a client cannot write infinity: JSON without the literals of Python."""


def same(left: Array, right: Array) -> bool:
    return bool(np.array_equal(left, right, equal_nan=True))


@every_format
@pytest.mark.parametrize("dtype", FLOATS)
def test_missing_values_reach_an_input_that_accepts_them(form: Format, dtype: str) -> None:
    values = np.array([[np.nan, 1.0, 2.5], [0.25, np.nan, np.nan]], BY_NAME[dtype].numpy)
    payload = decode(form, form.send({"x": values}), accepting(dtype, infinite=False))
    assert same(payload.arrays[0], values)
    assert payload.arrays[0].dtype == values.dtype


@pytest.mark.parametrize("form", [f for f in FORMATS if f.name not in LACK_INFINITY], ids=lambda form: form.name)
@pytest.mark.parametrize("dtype", FLOATS)
def test_infinity_reaches_an_input_that_accepts_it(form: Format, dtype: str) -> None:
    values = np.array([[-np.inf, 1.0, np.inf]], BY_NAME[dtype].numpy)
    assert same(decode(form, form.send({"x": values}), accepting(dtype, missing=False)).arrays[0], values)


@every_format
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_an_input_refuses_the_values_that_it_does_not_accept(form: Format, dtype: str, value: float) -> None:
    sent = form.send({"x": np.array([[0.5, value, 1.0]], BY_NAME[dtype].numpy)})
    spec = accepting(dtype, missing=not np.isnan(value), infinite=bool(np.isnan(value)))
    if form.name in LACK_INFINITY and np.isinf(value):
        assert b"null" in sent.body  # the client's own writer: such a client cannot send infinity
    else:
        with pytest.raises(OURS, match=r'"x"|column 1'):
            decode(form, sent, spec)


@every_format
@pytest.mark.parametrize("dtype", FLOATS)
def test_outputs_that_are_not_finite_have_one_form(form: Format, dtype: str) -> None:
    """JSON: null, in every convention; CSV: nan, inf and -inf; binary formats: the values."""
    values = np.array([[np.nan, np.inf, -np.inf]], BY_NAME[dtype].numpy)
    spec = accepting(dtype)
    payload = decode(form, form.send({"x": np.ones((1, 3), values.dtype)}), spec)
    reply = form.codec.encode([values], payload, spec, "m", "1")
    found = form.receive(reply, spec)["x"]
    if b"json" in reply[1] and b"binary" not in reply[1]:
        assert reply[0].count(b"null") == 3
        assert np.isnan(found).all()
    else:
        assert same(found, values)


@every_format
def test_a_null_or_an_empty_cell_never_becomes_a_number(form: Format) -> None:
    """An integer, a flag and a text have no missing value, whatever the spec says."""
    for dtype in ("INT32", "BOOL", "BYTES"):
        tensor = TensorSpec("x", BY_NAME[dtype], (-1, 2), missing=True, infinite=True)
        spec = ModelSpec((tensor,), (tensor,))
        for body in (b'{"inputs": [[null, 1]]}', b'{"inputs": [[NaN, 1]]}', b"[null, 1]\n", b",1\n", b"nan,1\n"):
            with suppress(*OURS):
                array = decode(form, plain(body), spec).arrays[0]
                assert dtype == "BYTES", array
                assert all(type(value) is str for value in array.flat)


@dtypes_of_formats
def test_every_dtype_survives_both_ways(form: Format, dtype: Any) -> None:
    width = 1 if dtype.name == "BYTES" else 3
    spec = echo(("x", dtype.name, (-1, width)))
    values = sample(dtype.name, (6, width))
    payload = decode(form, form.send({"x": values}), spec)
    (array,) = payload.arrays
    assert payload.rows == 6
    assert array.dtype == dtype.numpy
    assert array.tolist() == values.tolist()
    assert array.flags.c_contiguous
    assert array.flags.aligned
    before = array.copy()
    reply = form.codec.encode([array], payload, spec, "m", "1")
    assert form.receive(reply, spec)["x"].tolist() == values.tolist()
    assert array.tolist() == before.tolist()


@several_formats
def test_several_inputs_come_in_the_models_order(form: Format) -> None:
    spec = echo(("a", "FP32", (-1, 2)), ("b", "INT32", (-1,)), ("c", "BYTES", (-1, 1)))
    inputs = {"c": sample("BYTES", (2, 1)), "a": sample("FP32", (2, 2)), "b": sample("INT32", (2,))}
    payload = decode(form, form.send(inputs), spec)
    assert [array.tolist() for array in payload.arrays] == [inputs[n].tolist() for n in "abc"]
    found = form.receive(form.codec.encode(payload.arrays, payload, spec, "m", "1"), spec)
    assert {name: array.tolist() for name, array in found.items()} == {n: a.tolist() for n, a in inputs.items()}


@several_formats
@pytest.mark.parametrize("names", [["a"], ["b"], ["a", "b", "z"]])
def test_missing_and_unknown_inputs_are_named(form: Format, names: list[str]) -> None:
    spec = echo(("a", "FP32", (-1, 2)), ("b", "FP32", (-1, 2)))
    odd = ({"a", "b"} ^ set(names)).pop()
    with pytest.raises(MalformedInput, match=f'input "{odd}"'):
        decode(form, form.send({name: sample("FP32", (1, 2)) for name in names}), spec)


@pytest.mark.parametrize("form", [f for f in FORMATS if f.several and not f.rows], ids=lambda form: form.name)
def test_inputs_of_different_rows_are_refused(form: Format) -> None:
    spec = echo(("a", "FP32", (-1, 2)), ("b", "FP32", (-1, 2)))
    with pytest.raises(MalformedInput, match='input "b" has 3 rows, input "a" has 2'):
        decode(form, form.send({"a": sample("FP32", (2, 2)), "b": sample("FP32", (3, 2))}), spec)


@every_format
@pytest.mark.parametrize("shape", [(2, 63), (2, 65), (0, 64)])
def test_a_wrong_shape_is_refused(form: Format, shape: tuple[int, ...]) -> None:
    with pytest.raises(MalformedInput):
        decode(form, form.send({"x": np.ones(shape, np.float32)}), echo(("x", "FP32", (-1, 64))))


@every_format
def test_text_for_a_number_is_refused(form: Format) -> None:
    with pytest.raises(MalformedInput):
        decode(form, form.send({"x": np.array([["1"], ["b"]], object)}), echo(("x", "FP32", (-1, 1))))


@every_format
def test_a_fraction_for_an_integer_is_refused(form: Format) -> None:
    with pytest.raises(MalformedInput):
        decode(form, form.send({"x": np.array([[1.5, 2.0]])}), echo(("x", "INT32", (-1, 2))))


@every_format
@pytest.mark.parametrize("body", [b"", b"\n", b"\xff\xfe", b"{", b"\x93NUMPY", b"PK\x03\x04", b"nonsense"])
def test_nonsense_is_refused(form: Format, body: bytes) -> None:
    with pytest.raises(MalformedInput):
        decode(form, plain(body), echo(("x", "FP32", (-1, 64))))


@every_format
def test_a_model_without_a_batch_axis_takes_its_full_shape(form: Format) -> None:
    spec = echo(("x", "FP32", (2, 3)))
    values = sample("FP32", (2, 3))
    payload = decode(form, form.send({"x": values}), spec)
    assert payload.rows == 1
    assert payload.arrays[0].tolist() == values.tolist()
    with pytest.raises(MalformedInput):
        decode(form, form.send({"x": sample("FP32", (3, 3))}), spec)


@every_format
def test_only_wanted_outputs_are_written(form: Format) -> None:
    tensor = TensorSpec("x", BY_NAME["FP32"], (-1, 2))
    spec = ModelSpec((tensor,), (tensor, TensorSpec("y", BY_NAME["INT32"], (-1, 2))))
    payload = decode(form, form.send({"x": sample("FP32", (2, 2))}), spec)
    payload.wanted = (1,)
    outputs = [sample("FP32", (2, 2)), sample("INT32", (2, 2))]
    reply = form.codec.encode(outputs, payload, spec, "m", "1")
    found = form.receive(reply, ModelSpec(spec.inputs, spec.outputs[1:]))
    assert found["y"].tolist() == outputs[1].tolist()
    assert "x" not in found


@every_format
def test_strided_outputs_are_written_right(form: Format) -> None:
    spec = echo(("x", "FP32", (-1, 3)))
    values = sample("FP32", (6, 3))
    payload = decode(form, form.send({"x": values}), spec)
    for array in (values.T.copy().T, np.repeat(values, 2, axis=0)[::2]):
        reply = form.codec.encode([array], payload, spec, "m", "1")
        assert form.receive(reply, spec)["x"].tolist() == values.tolist()


@pytest.mark.parametrize("form", [f for f in FORMATS if not f.several], ids=lambda form: form.name)
def test_formats_of_one_tensor_say_so(form: Format) -> None:
    one, two = echo(("x", "FP32", (-1, 2))), echo(("x", "FP32", (-1, 2)), ("y", "FP32", (-1, 2)))
    values = sample("FP32", (2, 2))
    payload = decode(form, form.send({"x": values}), one)
    with pytest.raises(NotAcceptable, match="ask for application/"):
        form.codec.encode([values, values], payload, two, "m", "1")
    with pytest.raises(MalformedInput, match="the model has several; send application/"):
        decode(form, form.send({"x": values}), two)


SPECS = [
    echo(("x", "FP32", (-1, 2))),
    echo(("x", "INT8", (-1,))),
    echo(("x", "BYTES", (-1, 1))),
    echo(("x", "BOOL", (-1, -1, 2))),
    echo(("x", "INT64", (-1, -1, -1))),
    echo(("x", "FP16", (2, -1))),
    echo(("x", "FP64", ())),
    echo(("x", "UINT64", (-1, 0))),
    echo(("x", "FP32", (-1, 2)), ("y", "BYTES", (-1,))),
    ModelSpec((TensorSpec("x", BY_NAME["FP32"], (-1, 2), missing=True, infinite=True),), ()),
    ModelSpec((TensorSpec("x", BY_NAME["FP64"], (-1, -1), missing=True),), ()),
    ModelSpec((TensorSpec("x", BY_NAME["BF16"], (-1,), missing=True),), ()),
    ModelSpec((TensorSpec("x", BY_NAME["INT64"], (-1,), missing=True),), ()),
]


WORDS = [b"[", b"]", b"{", b"}", b",", b":", b'"', b"1", b"1.5", b"null", b"NaN", b"-Infinity", b"Infinity", b"\n",
         b"\r\n", b'"x"', b'"instances":', b'"inputs":', b"true", b"\xef\xbb\xbf", b'"\\ud800"']  # fmt: skip


def assert_valid(payload: Payload, spec: ModelSpec) -> None:
    for array, tensor in zip(payload.arrays, spec.inputs, strict=True):
        assert array.dtype == tensor.dtype.numpy
        assert tensor.accepts(array.shape)
        assert array.flags.c_contiguous
        assert array.flags.aligned
        assert tensor.missing or array.dtype.kind != "f" or not np.isnan(array).any()
        assert tensor.infinite or array.dtype.kind != "f" or not np.isinf(array).any()
        if array.dtype.kind == "O":
            assert all(type(value) is str for value in array.flat)
        if spec.batchable:
            assert len(array) == payload.rows >= 1


@every_format
@settings(max_examples=25)
@given(data=st.data())
def test_any_bytes_are_a_payload_or_our_error(form: Format, data: st.DataObject) -> None:
    spec = data.draw(st.sampled_from(SPECS))
    body = data.draw(
        st.binary(max_size=200)
        | st.text("[]{}:,\"'0123456789.-e\n\r trufalsinpd", max_size=60).map(str.encode)
        | st.lists(st.sampled_from(WORDS), max_size=12).map(b"".join)
    )
    headers = [(b"inference-header-content-length", data.draw(st.sampled_from([b"0", b"2", b"-1", b"x", b"999"])))]
    for head in ([], headers):
        with suppress(*OURS):
            assert_valid(decode(form, Sent(body, head, {}), spec), spec)


HARD = [b"[" * 100_000, b"[1" + b"0" * 5_000 + b"]", b"[[1e400]]", b'{"instances":[["\\ud800"]]}']
"""JSON that parsers have failed on: deep, a long number, a large number, half a character."""


@every_format
@pytest.mark.parametrize("spec", SPECS[:5], ids=lambda spec: spec.inputs[0].dtype.name)
def test_json_that_parsers_have_failed_on_is_a_payload_or_our_error(form: Format, spec: ModelSpec) -> None:
    for body in [*HARD, b'{"instances":[{"b64":1}]}']:
        with suppress(*OURS):
            assert_valid(decode(form, plain(body), spec), spec)


@every_format
@settings(max_examples=35)
@given(data=st.data())
def test_a_damaged_body_is_a_payload_or_our_error(form: Format, data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from(["FP32", "INT64", "BYTES"]))
    spec = echo(("x", dtype, (-1, 1)))
    sent = form.send({"x": sample(dtype, (3, 1))})
    body = bytearray(sent.body)
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(body) - 1))
        piece = data.draw(st.binary(max_size=3) | st.sampled_from([*WORDS, b"9" * 30]))
        body[place : place + data.draw(st.integers(0, 2))] = piece
        if not body:
            break
    with suppress(*OURS):
        assert_valid(decode(form, Sent(bytes(body), sent.headers, {}), spec), spec)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["x", "y", "features", "data"]), inner),
    max_leaves=8,
)
KEYS = ["instances", "inputs", "dataframe_split", "dataframe_records"]


@given(value=JSON_VALUES, key=st.sampled_from(KEYS), spec=st.sampled_from(SPECS))
def test_any_json_in_any_convention_is_a_payload_or_our_error(value: Any, key: str, spec: ModelSpec) -> None:
    json_text = json.dumps({key: value}).encode()
    with suppress(*OURS):
        assert_valid(decode(FORMATS[0], plain(json_text), spec), spec)
