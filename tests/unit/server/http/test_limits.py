"""The accounts of received bytes and the number of connections, without a connection."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.errors import SlipwayError
from server.http.limits import (
    EXAMINED,
    FRAMING_BYTES,
    IDLE_NS,
    ConnectionAccount,
    Connections,
    ProcessAccount,
    content_length,
)

HEAD, BODY = 1_000, 10_000


def account(limit: int = 1_000_000) -> tuple[ConnectionAccount, ProcessAccount]:
    process = ProcessAccount(limit)
    return ConnectionAccount(process, HEAD, BODY), process


def read(one: ConnectionAccount, size: int, body: int = 0, *, begins: bool = False, completes: bool = False) -> None:
    """What a connection does for a chunk of ``size`` bytes, ``body`` of which belong to a body."""
    one.chunk_at = one.received
    one.received += size
    if completes:
        one.completed_at = one.chunk_at
    if begins:
        one.begun_at = one.chunk_at
        one.size = 0
    one.size += body
    one.read_on()


def code(error: SlipwayError | None) -> str | None:
    return error.code if error is not None else None


def test_a_head_may_have_as_many_bytes_as_the_limit() -> None:
    one, _ = account()
    read(one, HEAD, begins=True)
    assert one.unfinished_head_error(b"/", []) is None
    read(one, 1)
    assert code(one.unfinished_head_error(b"/", [(b"a", b"b")])) == "head_too_large"


def test_a_head_of_which_only_the_url_has_arrived_is_refused_for_its_url() -> None:
    one, _ = account()
    read(one, HEAD + 1, begins=True)
    assert code(one.unfinished_head_error(b"/" * 900, [])) == "url_too_long"


def test_bytes_of_the_request_before_it_do_not_count() -> None:
    one, _ = account()
    read(one, 50 * HEAD, begins=True, completes=True)
    assert one.unfinished_head_error(b"/", []) is None
    read(one, HEAD)
    assert one.unfinished_head_error(b"/", []) is None
    read(one, 1)
    assert code(one.unfinished_head_error(b"/", [(b"a", b"b")])) == "head_too_large"


@pytest.mark.parametrize(("size", "refused"), [(HEAD - 14, None), (HEAD - 13, "head_too_large")])
def test_a_complete_head_is_measured_exactly(size: int, refused: str | None) -> None:
    one, _ = account()
    assert code(one.head_error(b"/pathpath", [(b"n", b"v" * size)])) == refused


def test_the_announced_size_refuses_a_body_before_it_arrives() -> None:
    one, _ = account()
    read(one, 100, begins=True)
    one.announced = BODY + 1
    assert code(one.unfinished_body_error()) == "body_too_large"


def test_trailers_and_extensions_without_body_are_bounded_as_a_head() -> None:
    one, _ = account()
    read(one, 100, begins=True)
    read(one, 50, 40)
    assert one.unfinished_body_error() is None
    for _ in range(4):
        read(one, HEAD // 2)
        assert one.unfinished_body_error() is None
    read(one, 1)
    assert code(one.unfinished_body_error()) == "head_too_large"


def test_the_framing_of_tiny_chunks_may_be_little_larger_than_the_body() -> None:
    one, _ = account()
    read(one, 100, begins=True)
    body = framing = 0
    while (error := one.unfinished_body_error()) is None:
        read(one, 700, 20)
        body, framing = body + 20, framing + 680
    assert code(error) == "body_too_large"
    assert body < BODY
    assert FRAMING_BYTES < framing < body + FRAMING_BYTES + HEAD + 1_000


def test_a_body_is_refused_when_all_connections_together_hold_too_much() -> None:
    one, process = account(limit=20_000)
    other = ConnectionAccount(process, HEAD, BODY)
    for connection in (one, other):
        read(connection, 9_000, 8_900, begins=True)
        assert connection.unfinished_body_error() is None
        connection.hold(receiving=True)
    assert process.held_bytes == 18_000
    third = ConnectionAccount(process, HEAD, BODY)
    read(third, 9_000, 8_900, begins=True)
    assert code(third.unfinished_body_error()) == "server_full"
    one.size = 0
    one.hold(receiving=False)
    assert third.unfinished_body_error() is None


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9_000), st.booleans()), max_size=40))
def test_the_account_of_the_process_is_the_sum_of_its_connections(moves: list[tuple[int, int, bool]]) -> None:
    process = ProcessAccount()
    connections = [ConnectionAccount(process, HEAD, BODY) for _ in range(4)]
    for index, size, receiving in moves:
        read(connections[index], size, size, begins=True)
        connections[index].hold(receiving)
        assert process.held_bytes == sum(one.held_bytes for one in connections)
    for one in connections:
        one.hold(receiving=False)
    assert process.held_bytes == 0
    assert process.peak_bytes >= 0


@pytest.mark.parametrize(("value", "size"), [(b"12", 12), (b"-1", 0), (b"1e9", 0), (b"9" * 19, 0), (b"", 0)])
def test_an_announced_size_is_a_plain_number(value: bytes, size: int) -> None:
    assert content_length([(b"host", b"x"), (b"content-length", value)]) == size


class Peer:
    """A connection that has been idle for so long."""

    def __init__(self, idle_ns: int = 0) -> None:
        self.idle = idle_ns
        self.closed = False

    def idle_ns(self) -> int:
        return self.idle

    def close_idle(self) -> None:
        self.closed = True


def test_a_new_connection_replaces_an_idle_one_and_not_a_busy_one() -> None:
    connections = Connections(3)
    busy, idle, fresh = Peer(), Peer(IDLE_NS), Peer(IDLE_NS - 1)
    assert all(connections.admit(one) for one in (busy, fresh, idle))
    assert connections.admit(Peer())
    assert (busy.closed, fresh.closed, idle.closed) == (False, False, True)
    assert not connections.admit(Peer())
    assert (len(connections), connections.refused) == (3, 1)
    connections.leave(busy)
    assert connections.admit(Peer())
    assert connections.accepted == 5


def test_the_search_for_an_idle_connection_is_short_and_goes_on_where_it_ended() -> None:
    peers = [Peer() for _ in range(EXAMINED)] + [Peer(IDLE_NS)]
    connections = Connections(len(peers))
    assert all(connections.admit(one) for one in peers)
    assert not connections.admit(Peer())
    assert connections.admit(Peer())
    assert peers[-1].closed
