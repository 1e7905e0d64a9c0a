"""The hot protocol, byte by byte: what goes in through a fake transport and what must come out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest
import uvicorn
from uvicorn.server import ServerState

from server.http.hot import HotPath
from server.http.protocol import PIPELINED, HotProtocol
from server.lifecycle import Lifecycle, Phase
from server.protocols import JSON, Responder
from server.request import Head, InferRequest
from tests.fakes import FakeLoop, FakeTransport

BIG = 10_000_000
EPOCH = b"Thu, 01 Jan 1970 00:00:00 GMT"


async def cold_app(scope: Any, receive: Any, send: Any) -> None:
    """The ASGI side: says that it was asked, and with what body."""
    body = b""
    more = True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    answer = b"cold " + scope["method"].encode() + b" " + scope["path"].encode() + b" " + body
    head = [(b"content-length", str(len(answer)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": head})
    await send({"type": "http.response.body", "body": answer})


class Wire:
    """One connection to a server whose handlers echo, hold back, or fail."""

    def __init__(self, loop: Any = None, **limits: Any) -> None:
        self.loop = loop or FakeLoop()
        self.lifecycle = Lifecycle()
        self.lifecycle.move(Phase.READY)
        self.hot = HotPath(self.lifecycle, **limits)
        self.hot.heads.tick(0)
        self.heads: list[Head] = []
        self.bodies: list[bytes] = []
        self.held: list[Responder] = []
        self.pending: list[InferRequest] = []
        self.hot.table.update(
            {
                b"/echo": {b"POST": self.echo, b"GET": self.echo},
                b"/hold": {b"POST": self.hold},
                b"/break": {b"GET": self.explode},
            }
        )
        config = uvicorn.Config(cold_app, ws="none", lifespan="off", log_config=None, server_header=False)
        self.protocol = HotProtocol(self.hot, config, ServerState(), {}, self.loop)
        self.transport = FakeTransport()
        self.protocol.connection_made(self.transport)

    def echo(self, head: Head, body: bytes, responder: Responder) -> None:
        self.heads.append(head)
        self.bodies.append(body)
        responder.send(200, b"text/plain", body)

    def hold(self, head: Head, body: bytes, responder: Responder) -> InferRequest:
        self.heads.append(head)
        self.bodies.append(body)
        self.held.append(responder)
        request = InferRequest((), 1, lambda _: None)
        self.pending.append(request)
        return request

    def explode(self, head: Head, body: bytes, responder: Responder) -> None:
        raise RuntimeError("a secret")

    def send(self, data: bytes) -> bytes:
        self.protocol.data_received(data)
        return self.transport.take()


def answer(body: bytes, status: bytes = b"200 OK", kind: bytes = b"text/plain", extra: bytes = b"") -> bytes:
    return (
        b"HTTP/1.1 %b\r\ndate: %b\r\ncontent-type: %b\r\ncontent-length: %d\r\n%b\r\n%b"
        % (status, EPOCH, kind, len(body), extra, body)
    )  # fmt: skip


def post(body: bytes, path: bytes = b"/echo", headers: bytes = b"") -> bytes:
    return b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n%b\r\n%b" % (path, len(body), headers, body)


def test_a_hot_request_is_answered_in_the_call_that_brought_its_last_byte() -> None:
    wire = Wire()
    assert wire.send(post(b"hello", headers=b"X-Any: Thing\r\n")) == answer(b"hello")
    assert wire.heads[0].method == b"POST"
    assert wire.heads[0].get(b"x-any") == b"Thing"
    assert not wire.transport.closed


def test_the_connection_is_kept_for_the_next_request() -> None:
    wire = Wire()
    assert [wire.send(post(b"%d" % index)) for index in range(3)] == [answer(b"%d" % index) for index in range(3)]


def test_a_request_may_arrive_byte_by_byte() -> None:
    wire = Wire()
    data = post(b"hello", headers=b"X-Any: Thing\r\n")
    assert b"".join(wire.send(data[index : index + 1]) for index in range(len(data))) == answer(b"hello")
    assert wire.heads[0].begun_ns <= wire.heads[0].received_ns


def test_chunked_bodies_are_put_together() -> None:
    wire = Wire()
    head = b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert wire.send(head + b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n") == answer(b"abcde")


def test_an_empty_body_is_empty() -> None:
    assert Wire().send(b"GET /echo HTTP/1.1\r\nHost: x\r\n\r\n") == answer(b"")


def test_pipelined_requests_are_answered_in_order() -> None:
    wire = Wire()
    assert wire.send(post(b"1") + post(b"2") + post(b"3")) == answer(b"1") + answer(b"2") + answer(b"3")


def test_a_pipelined_request_waits_for_the_one_before_it() -> None:
    wire = Wire()
    assert wire.send(post(b"slow", b"/hold") + post(b"fast")) == b""
    wire.held[0].send(200, b"text/plain", b"late")
    assert wire.transport.take() == answer(b"late") + answer(b"fast")


def test_many_pipelined_requests_stop_the_reading_until_they_are_answered() -> None:
    wire = Wire()
    wire.send(post(b"slow", b"/hold") + b"".join(post(b"%d" % index) for index in range(PIPELINED)))
    assert wire.transport.paused
    wire.held[0].send(200, b"text/plain", b"late")
    assert wire.transport.take().count(b"HTTP/1.1 200") == PIPELINED + 1
    assert not wire.transport.paused


def test_thousands_of_pipelined_requests_do_not_recurse() -> None:
    wire = Wire()
    wire.send(post(b"slow", b"/hold") + b"GET /echo HTTP/1.1\r\nHost: x\r\n\r\n" * 5_000)
    wire.held[0].send(200, b"text/plain", b"late")
    assert wire.transport.take().count(b"HTTP/1.1 200") == 5_001


def test_a_client_that_does_not_read_is_not_served_further() -> None:
    wire = Wire()
    wire.send(post(b"slow", b"/hold") + post(b"next"))
    wire.protocol.pause_writing()
    wire.held[0].send(200, b"text/plain", b"late")
    assert wire.transport.take() == answer(b"late")
    wire.protocol.resume_writing()
    assert wire.transport.take() == answer(b"next")


def test_connection_close_is_honoured() -> None:
    wire = Wire()
    assert wire.send(post(b"x", headers=b"Connection: close\r\n")) == answer(b"x", extra=b"connection: close\r\n")
    assert wire.transport.closed


def test_http_1_0_is_answered_and_closed() -> None:
    wire = Wire()
    assert wire.send(b"GET /echo HTTP/1.0\r\nConnection: keep-alive\r\n\r\n") == answer(
        b"", extra=b"connection: close\r\n"
    )
    assert wire.transport.closed


def test_while_draining_answers_close_their_connection() -> None:
    wire = Wire()
    wire.lifecycle.move(Phase.DRAINING)
    assert b"connection: close" in wire.send(post(b"x"))
    assert wire.transport.closed


def test_expect_100_continue_is_answered_before_the_body() -> None:
    wire = Wire()
    head = b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
    assert wire.send(head) == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert wire.send(b"ab") == answer(b"ab")


def test_expect_100_continue_with_too_large_a_body_is_refused_before_it_is_sent() -> None:
    wire = Wire(max_body_bytes=10)
    head = b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 20\r\nExpect: 100-continue\r\n\r\n"
    assert wire.send(head).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("framing", [b"Content-Length: 40\r\n", b"Transfer-Encoding: chunked\r\n"])
def test_a_body_over_the_limit_is_refused_and_the_client_gets_to_read_why(framing: bytes) -> None:
    wire = Wire(max_body_bytes=10)
    body = b"x" * 40 if framing.startswith(b"Content") else b"14\r\n" + b"x" * 20
    reply = wire.send(b"POST /echo HTTP/1.1\r\nHost: x\r\n" + framing + b"\r\n" + body[:20])
    assert reply.startswith(b"HTTP/1.1 413 ")
    assert b'"code":"body_too_large"' in reply
    assert b"connection: close" in reply
    assert wire.bodies == []
    assert wire.transport.ended
    assert not wire.transport.closed
    assert wire.send(b"x" * 1_000) == b""
    wire.loop.advance(2_000_000_000)
    assert wire.transport.closed


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01 this is TLS",
        b"GET /a b HTTP/1.1\r\n\r\n",
        b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: abc\r\n\r\n",
        b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_what_is_not_http_gets_400_and_the_connection_ends(data: bytes) -> None:
    wire = Wire()
    reply = wire.send(data)
    assert reply.startswith(b"HTTP/1.1 400 ")
    assert b'"code":"malformed_input"' in reply
    assert wire.bodies == []
    assert wire.transport.closed or wire.transport.ended


def test_nonsense_after_a_request_does_not_spoil_its_answer() -> None:
    wire = Wire()
    assert wire.send(post(b"slow", b"/hold") + b"\x00\x00nonsense\r\n\r\n") == b""
    wire.held[0].send(200, b"text/plain", b"late")
    first, _, rest = wire.transport.take().partition(b"late")
    assert first + b"late" == answer(b"late")
    assert rest.startswith(b"HTTP/1.1 400 ")


def test_a_request_that_is_not_complete_in_time_gets_408() -> None:
    wire = Wire(read_timeout_s=5)
    assert wire.send(post(b"hello")[:-2]) == b""
    wire.loop.advance(4_999_999_999)
    assert wire.transport.take() == b""
    wire.loop.advance(1)
    assert wire.transport.take().startswith(b"HTTP/1.1 408 ")


def test_a_body_that_keeps_coming_may_take_longer_than_the_timeout() -> None:
    wire = Wire(read_timeout_s=5)
    body = bytes(20_000)
    data = post(body)
    wire.send(data[: -len(body)])
    for begin in range(0, 18_000, 1_000):  # at 1,000 bytes a second
        assert wire.send(data[len(data) - len(body) :][begin : begin + 1_000]) == b""
        wire.loop.advance(1_000_000_000)
    assert wire.send(body[18_000:]) == answer(body)


def test_a_body_that_stops_coming_gets_408_in_the_time_after_that() -> None:
    wire = Wire(read_timeout_s=5)
    wire.send(post(bytes(20_000))[:-10_000])
    wire.send(bytes(9_000))
    wire.loop.advance(5_000_000_000)
    assert wire.transport.take() == b""
    wire.loop.advance(5_000_000_000)
    assert wire.transport.take().startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize("part", ["head", "body"])
def test_a_request_that_drips_gets_408(part: str) -> None:
    wire = Wire(read_timeout_s=5)
    data = post(bytes(20_000), headers=b"X-Long: " + b"a" * 10_000 + b"\r\n")
    dripping = data if part == "head" else data[-20_000:]
    if part == "body":
        wire.send(data[:-20_000])
    for second in range(5):
        wire.send(dripping[second * 400 : (second + 1) * 400])
        wire.loop.advance(1_000_000_000)
    assert wire.transport.take().startswith(b"HTTP/1.1 408 ")


def test_a_request_that_is_complete_is_not_timed() -> None:
    wire = Wire(read_timeout_s=5, keep_alive_s=1_000)
    data = post(b"hello")
    wire.send(data[:-2])
    assert wire.send(data[-2:]) == answer(b"hello")
    wire.loop.advance(6_000_000_000)
    assert wire.transport.take() == b""


def test_when_the_client_leaves_its_request_is_marked_and_a_late_answer_goes_nowhere() -> None:
    wire = Wire()
    wire.send(post(b"x", b"/hold"))
    wire.transport.close()
    wire.protocol.connection_lost(None)
    assert wire.pending[0].abandoned
    wire.held[0].send(200, b"text/plain", b"late")
    assert wire.transport.take() == b""


def test_a_handler_that_raises_gives_500_without_its_text_and_the_connection_goes_on() -> None:
    wire = Wire()
    reply = wire.send(b"GET /break HTTP/1.1\r\nHost: x\r\n\r\n")
    assert reply.startswith(b"HTTP/1.1 500 ")
    assert b"secret" not in reply
    assert wire.send(post(b"x")) == answer(b"x")


def test_shutdown_closes_an_idle_connection_and_lets_a_busy_one_finish() -> None:
    idle, busy = Wire(), Wire()
    idle.protocol.shutdown()
    assert idle.transport.closed
    busy.send(post(b"x", b"/hold"))
    busy.protocol.shutdown()
    assert not busy.transport.closed
    busy.held[0].send(200, JSON, b"{}")
    assert busy.transport.take() == answer(b"{}", kind=JSON, extra=b"connection: close\r\n")
    assert busy.transport.closed


def in_real_loop(scenario: Callable[[Wire], Any]) -> None:
    async def run() -> None:
        await scenario(Wire(asyncio.get_running_loop()))

    asyncio.run(run())


async def settled(wire: Wire, count: int) -> bytes:
    """What was written, once ``count`` replies are complete."""
    for _ in range(200):
        if wire.transport.written.count(b"HTTP/1.1 200") == count and not wire.protocol._active:
            break
        await asyncio.sleep(0)
    return wire.transport.take()


@pytest.mark.parametrize(
    ("path", "shown"),
    [(b"/other", b"/other"), (b"/echo?x=1", b"/echo"), (b"/%65cho", b"/echo")],
)
def test_every_other_url_goes_to_asgi_unchanged(path: bytes, shown: bytes) -> None:
    async def scenario(wire: Wire) -> None:
        wire.send(post(b"body", path))
        assert (await settled(wire, 1)).endswith(b"cold POST " + shown + b" body")

    in_real_loop(scenario)


def test_a_method_that_is_not_hot_goes_to_asgi() -> None:
    async def scenario(wire: Wire) -> None:
        wire.send(b"DELETE /echo HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await settled(wire, 1)).endswith(b"cold DELETE /echo ")

    in_real_loop(scenario)


def test_hot_and_cold_requests_on_one_connection_keep_their_order() -> None:
    async def scenario(wire: Wire) -> None:
        requests = [post(b"%d" % index, b"/c" if index in (2, 4, 5) else b"/echo") for index in range(1, 7)]
        wire.protocol.data_received(b"".join(requests))
        written = await settled(wire, 6)
        bodies = [part.partition(b"\r\n\r\n")[2] for part in written.split(b"HTTP/1.1 200 OK\r\n")[1:]]
        assert bodies == [b"1", b"cold POST /c 2", b"3", b"cold POST /c 4", b"cold POST /c 5", b"6"]

    in_real_loop(scenario)


def test_a_cold_request_behind_a_held_hot_one_waits() -> None:
    async def scenario(wire: Wire) -> None:
        wire.send(post(b"1", b"/hold") + post(b"2", b"/c"))
        for _ in range(20):
            await asyncio.sleep(0)
        assert wire.transport.take() == b""
        wire.held[0].send(200, b"text/plain", b"first")
        written = await settled(wire, 2)
        assert written.index(b"first") < written.index(b"cold POST /c 2")

    in_real_loop(scenario)


def test_a_refused_connection_is_refused_once() -> None:
    wire = Wire(max_body_bytes=10, read_timeout_s=0.5)
    assert wire.send(post(b"x" * 20)[:-5]).startswith(b"HTTP/1.1 413 ")
    wire.protocol._read_expired()
    assert wire.transport.take() == b""
    assert wire.protocol.server_state.total_requests == 1


def test_a_request_whose_client_has_left_is_not_refused() -> None:
    wire = Wire(read_timeout_s=5)
    wire.send(post(b"hello")[:-2])
    wire.transport.close()
    wire.loop.advance(5_000_000_000)
    assert wire.transport.take() == b""
    assert wire.protocol.server_state.total_requests == 0


class Held:
    """An ASGI app that answers with the body that it got, when it is let go."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.messages: list[str] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        more = True
        while more:
            message = await receive()
            self.messages.append(message["type"])
            more = message.get("more_body", False)
        await self.go.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
        await send({"type": "http.response.body", "body": b"done"})


