"""HTTP/2 for gRPC, frame by frame: what goes in through a fake transport, and what must come out."""

from __future__ import annotations

import logging
import random
from itertools import pairwise
from typing import Any

import pytest
from hpack import Encoder
from hypothesis import given
from hypothesis import strategies as st

from server.grpc import connection, flood, frames
from server.http.limits import Connections, ProcessAccount
from tests.fakes import FakeLoop
from tests.unit.server.grpc.peer import (
    OPENING,
    Frame,
    Peer,
    Service,
    block,
    call,
    data,
    headers,
    literal,
    message,
    parsed,
    response,
)

PING = frames.frame(frames.PING, 0, 0, b"12345678")
PLAIN = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/echo")]
CANCEL = 8


def status_of(found: list[Frame]) -> tuple[str, str]:
    """Code and message of a response of trailers alone."""
    assert [one.kind for one in found][:1] == [frames.HEADERS]
    payload = found[0].payload
    code, _, rest = payload.partition(b"grpc-status")[2].partition(b"\x00")
    text = rest.partition(b"grpc-message")[2]
    return code[1:].decode(), text[1:].decode("latin-1")


def test_a_call_is_one_write_of_known_bytes() -> None:
    peer = Peer()
    assert [one.kind for one in peer.opened] == [frames.SETTINGS, frames.WINDOW_UPDATE, frames.SETTINGS]
    assert peer.opened[-1].flags == frames.ACK
    assert peer.send(call(1) + call(3, b"")) == response(1) + response(3, b"")
    assert peer.service.bodies == [b"hello", b""]


def test_responses_of_one_turn_share_a_write() -> None:
    peer = Peer()
    peer.send(b"".join(call(number, path=b"/hold") for number in (1, 3, 5)))
    writes: list[bytes] = []
    peer.transport.write = writes.append  # type: ignore[method-assign,assignment]
    for held, _ in peer.service.held:
        held.respond(b"late")
    peer.loop.turn()
    assert [parsed(one) for one in writes] == [[*response(1, b"late"), *response(3, b"late"), *response(5, b"late")]]


def dialogue() -> bytes:
    """The bytes of a client that uses whatever HTTP/2 allows."""
    whole = block(b"/echo", (b"x-note", b"n"))
    parts = [
        frames.frame(frames.HEADERS, 0, 5, whole[:3]),
        frames.frame(frames.CONTINUATION, 0, 5, b""),
        frames.frame(frames.CONTINUATION, frames.END_HEADERS, 5, whole[3:]),
        data(5, message(b"split")[:2], last=False),
        frames.frame(frames.PRIORITY, 0, 9, bytes(5)),
        data(5, message(b"split")[2:], last=False),
        headers(5, literal(b"x-trailer", b"1"), frames.END_HEADERS | frames.END_STREAM),
    ]
    padded = frames.frame(frames.DATA, frames.PADDED | frames.END_STREAM, 7, b"\x03" + message(b"padded") + bytes(3))
    urgent = frames.PADDED | frames.PRIORITIZED | frames.END_HEADERS
    head = frames.frame(frames.HEADERS, urgent, 7, b"\x02" + bytes(5) + block() + bytes(2))
    chat = headers(9, block(b"/chat")) + data(9, message(b"a") + message(b"b") + message(b"c")[:4], last=False)
    return b"".join(
        [
            *(
                OPENING,
                frames.window_update(0, 1_000),
                call(1),
                PING,
                call(3, bytes(15_000)),
                *parts,
                head,
                padded,
                chat,
            ),
            *(
                frames.frame(0xBE, 0xFF, 5, b"unknown"),
                frames.settings({4: 70_000, 0xAA: 1}),
                data(9, message(b"c")[4:]),
            ),
            *(call(11, b"", b"/none"), frames.reset(11, CANCEL), frames.window_update(11, 5), call(13, b"end")),
        ]
    )


