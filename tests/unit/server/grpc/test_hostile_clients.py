"""Clients that break no rule of HTTP/2, or none that matters, and want the server's memory or its time."""

from __future__ import annotations

import gc
import tracemalloc
import zlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from urllib.parse import unquote

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto

from server.errors import MalformedInput
from server.grpc import connection, frames, header_blocks, header_reader, health, protocol, reflection, wire
from server.grpc.call import Call
from server.grpc.control import METHODS, Answer, Control, Question
from server.grpc.descriptions import Files
from server.grpc.header_reader import HeaderReader
from server.grpc.port import Method
from server.http.limits import Connections, ProcessAccount
from server.lifecycle import Lifecycle
from tests.unit.server.grpc.peer import Frame, Peer, Service, block, call, data, headers, message, response
from tests.unit.server.grpc.test_connection import CANCEL, PING, status_of

EMPTIED = b"\x20"


def open_calls() -> int:
    gc.collect()
    return sum(type(one) is Call for one in gc.get_objects())


class TestMemory:
    def test_calls_that_are_reset_while_the_window_is_empty_leave_nothing(self) -> None:
        peer = Peer()
        peer.send(call(1, b"", b"/hold"))
        peer.service.held.pop()[0].respond(bytes(70_000))
        before = open_calls()
        for number in range(3, 403, 2):
            peer.send(call(number) + frames.reset(number, CANCEL))
        assert open_calls() == before
        more = frames.window_update(0, 1_000_000) + frames.window_update(1, 1_000_000)
        assert [one.stream for one in peer.send(more)] == [1, 1]

    @pytest.mark.parametrize(
        "sent",
        [headers(1, block(b"/none"), 5), PING, headers(1, block(method=b""))],
        ids=["errors", "pings", "resets"],
    )
    def test_a_client_that_does_not_read_is_not_read(self, sent: bytes) -> None:
        peer = Peer()
        peer.protocol.pause_writing()
        assert peer.transport.paused
        each = [sent[:5] + number.to_bytes(4, "big") + sent[9:] for number in range(1, 2_001, 2)]
        each = [sent] * 1_000 if sent == PING else each
        unread = len(peer.send(b"".join(each)))  # what the transport had read before
        assert unread <= connection.FRAMES_AT_ONCE
        peer.protocol.resume_writing()
        assert len(peer.take()) + unread == 1_000
        assert not peer.transport.paused

    def test_a_client_that_reads_too_little_harms_no_other(self) -> None:
        service = Service(connections=Connections(10))
        service.port.unsent, service.port.share_bytes = ProcessAccount(50_000), 5_000
        greedy = Peer(service, opening=frames.PREFACE + frames.settings({4: 0}))
        greedy.send(call(1, b"", b"/hold") + call(3, b"", b"/hold"))
        service.held[0][0].respond(bytes(60_000))
        service.held[1][0].respond(b"x")
        assert status_of([one for one in greedy.take() if one.stream == 3])[0] == "8"
        assert Peer(service).send(call(1)) == response(1)

    def test_an_expanded_message_counts_while_its_call_has_no_end(self, monkeypatch: pytest.MonkeyPatch) -> None:
        work = waiting_work(monkeypatch)
        peer = Peer(account=ProcessAccount(150_000))
        bomb = data(1, message(zlib.compress(bytes(100_000)), 1), last=False)
        for number in (1, 3):
            peer.send(headers(number, block(b"/echo", (b"grpc-encoding", b"deflate"))))
            peer.send(bomb[:5] + number.to_bytes(4, "big") + bomb[9:])
        for run, then in work:
            then(run())
        assert status_of(peer.take())[0] == "14"
        assert peer.service.hot.account.held_bytes == 100_064
        peer.send(data(1, b""))
        assert (peer.service.bodies, peer.service.hot.account.held_bytes) == ([bytes(100_000)], 0)

    def test_a_message_that_waits_for_a_thread_counts_when_its_client_has_left(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        work = waiting_work(monkeypatch)
        peer = Peer()
        body = zlib.compress(bytes(1_000))
        for number in (1, 3):
            peer.send(headers(number, block(b"/echo", (b"grpc-encoding", b"deflate"))))
            peer.send(data(number, message(body, 1)) + frames.reset(number, CANCEL))
        assert (peer.service.port.calls, peer.service.hot.account.held_bytes > 2 * len(body)) == (2, True)
        for run, then in work:
            assert run() == b""  # nobody wants it
            then(b"")
        assert (peer.service.port.calls, peer.service.hot.account.held_bytes, peer.service.bodies) == (0, 0, [])

    def test_a_question_whose_client_has_left_counts_until_its_route_has_ended(self) -> None:
        peer = Peer()
        answers: list[Answer] = []

        def ask(call: Call, body: bytes) -> None:
            call.owner = Answer(call, METHODS["ServerLive"], None)
            answers.append(call.owner)

        peer.service.port.table[b"/ask"] = Method(serve=ask)  # type: ignore[index]
        peer.send(call(1, b"", b"/ask") + frames.reset(1, CANCEL))
        assert peer.service.port.calls == 1
        answers[0].send(500, b"", b'{"error": "late"}')
        assert peer.service.port.calls == 0


class TestTime:
    def test_messages_of_one_frame_are_shared_among_turns_of_the_event_loop(self) -> None:
        peer = Peer()
        number = 2 * connection.FRAMES_AT_ONCE
        peer.send(headers(1, block(b"/chat")))
        peer.protocol.data_received(data(1, message(b"") * number))
        heard = peer.service.chats[0].heard
        assert len(heard) == connection.FRAMES_AT_ONCE
        assert peer.transport.paused
        found = peer.take()
        assert len(heard) == number
        assert found[-1].flags == frames.END_HEADERS | frames.END_STREAM
        assert not peer.transport.paused

    def test_a_conversation_that_gets_room_again_has_no_more_than_a_turn(self) -> None:
        peer = Peer()
        number = 2 * connection.FRAMES_AT_ONCE
        peer.send(headers(1, block(b"/chat")))
        chat = peer.service.chats[0]
        chat.room = False
        peer.send(data(1, message(b"") * number))
        chat.room = True
        chat.call.more()
        assert len(chat.heard) <= connection.FRAMES_AT_ONCE
        peer.take()
        assert len(chat.heard) == number

    def test_a_message_of_millions_of_empty_fields_is_refused(self) -> None:
        body = b"\x3a\x00" * 1_000_000
        for read in (wire.address, wire.opened):
            with pytest.raises(MalformedInput, match="fields"):
                read(body)

    @pytest.mark.parametrize("field", [b"\x82", b"\x20", b"\x00\x00\x00"], ids=["indexed", "sizes", "literal"])
    def test_a_header_block_of_endless_fields_ends_the_connection(self, field: bytes) -> None:
        peer = Peer()
        assert peer.ending(headers(1, field * header_reader.MOST_FIELDS)) == frames.ENHANCE_YOUR_CALM


class TestTheTableOfTheClient:
    """A client that makes its table smaller must see in the next header block that the server obeys (RFC 7541, 4.2)."""

    def test_the_next_block_says_that_the_table_is_empty(self) -> None:
        peer = Peer(opening=frames.PREFACE + frames.settings({1: 0}))
        first, *rest = peer.send(call(1))
        assert first.payload == EMPTIED + response(1)[0].payload
        assert rest == response(1)[1:]
        assert peer.send(call(3)) == response(3)

    def test_also_where_the_block_is_that_of_an_error(self) -> None:
        peer = Peer()
        assert peer.send(call(1)) == response(1)
        peer.send(frames.settings({1: 100}))
        assert peer.send(headers(3, block(b"/none"), 5))[0].payload[:1] == EMPTIED


def waiting_work(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Callable[[], Any], Callable[[Any], object]]]:
    """The work that calls have given to threads, which the test does."""
    work: list[tuple[Callable[[], Any], Callable[[Any], object]]] = []
    monkeypatch.setattr("server.grpc.call.on_thread", lambda run, then: work.append((run, then)))
    return work