def test_a_complete_cold_request_is_answered_before_the_refusal_of_what_follows_it() -> None:
    async def scenario(wire: Wire) -> None:
        app = wire.protocol.app = Held()
        wire.send(post(b"1", b"/c") + b"\x00nonsense\r\n\r\n")
        for _ in range(20):
            await asyncio.sleep(0)
        assert wire.transport.take() == b""
        app.go.set()
        for _ in range(200):
            if b" 400 " in wire.transport.written:
                break
            await asyncio.sleep(0)
        first, _, second = wire.transport.take().partition(b"done")
        assert first.startswith(b"HTTP/1.1 200 ")
        assert second.startswith(b"HTTP/1.1 400 ")
        assert app.messages == ["http.request"]

    in_real_loop(scenario)


@pytest.mark.parametrize("before", [b"", post(b"", b"/hold")], ids=["active", "pipelined"])
def test_a_cold_request_with_too_large_a_body_is_refused_and_its_app_sees_a_disconnect(before: bytes) -> None:
    async def scenario(wire: Wire) -> None:
        app = wire.protocol.app = Held()
        wire.send(before)
        chunked = b"POST /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n"
        wire.send(chunked)
        await asyncio.sleep(0)
        wire.protocol.data_received(b"14\r\n" + b"x" * 20)
        if before:
            assert wire.transport.written == b""
            wire.held[0].send(200, b"text/plain", b"first")
            assert wire.transport.written.startswith(b"HTTP/1.1 200 ")
            assert app.messages == []
        assert wire.transport.written.count(b"HTTP/1.1 413 ") == 1
        for _ in range(20):
            await asyncio.sleep(0)
        assert app.messages[-1:] == ([] if before else ["http.disconnect"])
        assert wire.transport.ended

    in_real_loop(lambda wire: scenario(limited(wire, 10)))


