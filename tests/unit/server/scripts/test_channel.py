"""The channel between the server and a worker."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator

import pytest

from server.errors import ModelFailed, OutOfMemory
from server.scripts.call import Call, ScriptResponse
from server.scripts.channel import (
    HEAD,
    INLINE_BYTES,
    Channel,
    ChannelBroken,
    decode_calls,
    decode_responses,
    encode_calls,
    encode_error,
    encode_responses,
)
from server.scripts.worker_main import WorkerSession

Ends = tuple[Channel, Channel, socket.socket]


@pytest.fixture
def ends() -> Iterator[Ends]:
    one, other = socket.socketpair()
    with one, other:
        yield Channel(one), Channel(other), one


@pytest.mark.parametrize("size", [0, 1, INLINE_BYTES, INLINE_BYTES + 1, 5_000_000])
def test_bodies_of_any_size_arrive(ends: Ends, size: int) -> None:
    body = os.urandom(size)
    sender = threading.Thread(target=ends[0].send, args=({"n": 1}, [body, b"x", b""]))
    sender.start()
    assert ends[1].receive(10.0) == ({"n": 1}, [body, b"x", b""])
    sender.join()


def test_large_bodies_leave_no_descriptor_behind(ends: Ends) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        ends[0].send([], [b"x" * 1_000_000])
        ends[1].receive(10.0)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_side_that_is_gone_or_talks_nonsense_is_told(ends: Ends) -> None:
    ends[0].send([])
    ends[1].close()
    with pytest.raises(ChannelBroken) as told:
        ends[0].receive(1.0)
    assert told.value.unread
    with pytest.raises(ChannelBroken) as told:
        ends[0].send([])
    assert told.value.unread


@pytest.mark.parametrize("raw", [b"", HEAD.pack(2, 0, False) + b"{}", HEAD.pack(2, 9, True) + b"{}", b"\xff" * 40])
def test_nonsense_is_never_taken_for_a_message(ends: Ends, raw: bytes) -> None:
    ends[2].sendall(raw)
    ends[2].shutdown(socket.SHUT_WR)
    with pytest.raises(ChannelBroken):
        ends[1].receive(1.0)


def test_a_side_that_is_silent_times_out(ends: Ends) -> None:
    with pytest.raises(TimeoutError):
        ends[1].receive(0.001)


def test_calls_and_answers_arrive_as_they_were(ends: Ends) -> None:
    call = Call(b"\xff", None, "a/b", [(b"k", b"\xe4")], "id", "latin-1")
    assert decode_calls(encode_calls([call]), WorkerSession) == [call]
    ends[0].send(*encode_responses([ScriptResponse(b"y", "a/b", 201, [(b"k", b"\xe4")], None, 5, 6)]))
    (response,) = decode_responses(ends[1].receive(1.0))
    assert (response.body, response.status, response.headers, response.decode_ns, response.encode_ns) == (
        *(b"y", 201, [(b"k", b"\xe4")]),
        *(5, 6),
    )


def test_errors_arrive_with_their_class_and_words() -> None:
    rows, blobs = encode_responses([ScriptResponse(error=OutOfMemory("too much"))])
    (response,) = decode_responses((rows, blobs))
    assert isinstance(response.error, OutOfMemory)
    assert str(response.error) == "too much"
    with pytest.raises(ModelFailed, match="KeyError"):
        decode_responses(({"raised": encode_error(KeyError("secret"))}, []))
    with pytest.raises(ChannelBroken):
        decode_responses(({"answers": [{}]}, [b""]))