def answered(pieces: list[bytes]) -> list[Frame]:
    peer = Peer(opening=b"")
    for one in pieces:
        peer.protocol.data_received(one)
    peer.loop.turn()
    found = parsed(peer.transport.take())
    peer.close()
    assert peer.service.hot.account.held_bytes == peer.service.port.unsent.held_bytes == peer.service.port.calls == 0
    return found


WHOLE = dialogue()
EXPECTED = answered([WHOLE])


def test_a_dialogue_is_understood() -> None:
    by_stream = {number: [one for one in EXPECTED if one.stream == number] for number in (1, 3, 5, 7, 9, 13)}
    assert by_stream[3] == response(3, bytes(15_000))
    assert by_stream[5] == response(5, b"split")
    assert by_stream[7] == response(7, b"padded")
    assert b"".join(one.payload for one in by_stream[9] if one.kind == frames.DATA) == b"".join(
        map(message, [b"a", b"b", b"c"])
    )
    assert by_stream[13] == response(13, b"end")


@given(st.lists(st.integers(0, len(WHOLE)), max_size=40))
def test_bytes_mean_the_same_however_they_are_split(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(WHOLE)]
    assert answered([WHOLE[begin:end] for begin, end in pairwise(edges)]) == EXPECTED


def test_bytes_mean_the_same_one_by_one() -> None:
    small = OPENING + call(1) + PING + call(3)
    assert answered([bytes((one,)) for one in small]) == answered([small])


PAYLOADS = [block(), block(b"/chat"), message(b"x"), message(b"x", 1), b"\x3f\xff\xff\xff\xff\xff"]
FRAMES = st.builds(
    frames.frame,
    st.integers(0, 11),
    st.sampled_from([0, 1, 4, 5, 8, 0x20, 0x2D, 0xFF]),
    st.sampled_from([0, 1, 2, 3, 5, 2**31 - 1]),
    st.one_of(st.binary(max_size=12), st.sampled_from(PAYLOADS)),
)