def test_a_client_that_went_away_itself_gets_no_further_calls_in_a_drain() -> None:
    peer = Peer()
    peer.send(call(1, path=b"/hold") + frames.goaway(0, 0))
    peer.protocol.leave()
    assert [one.kind for one in peer.take()] == [frames.GOAWAY]
    assert peer.send(call(3)) == []
    peer.service.held[0][0].respond(b"hello")
    assert peer.take() == response(1)
    assert peer.transport.closed


class TestDrain:
    """A client that opens no window for its response."""

    def drained(self, *calls: bytes) -> Peer:
        peer = Peer(opening=frames.PREFACE + frames.settings({4: 0}))
        peer.send(b"".join(calls))
        peer.protocol.leave()
        peer.take()
        assert not peer.transport.closed
        return peer

    def look(self, peer: Peer) -> None:
        peer.loop.advance(int(protocol.DRAIN_LOOK_S * 1e9))

    def test_it_does_not_hold_up_the_end(self) -> None:
        peer = self.drained(call(1))
        self.look(peer)
        assert peer.transport.closed

    def test_it_is_waited_for_while_it_takes_some_bytes(self) -> None:
        peer = self.drained(call(1, b"hello" * 2))
        for _ in range(4):
            peer.send(frames.window_update(1, 3))
            self.look(peer)
            assert not peer.transport.closed
        self.look(peer)
        assert peer.transport.closed

    def test_its_other_calls_are_waited_for(self) -> None:
        peer = self.drained(call(1), call(3, path=b"/hold"))
        for _ in range(4):
            self.look(peer)
        assert not peer.transport.closed
        peer.service.held[0][0].respond(b"hello")
        peer.send(frames.window_update(3, 100))
        self.look(peer)
        self.look(peer)
        assert peer.transport.closed