def limited(wire: Wire, max_body_bytes: int) -> Wire:
    wire.hot.max_body_bytes = max_body_bytes
    return wire


def test_an_idle_connection_is_closed_and_a_busy_one_is_not() -> None:
    wire = Wire(keep_alive_s=0.0)
    wire.loop.advance(1)
    assert wire.transport.closed
    busy = Wire(keep_alive_s=0.0)
    busy.protocol._idle_timer.cancel()
    busy.send(post(b"x", b"/hold"))
    busy.protocol._close_if_idle()
    assert not busy.transport.closed


def test_the_table_may_change_while_a_connection_is_open() -> None:
    wire = Wire()
    wire.hot.table[b"/new"] = {b"POST": wire.echo}
    assert wire.send(post(b"x", b"/new")) == answer(b"x")


def test_the_fake_loop_is_what_the_protocol_is_given() -> None:
    assert cast(Any, Wire().protocol.loop).armed


def test_a_client_that_never_reads_its_response_is_cut_off() -> None:
    wire = Wire(keep_alive_s=0.0)
    wire.send(post(b"x", b"/hold"))
    wire.protocol.pause_writing()
    wire.loop.advance(1)
    assert wire.transport.closed


@pytest.mark.parametrize(("version", "probes"), [(b"1.1", 1), (b"1.0", 0)])
def test_a_half_closed_client_gets_its_responses_and_one_interim_response(version: bytes, probes: int) -> None:
    wire = Wire(keep_alive_s=1_000)
    wire.send(post(b"x", b"/hold").replace(b"HTTP/1.1", b"HTTP/" + version))
    assert wire.protocol.eof_received()
    wire.loop.advance(100_000_000)
    assert wire.transport.take() == b""
    wire.loop.advance(10_000_000_000)
    assert wire.transport.take() == b"HTTP/1.1 100 Continue\r\n\r\n" * probes
    assert not wire.pending[0].abandoned
    wire.held[0].send(200, b"text/plain", b"late")
    assert wire.transport.take().endswith(b"late")
    assert wire.transport.closed