@given(st.lists(FRAMES, max_size=12), st.integers(0, len(WHOLE)), st.binary(max_size=6))
def test_no_bytes_cause_an_exception_or_harm_a_neighbour(
    caplog: pytest.LogCaptureFixture, sent: list[bytes], at: int, noise: bytes
) -> None:
    service = Service()
    neighbour = Peer(service)
    for hostile in (OPENING + b"".join(sent) + noise, WHOLE[:at] + noise + WHOLE[at + len(noise) :]):
        peer = Peer(service, opening=b"")
        peer.protocol.data_received(hostile)
        peer.loop.turn()
        peer.close()
    assert neighbour.send(call(1)) == response(1)
    neighbour.close()
    assert service.hot.account.held_bytes == service.port.unsent.held_bytes == service.port.calls == 0
    assert not [one for one in caplog.records if one.levelno >= logging.WARNING]


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (frames.frame(frames.DATA, 1, 0, b""), frames.PROTOCOL_ERROR),
        (frames.frame(frames.DATA, 1, 1, b""), frames.PROTOCOL_ERROR),
        (frames.frame(frames.DATA, 8, 1, b""), frames.PROTOCOL_ERROR),
        (headers(2), frames.PROTOCOL_ERROR),
        (headers(0), frames.PROTOCOL_ERROR),
        (headers(1, flags=0) + PING, frames.PROTOCOL_ERROR),
        (headers(1, flags=0) + frames.frame(frames.CONTINUATION, 4, 3, b""), frames.PROTOCOL_ERROR),
        (frames.frame(frames.CONTINUATION, 4, 1, b""), frames.PROTOCOL_ERROR),
        (headers(1, b"\xff\xff\xff\xff\xff"), frames.COMPRESSION_ERROR),
        (headers(1, b"\xc6"), frames.COMPRESSION_ERROR),
        (frames.reset(1, CANCEL), frames.PROTOCOL_ERROR),
        (frames.frame(frames.RST_STREAM, 0, 1, b"123"), frames.FRAME_SIZE_ERROR),
        (frames.frame(frames.PING, 0, 0, b"123"), frames.FRAME_SIZE_ERROR),
        (frames.frame(frames.PING, 0, 1, b"12345678"), frames.PROTOCOL_ERROR),
        (frames.frame(frames.SETTINGS, 0, 0, b"12345"), frames.FRAME_SIZE_ERROR),
        (frames.frame(frames.SETTINGS, 1, 0, b"123456"), frames.FRAME_SIZE_ERROR),
        (frames.settings({2: 2}), frames.PROTOCOL_ERROR),
        (frames.settings({4: 1 << 31}), frames.FLOW_CONTROL_ERROR),
        (frames.settings({5: 100}), frames.PROTOCOL_ERROR),
        (frames.window_update(0, 0), frames.PROTOCOL_ERROR),
        (frames.window_update(0, frames.MOST_WINDOW), frames.FLOW_CONTROL_ERROR),
        (frames.window_update(1, 5), frames.PROTOCOL_ERROR),
        (frames.frame(frames.PUSH_PROMISE, 4, 1, bytes(4)), frames.PROTOCOL_ERROR),
        (frames.frame_head(frames.DATA, 0, 1, 16_385), frames.FRAME_SIZE_ERROR),
        (frames.frame(frames.PRIORITY, 0, 1, b"1"), frames.FRAME_SIZE_ERROR),
        (call(1) + call(1), frames.ENHANCE_YOUR_CALM),
    ],
)
def test_a_broken_rule_of_the_connection_ends_it_and_is_counted(sent: bytes, code: int) -> None:
    if code == frames.ENHANCE_YOUR_CALM:  # a stream that is over may be named, but not for ever
        sent *= flood.BURST
    peer = Peer()
    assert peer.ending(sent) == code
    assert peer.service.hot.refused == {"malformed_input": 1}
    peer.protocol.leave()
    assert peer.send(call(9)) == []


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (headers(1, block(method=b"")), frames.PROTOCOL_ERROR),
        (headers(1, block(b"/echo", (b"X-Upper", b"1"))), frames.PROTOCOL_ERROR),
        (headers(1, block(b"/echo", (b"connection", b"close"))), frames.PROTOCOL_ERROR),
        (headers(1, block(b"/echo", (b":path", b"/echo"))), frames.PROTOCOL_ERROR),
        (headers(1, block(b"/echo", (b"te", b"gzip"))), frames.PROTOCOL_ERROR),
        (headers(1, block(b"/echo", (b"x-line", b"a\nb"))), frames.PROTOCOL_ERROR),
        (headers(1, block(b"/echo", (b"grpc-timeout", b"5x"))), frames.PROTOCOL_ERROR),
        (headers(1) + headers(1), frames.PROTOCOL_ERROR),
        (headers(1) + frames.window_update(1, 0), frames.PROTOCOL_ERROR),
        (headers(1) + frames.window_update(1, frames.MOST_WINDOW), frames.FLOW_CONTROL_ERROR),
        (call(1, path=b"/hold") + data(1, b"more"), frames.STREAM_CLOSED),
        (call(1, path=b"/hold") + headers(1), frames.STREAM_CLOSED),
    ],
)
def test_a_broken_rule_of_a_stream_ends_only_that_stream(sent: bytes, code: int) -> None:
    peer = Peer()
    assert peer.send(sent) == parsed(frames.reset(1, code))
    assert peer.send(call(3)) == response(3)


