"""The conversion process: results and errors are those of a call here, whatever the process does."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from server.codecs.json import Json
from server.codecs.open_inference import OpenInference
from server.conversion import message
from server.conversion.child import check_size
from server.conversion.process import ConversionProcess
from server.errors import BodyTooLarge, DeadlineExceeded, MalformedInput, OutOfMemory, SlipwayError
from server.request import Head, Payload
from server.tensors import BY_NAME, RAW_BYTES, ModelSpec, TensorSpec

HEAD = Head(b"POST", b"/invocations", [])


@pytest.fixture(scope="module")
def process() -> Iterator[ConversionProcess]:
    one = ConversionProcess()
    yield one
    one.close()


def spec(dtype: Any) -> ModelSpec:
    return ModelSpec((TensorSpec("x", dtype, (-1, -1)),), (TensorSpec("x", dtype, (-1, -1)),))


def test_a_body_is_read_there_as_here(process: ConversionProcess) -> None:
    body = b'{"instances":[[' + b"0.25," * 20_000 + b"1]]}"
    there = process.call(Json().decode, body, HEAD, {}, spec(BY_NAME["FP32"]))
    here = Json().decode(body, HEAD, {}, spec(BY_NAME["FP32"]))
    assert (there.rows, there.style, there.arrays[0].dtype) == (here.rows, here.style, here.arrays[0].dtype)
    assert np.array_equal(there.arrays[0], here.arrays[0])


@pytest.mark.parametrize("dtype", [BY_NAME["BYTES"], RAW_BYTES], ids=["text", "bytes"])
def test_strings_and_the_identity_of_a_dtype_survive_the_way(process: ConversionProcess, dtype: Any) -> None:
    array = np.array([[b"a" if dtype is RAW_BYTES else "é"] * (2 * message.PIECE + 1)], object)
    form = Payload((), 1)
    body, media_type, _ = process.call(OpenInference().encode, [array], form, spec(dtype), "m", "1")
    length = media_type.decode().partition("=")[2]
    body = body.replace(b'"outputs"', b'"inputs" ', 1)
    payload = process.call(OpenInference().decode, body, HEAD, {"json-header-size": length}, spec(dtype))
    assert payload.arrays[0].tolist() == array.tolist()


def test_a_refusal_is_the_codec_s_own(process: ConversionProcess) -> None:
    with pytest.raises(MalformedInput, match="not JSON"):
        process.call(Json().decode, b"[", HEAD, {}, spec(BY_NAME["FP32"]))


def test_an_unexpected_error_names_what_was_raised(process: ConversionProcess) -> None:
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        process.call(divmod, 1, 0)


def test_a_process_that_the_system_kills_fails_one_call_and_is_started_again(process: ConversionProcess) -> None:
    assert process.call(divmod, 7, 2) == (3, 1)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    with pytest.raises(OutOfMemory):
        process.call(divmod, 7, 2)
    assert process.call(divmod, 7, 2) == (3, 1)


def test_a_call_that_ends_every_process_fails_and_the_next_one_does_not(process: ConversionProcess) -> None:
    with pytest.raises(SlipwayError, match="could not be read"):
        process.call(os._exit, 1)
    assert process.call(divmod, 7, 2) == (3, 1)


@pytest.mark.parametrize("end", [signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS])
def test_a_call_that_native_code_ends_is_a_refusal(process: ConversionProcess, end: signal.Signals) -> None:
    with pytest.raises(BodyTooLarge, match="send less"):
        process.call(signal.raise_signal, end)
    assert process.call(divmod, 7, 2) == (3, 1)


def test_an_array_of_many_rows_is_written_within_the_limit(process: ConversionProcess) -> None:
    rows = 3_000_000  # orjson at once would take 300 MB, and 100 bytes a row beyond that
    text = process.call(
        Json().encode, [np.ones((rows, 1), np.float32)], Payload((), rows), spec(BY_NAME["FP32"]), "m", "1"
    )[0]
    assert text == b'{"predictions":[' + b"[1.0]," * (rows - 1) + b"[1.0]]}"


def test_more_memory_than_the_limit_is_a_refusal(process: ConversionProcess) -> None:
    with pytest.raises(BodyTooLarge, match="send less"):
        process.call(bytearray, 1 << 40)
    assert process.call(divmod, 7, 2) == (3, 1)


def test_a_call_that_takes_too_long_ends_the_process() -> None:
    slow = ConversionProcess(timeout_s=1e-6)  # every call takes longer
    with pytest.raises(DeadlineExceeded):
        slow.call(divmod, 7, 2)
    assert slow.pid is None


def test_the_values_of_a_result_are_bounded_with_their_strings() -> None:
    check_size(Payload((np.zeros(10),), 1), 80)
    with pytest.raises(BodyTooLarge):
        check_size(Payload((np.zeros(11),), 1), 80)
    with pytest.raises(BodyTooLarge):
        check_size(Payload((np.array(["a"] * 10, object),), 1), 100)


def test_a_message_keeps_bytes_arrays_and_empty_values() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        large = bytes(message.BESIDE_BYTES)
        message.send(ours, [large, b"", np.arange(6).reshape(2, 3), np.array([], object), None])
        first, empty, array, none, last = message.receive(theirs)
        assert (first, empty, array.tolist(), none.shape, last) == (large, b"", [[0, 1, 2], [3, 4, 5]], (0,), None)
        ours.close()
        with pytest.raises(message.Closed):
            message.receive(theirs)


def _dies_in_this_process(pid: int) -> int:
    if os.getpid() == pid:
        os._exit(1)
    return os.getpid()


def test_a_used_process_that_dies_costs_no_answer(process: ConversionProcess) -> None:
    process.call(abs, -1)
    first = process.pid
    assert first is not None
    assert process.call(_dies_in_this_process, first) == process.pid != first