@pytest.mark.parametrize(("path", "most"), [(b"/watch", health.WATCHES), (b"/reflect", reflection.OPEN_CALLS)])
def test_calls_that_need_no_key_and_never_end_leave_places_for_others(path: bytes, most: int) -> None:
    peer = Peer()
    watch = Method(serve=health.Health(Lifecycle(), ()).watch, open=True)
    reflect = Method(converse=reflection.Reflection((), Files(FileDescriptorProto())).converse, open=True)
    peer.service.port.table.update({b"/watch": watch, b"/reflect": reflect})  # type: ignore[attr-defined]

    def begin(stream: int) -> list[Frame]:
        return peer.send(headers(stream, block(path)) + data(stream, message(b""), last=path == b"/watch"))

    for number in range(most):
        assert begin(2 * number + 1)[-1].kind == frames.DATA
    assert status_of(begin(2 * most + 1))[0] == "8"
    peer.send(frames.reset(1, CANCEL))
    assert begin(2 * most + 3)[-1].kind == frames.DATA
    peer.close()
    assert peer.service.port.calls == 0


def test_a_question_for_reflection_looks_at_no_file_again() -> None:
    described = FileDescriptorProto(name="a.proto", package="a", message_type=[{"name": "B"}])
    files = Files(described)
    described.Clear()
    assert len(files.file_containing_symbol("a.B")) == 1
    assert files.file_containing_symbol("a.C") == []


def test_a_long_message_of_any_characters_fits_the_trailers_that_clients_take() -> None:
    for message_ in ("\N{GRINNING FACE}" * 3_000, "x" + "\N{EURO SIGN}" * 3_000, "%" * 9_000, "plain" * 3_000):
        sent = header_blocks.trailers(5, message_, [])
        assert 2_000 < len(sent) < 8_192
        text = sent[sent.index(b"grpc-message") + len(b"grpc-message") + 3 :]
        assert message_.startswith(unquote(text.decode(), errors="strict"))


def test_the_blocks_that_a_connection_keeps_are_few() -> None:
    tracemalloc.start()
    reader = HeaderReader(32_000)
    before = tracemalloc.get_traced_memory()[0]
    for number in range(100):
        names = [(b"x%d-%d" % (number, field), b"") for field in range(90)]
        reader.read(block(b"/echo", *names))
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 300_000


@pytest.mark.parametrize("size", [0, 100_000], ids=["at once", "on a thread"])
def test_a_question_that_cannot_be_put_fails_and_counts_no_longer(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    def on_thread(run: Callable[[], Any], then: Callable[[Any], object]) -> None:
        with pytest.raises(LookupError) as caught:
            run()
        then(caught.value)

    def ask(_: Any) -> Question:
        raise LookupError

    monkeypatch.setattr("server.grpc.control.on_thread", on_thread)
    monkeypatch.setitem(METHODS, "ServerLive", replace(METHODS["ServerLive"], ask=ask))
    peer = Peer()
    serve = Control(()).handlers()["ServerLive"]
    peer.service.port.table[b"/ask"] = Method(serve=lambda call, _: serve(call, b"\x7a" + size_of(size)))  # type: ignore[index]
    assert status_of(peer.send(call(1, b"", b"/ask")))[0] == "13"
    assert peer.service.port.calls == 0


def size_of(size: int) -> bytes:
    """A value of so many bytes in a message, behind its length."""
    return bytes((size & 0x7F | 0x80, size >> 7 & 0x7F | 0x80, size >> 14)) + bytes(size)