@pytest.mark.parametrize(
    ("sent", "code", "says"),
    [
        (call(1, path=b"/none"), "12", "no such method"),
        (headers(1, flags=5), "3", "no message"),
        (headers(1) + data(1, message(b"a") + message(b"b")), "3", "two messages"),
        (headers(1) + data(1, b"\0\0\0\0\x09abc"), "3", "cut off"),
        (headers(1) + data(1, message(b"a", 7)), "3", "no gRPC messages"),
        (headers(1) + data(1, message(b"a", 1)), "3", "names no encoding"),
        (headers(1, block(b"/echo", (b"grpc-encoding", b"snappy"))) + data(1, message(b"a", 1)), "12", "gzip"),
        (headers(1) + data(1, b"\0\x7f\xff\xff\xff", last=False), "8", "larger than"),
        (call(1, path=b"/break"), "13", "its log has the details"),
        (headers(1, block(b"/echo", *[(b"x-%d" % one, b"") for one in range(120)])), "8", "more than 100 fields"),
        (
            headers(1, block(b"/echo", *[(b"x-%d" % one, b"v" * 100) for one in range(50)])),
            "8",
            "of the 4000",
        ),
    ],
)
def test_a_call_that_cannot_be_served_has_a_code_and_a_sentence(sent: bytes, code: str, says: str) -> None:
    peer = Peer(max_head_bytes=4_000, max_body_bytes=1_000)
    found = peer.send(sent)
    got, sentence = status_of(found)
    assert (got, says in sentence) == (code, True)
    assert "secret" not in sentence
    assert peer.send(call(3)) == response(3)


def test_a_message_in_trailers_is_percent_encoded() -> None:
    peer = Peer()
    peer.send(call(1, path=b"/hold"))
    peer.service.held[0][0].fail(3, "50 % of é\n")  # type: ignore[arg-type]
    assert status_of(peer.take()) == ("3", "50 %25 of %C3%A9%0A")


@pytest.mark.parametrize(("changed", "status"), [({"method": b"GET"}, b"405"), ({"path": b"/echo"}, b"415")])
def test_a_request_that_is_no_call_gets_a_status_of_http(changed: dict[str, bytes], status: bytes) -> None:
    of = block(**changed) if status == b"405" else block().replace(b"application/grpc", b"application/json")
    assert status in Peer().send(headers(1, of, 5))[0].payload