@pytest.mark.parametrize("sent", [b"", b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Le"])
def test_a_client_that_ends_without_a_request_is_let_go(sent: bytes) -> None:
    wire = Wire()
    wire.send(sent)
    assert not wire.protocol.eof_received()


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /echo HTTP/1.1\r\nHost: x\r\nHost: x\r\n", b"400"),
        (b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n", b"400"),
        (b"POST /other HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, gzip, chunked\r\n", b"400"),
        (b"POST /echo HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n", b"400"),
        (b"GET /echo HTTP/2.0\r\nHost: x\r\n", b"505"),
        (b"GET /echo HTTP/0.9\r\nHost: x\r\n", b"505"),
        (b"GET /echo HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 100, b"431"),
        (b"GET /other HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 100, b"431"),
        (b"GET /echo HTTP/1.1\r\nHost: x\r\nA: " + b"b" * 500 + b"\r\n", b"431"),
        (b"GET /" + b"a" * 500 + b" HTTP/1.1\r\nHost: x\r\n", b"414"),
    ],
)
def test_an_ambiguous_or_large_head_is_refused_once_and_nothing_after_it_is_parsed(head: bytes, status: bytes) -> None:
    wire = Wire(max_head_bytes=len(head) if b"A: b\r\n" in head else 400)
    reply = wire.send(head + b"\r\n" + post(b"next"))
    assert reply.startswith(b"HTTP/1.1 " + status)
    assert reply.count(b"content-length") == 1
    assert wire.bodies == []
    assert sum(wire.hot.refused.values()) == 1


def test_a_large_head_behind_a_whole_request_is_measured_from_its_own_first_byte() -> None:
    wire = Wire(max_head_bytes=400)
    head = b"GET /echo HTTP/1.1\r\nHost: x\r\nA: " + b"b" * 300 + b"\r\n\r\n"
    assert wire.send(post(b"x" * 2_000) + head[:100]) == answer(b"x" * 2_000)
    assert wire.send(head[100:]) == answer(b"")


def test_trailers_are_ignored() -> None:
    wire = Wire()
    head = b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert wire.send(head + b"1\r\na\r\n0\r\nX-Late: 1\r\nHost: y\r\n\r\n" + post(b"next")) == answer(b"a") + answer(
        b"next"
    )
    assert [one.get(b"x-late") for one in wire.heads] == [None, None]


def test_a_body_in_thousands_of_chunks_is_kept_whole() -> None:
    wire = Wire()
    body = bytes(range(256)) * 40
    wire.send(b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
    for begin in range(0, len(body), 1_280):
        wire.send(b"".join(b"1\r\n%b\r\n" % body[index : index + 1] for index in range(begin, begin + 1_280)))
        assert len(wire.protocol._chunks) <= 2_048
    assert wire.send(b"0\r\n\r\n") == answer(body)


def test_a_large_body_is_joined_as_it_arrives() -> None:
    wire = Wire(max_body_bytes=BIG)
    body = bytes(range(256)) * 12_000
    request = post(body)
    for begin in range(0, len(request), 200_000):
        wire.send(request[begin : begin + 200_000])
        assert len(wire.protocol._chunks) <= 6
    assert wire.bodies == [body]


def test_what_a_connection_holds_is_counted_until_it_is_answered_or_gone() -> None:
    wire = Wire(max_body_bytes=BIG)
    wire.send(post(b"x" * 1_000)[:-1])
    assert 1_000 < wire.hot.account.held_bytes < 1_200
    wire.send(b"x")
    assert wire.hot.account.held_bytes == 0
    wire.send(post(b"x" * 2_000_000, b"/hold"))
    assert wire.hot.account.held_bytes == 2_000_000
    wire.held[0].send(200, b"text/plain", b"late")
    assert wire.hot.account.held_bytes == 0


def test_a_large_body_of_a_client_that_left_counts_until_its_request_has_ended() -> None:
    wire = Wire(max_body_bytes=BIG)
    wire.send(post(b"x" * 2_000_000, b"/hold"))
    wire.transport.close()
    wire.protocol.connection_lost(None)
    assert wire.hot.account.held_bytes == 2_000_000
    wire.pending[0].done(wire.pending[0])
    assert wire.hot.account.held_bytes == 0


def test_bodies_behind_a_slow_request_stop_the_reading_by_their_bytes() -> None:
    wire = Wire(max_body_bytes=BIG)
    wire.send(post(b"slow", b"/hold") + post(b"x" * 600_000))
    assert not wire.transport.paused
    wire.send(post(b"y" * 600_000)[:-1])
    assert wire.transport.paused
    wire.held[0].send(200, b"text/plain", b"late")
    assert not wire.transport.paused
    assert wire.send(b"y").endswith(b"y" * 600_000)
    assert wire.hot.account.held_bytes == 0


def test_a_paused_client_is_not_refused_for_sending_nothing() -> None:
    wire = Wire(max_body_bytes=BIG, read_timeout_s=5)
    wire.send(post(b"slow", b"/hold") + post(b"x" * 1_500_000)[:-1])
    assert wire.transport.paused
    wire.loop.advance(20_000_000_000)
    assert wire.transport.take() == b""
    wire.held[0].send(200, b"text/plain", b"late")
    assert wire.send(b"x").endswith(b"x" * 1_500_000)


def test_a_half_closed_client_gets_the_response_before_its_malformed_request_too() -> None:
    wire = Wire()
    wire.send(post(b"x", b"/hold") + b"nonsense")
    assert wire.protocol.eof_received()
    wire.held[0].send(200, b"text/plain", b"late")
    written = wire.transport.take()
    assert written.startswith(answer(b"late"))
    assert written[len(answer(b"late")) :].startswith(b"HTTP/1.1 400 ")
    assert wire.transport.closed
