"""RecordIO-protobuf: golden bytes, random bytes, and every way in which a record can be wrong."""

from __future__ import annotations

import struct
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.codecs import record_message, recordio_protobuf
from server.codecs.record_message import Value, read_record, write_record
from server.codecs.recordio import MAGIC, read_frames, write_frames
from server.codecs.recordio_protobuf import RecordIOProtobuf
from server.errors import BodyTooLarge, MalformedInput, NotAcceptable
from server.request import Head, Payload
from server.tensors import BY_NAME, Array, ModelSpec, TensorSpec

HEAD = Head(b"POST", b"/", [])
MAGIC_BYTES = b"\x0a\x23\xd7\xce"
X = TensorSpec("x", BY_NAME["FP32"], (-1, 3))
SPEC = ModelSpec((X,), (X,))
CODEC = RecordIOProtobuf()

# Record { features { "values": { float32_tensor { values: [1, 2, 3] } } }  label { "values": { float32 [1] } } }, as
# protobuf's own library writes it.
DENSE = bytes.fromhex("0a1a0a0676616c7565731210120e0a0c0000803f0000004000004040") + bytes.fromhex(
    "12120a0676616c756573120812060a040000803f"
)
# The same features sparse: keys [0, 2], shape [3], values [1, 3].
SPARSE = bytes.fromhex("0a1d0a0676616c756573121312110a080000803f00004040120200021a0103")


def framed(record: bytes, flag: int = 0) -> bytes:
    return MAGIC_BYTES + struct.pack("<I", flag << 29 | len(record)) + record + bytes(-len(record) % 4)


def decode(body: bytes, spec: ModelSpec = SPEC) -> Payload:
    return CODEC.decode(body, HEAD, {}, spec)


def test_a_dense_and_a_sparse_record_are_rows() -> None:
    payload = decode(framed(DENSE) + framed(SPARSE))
    assert payload.rows == 2
    assert payload.arrays[0].tolist() == [[1, 2, 3], [1, 0, 3]]


def test_rows_are_written_as_labels() -> None:
    y = TensorSpec("y", BY_NAME["FP32"], (-1, 1))
    body, content_type, _ = CODEC.encode(
        [np.array([[1.0]], np.float32)], Payload((), 1), ModelSpec((X,), (y,)), "m", "1"
    )
    assert content_type == b"application/x-recordio-protobuf"
    assert body == framed(bytes.fromhex("120d0a0179120812060a040000803f"))


def test_integers_are_varints() -> None:
    record = write_record({"l": Value(np.array([1, -1, 300], np.int32))})
    assert record == bytes.fromhex("12160a016c12113a0f0a0d01ffffffffffffffffff01ac02")


def test_a_class_number_of_64_bits_is_written_as_int32_and_a_large_one_as_float64() -> None:
    label = TensorSpec("l", BY_NAME["INT64"], (-1,))
    spec = ModelSpec((X,), (label,))

    def field(value: int) -> int:
        body = CODEC.encode([np.array([value])], Payload((), 1), spec, "m", "1")[0]
        return body[8 + 2 + 3 + 2] >> 3

    assert (field(7), field(1 << 40)) == (7, 3)
    with pytest.raises(NotAcceptable, match="x-npz"):
        field((1 << 60) + 1)


def test_a_list_may_come_one_value_a_field() -> None:
    value = bytes.fromhex("0d0000803f0d000000400d00004040")
    tensor = bytes([0x12, len(value)]) + value
    entry = b"\x0a\x01x" + bytes([0x12, len(tensor)]) + tensor
    assert decode(framed(bytes([0x0A, len(entry)]) + entry)).arrays[0].tolist() == [[1, 2, 3]]


def test_bytes_are_text() -> None:
    words = TensorSpec("w", BY_NAME["BYTES"], (-1, 1))
    entry = b"\x0a\x01w" + b"\x12\x06" + b"\x4a\x04" + b"\x0a\x02\xc3\xbc"
    payload = decode(framed(bytes([0x0A, len(entry)]) + entry), ModelSpec((words,), (words,)))
    assert payload.arrays[0].tolist() == [["ü"]]