def test_http_1_is_told_where_to_go() -> None:
    peer = Peer(opening=b"")
    peer.protocol.data_received(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
    assert peer.transport.take().startswith(b"HTTP/1.1 400 ")


class TestHeaderBlocks:
    def test_equal_blocks_are_read_again_when_the_table_has_changed(self) -> None:
        encoder, peer = Encoder(), Peer()
        plain = [
            (b":method", b"POST"),
            (b":scheme", b"http"),
            (b":path", b"/echo"),
            (b"content-type", b"application/grpc"),
        ]
        blocks = [encoder.encode([*plain, (b"x-key", value)]) for value in (b"1", b"1", b"2", b"1", b"1", b"2")]
        assert blocks[3] != blocks[1]
        shrunk = b"\x20" + b"\x3f\xe1\x1f"  # the table is emptied, and may grow to 4,096 bytes again
        seen = []
        for index, one in enumerate([*blocks, shrunk + block()]):
            number = 2 * index + 1
            peer.send(headers(number, one) + data(number, message(b"")))
            seen.append(dict(peer.service.fields[-1].headers).get(b"x-key"))
        assert seen[:6] == [b"1", b"1", b"2", b"1", b"1", b"2"]
        assert peer.ending(headers(101, b"\xbe")) == frames.COMPRESSION_ERROR  # nothing is in the table

    def test_a_block_that_expands_beyond_the_limit_costs_only_its_call(self) -> None:
        large = b"\x40\x01a" + b"\x7f\x81\x1e" + b"v" * 3_968  # an entry of 4,000 bytes, and references to it
        peer = Peer()
        assert status_of(peer.send(headers(1, block() + large + b"\xbe" * 900)))[0] == "8"
        assert peer.service.hot.refused == {"head_too_large": 1}
        assert peer.send(call(3)) == response(3)

    def test_a_block_without_end_ends_the_connection(self) -> None:
        pieces = frames.frame(frames.CONTINUATION, 0, 1, bytes(16_000)) * 5
        assert Peer().ending(headers(1, b"", 0) + pieces) == frames.ENHANCE_YOUR_CALM
        empty = frames.frame(frames.CONTINUATION, 0, 1, b"") * (flood.BURST + 10)
        assert Peer().ending(headers(1, b"", 0) + empty) == frames.ENHANCE_YOUR_CALM


class TestWindows:
    def test_a_response_waits_for_both_windows(self) -> None:
        peer = Peer(opening=frames.PREFACE + frames.settings({4: 100}))
        body = random.Random(1).randbytes(70_000)
        peer.send(call(1, b"", b"/hold"))
        peer.service.held[0][0].respond(body)
        found = peer.take()
        assert [len(one.payload) for one in found[1:]] == [100]
        assert peer.service.port.unsent.held_bytes == 70_005 - 100
        assert [len(one.payload) for one in peer.send(frames.window_update(1, 50))] == [50]
        assert peer.send(frames.settings({4: 0}))[-1].flags == frames.ACK
        assert peer.send(frames.window_update(1, 100)) == []  # the window was made smaller by as much
        sent = peer.send(frames.window_update(1, 1_000_000))
        assert sum(len(one.payload) for one in sent) == 65_535 - 150
        rest = peer.send(frames.window_update(0, 1_000_000))
        pieces = [one.payload for one in (*found, *sent, *rest) if one.kind == frames.DATA]
        assert len(b"".join(pieces)) == 70_005 - 50
        assert rest[-1].flags == frames.END_STREAM | frames.END_HEADERS
        assert peer.service.port.unsent.held_bytes == 0

    def test_streams_take_turns_and_small_responses_pass_a_blocked_one(self) -> None:
        peer = Peer(opening=frames.PREFACE + frames.settings({4: 30_000}))
        peer.send(call(1, b"", b"/hold") + call(3, b"", b"/hold"))
        for held, _ in peer.service.held:
            held.respond(bytes(40_000))
        assert [one.stream for one in peer.take() if one.kind == frames.DATA] == [1, 1, 3, 3]
        assert peer.send(call(5)) == response(5)
        assert [one.stream for one in peer.send(frames.settings({4: 100_000})) if one.kind == frames.DATA] == [1]

    def test_a_large_message_is_received_through_growing_windows(self) -> None:
        peer = Peer()
        body = random.Random(2).randbytes(3_000_000)
        whole = message(body)
        found = peer.send(headers(1))
        for at in range(0, len(whole), 16_000):
            found += peer.send(data(1, whole[at : at + 16_000], last=at + 16_000 >= len(whole)))
        assert peer.service.bodies == [body]
        granted = sum(
            int.from_bytes(one.payload, "big") for one in found if one.kind == frames.WINDOW_UPDATE and one.stream
        )
        assert 2_000_000 < granted < 4_000_000
        assert peer.service.hot.account.held_bytes == 0

    def test_a_client_that_ignores_the_window_loses_its_stream(self) -> None:
        peer = Peer()
        peer.send(headers(1, block(b"/chat")))
        peer.service.chats[0].room = False
        sent = b"".join(data(1, message(bytes(15_995)), last=False) for _ in range(70))
        assert peer.send(sent)[-1] == parsed(frames.reset(1, frames.FLOW_CONTROL_ERROR))[0]
        assert peer.service.hot.account.held_bytes == 0

    def test_a_conversation_without_room_is_not_refilled_until_it_has(self) -> None:
        peer = Peer()
        peer.send(headers(1, block(b"/chat")))
        chat = peer.service.chats[0]
        chat.room = False
        assert peer.send(b"".join(data(1, message(bytes(15_995)), last=False) for _ in range(40))) == []
        assert peer.service.hot.account.held_bytes > 600_000
        chat.room = True
        chat.call.more()
        assert any(one.kind == frames.WINDOW_UPDATE and one.stream == 1 for one in peer.take())
        assert len(chat.heard) == 40


class TestLimits:
    def test_more_streams_than_allowed_are_refused(self) -> None:
        peer = Peer()
        peer.send(b"".join(call(2 * one + 1, path=b"/hold") for one in range(connection.STREAMS)))
        number = 2 * connection.STREAMS + 1
        assert peer.send(call(number)) == parsed(frames.reset(number, frames.REFUSED_STREAM))
        peer.service.held[0][0].respond(b"")
        assert peer.send(call(number + 2))[-3:] == response(number + 2)

    def test_the_frames_of_a_large_chunk_are_shared_among_turns_of_the_event_loop(self) -> None:
        peer = Peer()
        number = connection.FRAMES_AT_ONCE * 2
        peer.protocol.data_received(b"".join(call(2 * one + 1) for one in range(number)))
        assert len(peer.service.bodies) == connection.FRAMES_AT_ONCE // 2
        assert peer.transport.paused
        assert len(peer.take()) == 3 * number
        assert not peer.transport.paused
        assert peer.service.hot.account.held_bytes == 0

    def test_a_reset_call_is_abandoned_and_counts_until_its_request_has_ended(self) -> None:
        peer = Peer()
        total = connection.STREAMS + connection.ABANDONED
        for one in range(total):
            peer.send(call(2 * one + 1, path=b"/hold") + frames.reset(2 * one + 1, CANCEL))
        assert all(request.abandoned for _, request in peer.service.held)
        number = 2 * total + 1
        assert peer.send(call(number))[-1] == parsed(frames.reset(number, frames.REFUSED_STREAM))[0]
        peer.service.held[0][1].end()
        assert peer.send(call(number + 2)) == response(number + 2)
        peer.close()
        for _, request in peer.service.held:
            request.end()
        assert peer.service.port.calls == 0

    @pytest.mark.parametrize(
        "sent",
        [
            PING,
            frames.settings({}),
            data(1, b"", last=False),
            frames.frame(0xBE, 0, 0),
            frames.frame(2, 0, 9, bytes(5)),
            frames.window_update(0, 1),
        ],
        ids=["ping", "settings", "empty data", "unknown", "priority", "window update"],
    )
    def test_a_flood_of_frames_that_carry_nothing_ends_the_connection(self, sent: bytes) -> None:
        peer = Peer()
        peer.send(headers(1, block(b"/chat")))
        peer.send(sent * (flood.BURST // 2))
        assert peer.send(data(1, message(b"x"), last=False))[-1].kind == frames.DATA
        assert peer.ending(sent * (flood.BURST + 10)) == frames.ENHANCE_YOUR_CALM

    def test_a_connection_beyond_the_limit_is_told_so(self) -> None:
        service = Service(connections=Connections(1))
        Peer(service).send(headers(1))
        second = Peer(service, opening=b"")
        assert second.take()[-1].kind == frames.GOAWAY
        assert service.hot.refused == {"server_full": 1}

    def test_bytes_that_arrive_count_and_are_refused_beyond_the_budget(self) -> None:
        peer = Peer(account=ProcessAccount(40_000))
        peer.send(headers(1) + data(1, message(bytes(100_000))[:15_000], last=False))
        assert 14_990 <= peer.service.hot.account.held_bytes <= 15_000
        peer.send(data(1, bytes(15_000), last=False))
        assert status_of(peer.send(data(1, bytes(15_000), last=False)))[0] == "14"
        assert (peer.service.hot.account.held_bytes, peer.service.hot.refused["server_full"]) == (0, 1)
        half = data(3, bytes(9_000), last=False)
        peer.send(headers(3) + half[:5_000])
        assert peer.service.hot.account.held_bytes == 5_000
        peer.close()
        assert peer.service.hot.account.held_bytes == 0


class TestTime:
    def test_an_idle_connection_is_closed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        peer = clocked(monkeypatch, keep_alive_s=60.0)
        peer.send(call(1))
        peer.loop.advance(59_000_000_000)
        assert not peer.transport.closed
        peer.loop.advance(2_000_000_000)
        assert peer.take()[-1].kind == frames.GOAWAY
        assert peer.transport.closed

    def test_a_call_keeps_its_connection_open_unless_its_client_stops_reading(self, monkeypatch: Any) -> None:
        peer = clocked(monkeypatch, frames.PREFACE + frames.settings({4: 0}), keep_alive_s=60.0)
        peer.send(call(1, path=b"/hold"))
        for _ in range(5):
            peer.loop.advance(60_000_000_000)
        assert not peer.transport.closed
        peer.service.held[0][0].respond(b"unread")
        for _ in range(3):
            peer.loop.advance(60_000_000_000)
        assert peer.transport.closed

    @pytest.mark.parametrize(
        "sent", [b"", frames.PREFACE[:9], frames.PREFACE, OPENING + headers(1)[:20], OPENING + headers(1, flags=0)]
    )
    def test_what_never_arrives_in_full_ends_the_connection(self, monkeypatch: Any, sent: bytes) -> None:
        peer = clocked(monkeypatch, b"", read_timeout_s=10.0)
        peer.protocol.data_received(sent)
        peer.loop.advance(9_000_000_000)
        assert not peer.transport.ended
        peer.loop.advance(22_000_000_000)
        assert peer.transport.ended
        assert peer.service.hot.refused == {"slow_request": 1}

    def test_a_slow_message_is_refused_and_a_fast_one_beside_it_is_not(self, monkeypatch: Any) -> None:
        peer = clocked(monkeypatch, read_timeout_s=10.0)
        peer.send(headers(1) + headers(3) + headers(5, block(b"/chat")))
        found: list[Frame] = []
        for _ in range(4):
            peer.loop.advance(5_000_000_000)
            found += peer.send(data(3, (b"\0\0\0\xf0\0" if not found else b"") + bytes(5_000), last=False))
            found = found or [Frame(0, 0, 0, b"")]
        assert [one.stream for one in found if one.kind == frames.HEADERS] == [1]
        assert status_of([one for one in found if one.kind == frames.HEADERS])[0] == "14"
        assert peer.service.hot.refused == {"slow_request": 1}

    def test_a_conversation_ends_at_its_deadline(self, monkeypatch: Any) -> None:
        peer = clocked(monkeypatch)
        peer.send(headers(1, block(b"/chat", (b"grpc-timeout", b"2S"))))
        peer.loop.advance(2_100_000_000)
        assert status_of(peer.take())[0] == "4"


def clocked(monkeypatch: Any, opening: bytes = OPENING, **limits: Any) -> Peer:
    """A peer whose connection reads the clock of its loop."""
    loop = FakeLoop()
    monkeypatch.setattr("server.grpc.protocol.perf_counter_ns", loop.clock)
    return Peer(Service(loop, **limits), opening)


class TestTheEnd:
    def test_a_drain_ends_conversations_and_waits_for_calls(self) -> None:
        peer = Peer()
        peer.send(call(1, path=b"/hold") + headers(3, block(b"/chat")))
        peer.protocol.leave()
        found = peer.take()
        assert (found[0].kind, found[0].payload[:4]) == (frames.GOAWAY, (3).to_bytes(4, "big"))
        assert status_of([one for one in found if one.stream == 3])[0] == "14"
        assert peer.send(call(5)) == []  # the client knows that nobody has looked at it
        assert not peer.transport.closed
        peer.service.held[0][0].respond(b"hello")
        assert peer.take()[-3:] == response(1)
        assert peer.transport.closed

    def test_a_lost_connection_abandons_its_requests(self) -> None:
        peer = Peer()
        peer.send(call(1, path=b"/hold"))
        held, request = peer.service.held[0]
        peer.close()
        assert request.abandoned
        held.respond(b"nobody")
        request.end()
        peer.loop.turn()
        assert (peer.service.port.calls, peer.service.gone) == (0, [peer.protocol])

    def test_a_client_that_goes_away_gets_its_responses(self) -> None:
        peer = Peer()
        peer.send(call(1, path=b"/hold") + frames.goaway(0, 0))
        peer.service.held[0][0].respond(b"hello")
        assert peer.take() == response(1)
        assert peer.transport.closed