@pytest.mark.parametrize("size", range(9))
def test_records_are_padded_to_four(size: int) -> None:
    records = [bytes(range(size)), b"end"]
    body = write_frames(records)
    assert len(body) % 4 == 0
    assert [bytes(record) for _, record in read_frames(body)] == records


def test_a_record_with_the_magic_number_is_cut_there() -> None:
    record = b"abcd" + MAGIC_BYTES + b"ef" + MAGIC_BYTES + b"gh" + MAGIC_BYTES
    body = write_frames([record])
    assert body == framed(b"abcd", 1) + framed(b"ef" + MAGIC_BYTES + b"gh", 2) + framed(b"", 3)
    assert [bytes(found) for _, found in read_frames(body)] == [record]
    assert MAGIC_BYTES not in [body[at : at + 4] for at in range(4, len(body), 4) if not is_head(body, at)]


def is_head(body: bytes, at: int) -> bool:
    """Whether a frame begins here, by counting frames and not by looking for the magic number."""
    place = 0
    while place < at:
        length = struct.unpack_from("<I", body, place + 4)[0] & (1 << 29) - 1
        place += 8 + length + -length % 4
    return place == at


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "empty"),
        (b"abc", "3 bytes are left at byte 0"),
        (b"nonsense", "expected the magic number 0xced7230a at byte 0"),
        (framed(DENSE) + b"nonsense", f"at byte {len(framed(DENSE))}"),
        (framed(DENSE)[:-4], "announces"),
        (framed(b"abc")[:-1], "announces 3 bytes, padded to 4, and 3 follow"),
        (framed(DENSE, 2), "flag 2, which does not follow"),
        (framed(DENSE, 7), "flag 7"),
        (framed(DENSE, 1), "no last part"),
        (framed(DENSE, 1) + framed(DENSE), "flag 0, which does not follow"),
        (framed(b"\x0a"), "record 0 .byte 0.: a number does not end"),
        (framed(DENSE) + framed(b"\x0a\x7f"), f"record 1 .byte {len(framed(DENSE))}.: a field of 127 bytes"),
        (framed(b"\x00\x00"), "number 0"),
        (framed(b"\x0b\x00"), "wire type 3"),
        (framed(b"\x08\x01"), "wire type 0 instead of 2"),
        (framed(b"\xff" * 12), "does not end"),
        (framed(b""), 'input "x" is missing'),
        (framed(b"\x0a\x05\x0a\x01z\x12\x00"), "holds no tensor"),
        (framed(b"\x0a\x09\x0a\x01x\x12\x04\x12\x02\x0a\x00"), 'input "x" has 0 values, expected .3. a row'),
        (framed(b"\x0a\x0a\x0a\x01x\x12\x05\x12\x03\x0a\x01a"), "1 bytes are no list of float32"),
        (framed(DENSE) + framed(DENSE.replace(b"values", b"valuez")), "record 1 .* unknown input"),
        (framed(SPARSE.replace(b"\x12\x02\x00\x02", b"\x12\x02\x00\x03")), "key 3, and 3 values a row"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(body: bytes, message: str) -> None:
    with pytest.raises(MalformedInput, match=message):
        decode(body)


def test_sparse_rows_do_not_expand_without_bound() -> None:
    free = TensorSpec("x", BY_NAME["FP32"], (-1, -1))
    spec = ModelSpec((free,), (free,))
    shape = b"\x1a\x05\xff\xff\xff\xff\x0f"
    tensor = b"\x0a\x04\x00\x00\x80\x3f\x12\x01\x00" + shape
    entry = b"\x0a\x01x\x12" + bytes([len(tensor) + 2]) + b"\x12" + bytes([len(tensor)]) + tensor
    with pytest.raises(MalformedInput, match="expands beyond"):
        decode(framed(b"\x0a" + bytes([len(entry)]) + entry), spec)
    with pytest.raises(MalformedInput, match="expands beyond"):
        RecordIOProtobuf(max_expanded_bytes=20).decode(framed(SPARSE) * 2, HEAD, {}, SPEC)


@given(
    st.lists(
        st.binary(max_size=30) | st.sampled_from([MAGIC_BYTES, MAGIC_BYTES * 2, b"abcd" + MAGIC_BYTES]), max_size=4
    )
)
def test_any_records_survive_the_framing(records: list[bytes]) -> None:
    assert [bytes(record) for _, record in read_frames(write_frames(records))] == records


@given(st.binary(max_size=80))
def test_any_bytes_are_a_record_or_our_error(record: bytes) -> None:
    with suppress(MalformedInput):
        read_record(memoryview(record))
    with suppress(MalformedInput):
        decode(framed(record))


@given(
    st.dictionaries(
        st.text(max_size=4),
        st.lists(st.integers(-(2**31), 2**31 - 1), max_size=5).map(lambda row: np.array(row, np.int32))
        | st.lists(st.floats(width=32), max_size=5).map(lambda row: np.array(row, np.float32))
        | st.lists(st.floats(), max_size=5).map(lambda row: np.array(row, np.float64)),
        max_size=3,
    )
)
def test_any_tensors_survive_both_ways(tensors: dict[str, Array]) -> None:
    written = write_record({name: Value(array, keys=(1, 300), shape=(2, 0)) for name, array in tensors.items()})
    # What is written as labels reads as features when only the field's number is changed.
    found = read_record(memoryview(as_features(written)))
    assert found.keys() == tensors.keys()
    for name, value in found.items():
        assert value.values.tobytes() == tensors[name].tobytes()
        assert (value.keys, value.shape) == ((1, 300), (2, 0))


def as_features(record: bytes) -> bytes:
    out, at = b"", 0
    while at < len(record):
        assert record[at] == 0x12
        size, end = 0, at + 1
        for shift in range(0, 28, 7):
            size |= (record[end] & 0x7F) << shift
            end += 1
            if record[end - 1] < 0x80:
                break
        out += b"\x0a" + record[at + 1 : end + size]
        at = end + size
    return out


def test_the_magic_number_is_the_formats() -> None:
    assert struct.pack("<I", MAGIC) == MAGIC_BYTES


def test_the_expanded_size_is_that_of_dense_rows() -> None:
    """Two numbers of a sparse row may stand for a million."""
    wide = ModelSpec((TensorSpec("x", BY_NAME["FP32"], (-1, 1_000_000)),), SPEC.outputs)
    body = framed(SPARSE) * 3
    assert RecordIOProtobuf().expanded_bytes(body, wide) == 12_000_000
    assert RecordIOProtobuf(5_000_000).expanded_bytes(body, wide) == 5_000_000
    free = ModelSpec((TensorSpec("x", BY_NAME["FP32"], (-1, -1)),), SPEC.outputs)
    assert RecordIOProtobuf(5_000_000).expanded_bytes(body, free) == 5_000_000


def packed(numbers: list[int]) -> bytes:
    """Numbers as varints, by the definition of the format."""
    out = bytearray()
    for number in numbers:
        while number > 0x7F:
            out.append(number & 0x7F | 0x80)
            number >>= 7
        out.append(number)
    return bytes(out)


@given(st.lists(st.one_of(st.integers(0, 300), st.integers(0, (1 << 64) - 1)), max_size=30))
def test_packed_numbers_read_back(numbers: list[int]) -> None:
    assert record_message._varints(memoryview(packed(numbers)), 0).tolist() == numbers


@pytest.mark.parametrize(
    ("data", "place"), [(b"\x80", 0), (b"\x01\x80", 1), (b"\x01" + b"\xff" * 10 + b"\x01", 1), (b"\xff" * 20, 0)]
)
def test_a_packed_number_that_does_not_end_is_refused(data: bytes, place: int) -> None:
    with pytest.raises(MalformedInput, match=f"does not end at byte {100 + place} "):
        record_message._varints(memoryview(data), 100)


def test_too_many_records_are_refused_before_any_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recordio_protobuf, "_MAX_RECORDS", 2)
    assert CODEC.decode(framed(DENSE) * 2, HEAD, {}, SPEC).rows == 2
    with pytest.raises(BodyTooLarge, match="more than 2 records"):
        CODEC.decode(framed(b"\xff") * 3, HEAD, {}, SPEC)
