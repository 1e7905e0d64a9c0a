"""Sessions: opened, used, closed, ended by time, and never more than there may be."""

from __future__ import annotations

import re

import pytest

from server.errors import MalformedInput, Overloaded
from server.protocols import Responder
from server.protocols.sagemaker.sessions import SessionHead, Sessions
from server.protocols.streaming import begin
from server.request import Head
from tests.fakes import FakeClock, FakeResponder

EPOCH_S = 1_700_000_000.0


class Reader:
    """A source that nothing is asked of."""

    def resume(self) -> None: ...

    def gone(self) -> None: ...


class Front:
    """A handler with sessions around it, that keeps what it is asked."""

    def __init__(self, most: int = 2) -> None:
        self.clock = FakeClock(EPOCH_S)
        self.sessions = Sessions(60, self.clock.seconds, most)
        self.handler = self.sessions.around(self.answer)
        self.heads: list[Head] = []
        self.status = 200

    def answer(self, head: Head, body: bytes, responder: Responder) -> None:
        self.heads.append(head)
        responder.send(self.status, b"text/plain", body)

    def ask(self, session: bytes | None, body: bytes = b"1,2") -> tuple[int, bytes, dict[bytes, bytes]]:
        responder = FakeResponder()
        headers = [(b"accept", b"*/*")] + ([(b"x-amzn-sagemaker-session-id", session)] if session else [])
        self.handler(Head(b"POST", b"/invocations", headers), body, responder)
        ((status, _, sent, told),) = responder.responses
        return status, sent, dict(told)

    def open(self) -> bytes:
        return self.ask(b"NEW_SESSION")[2][b"x-amzn-sagemaker-new-session-id"].partition(b";")[0]


def test_a_session_is_opened_used_and_closed() -> None:
    front = Front()
    status, _, headers = front.ask(b"NEW_SESSION", b'{"requestType":"NEW_SESSION"}')
    told = headers[b"x-amzn-sagemaker-new-session-id"].decode()
    assert status == 200
    assert re.fullmatch(r"[a-zA-Z0-9](-*[a-zA-Z0-9])*; Expires=2023-11-14T22:14:20Z", told)
    assert front.heads == []
    identity = told.partition(";")[0].encode()
    assert front.ask(identity) == (200, b"1,2", {})
    head = front.heads[0]
    assert isinstance(head, SessionHead)
    assert head.get(b"x-amzn-sagemaker-session-id") is None
    assert head.get(b"accept") == b"*/*"
    head.session.data["seen"] = 1
    front.ask(identity)
    assert front.sessions.get(identity.decode()).data == {"seen": 1}
    assert front.ask(identity, b'{"requestType":"CLOSE"}')[2] == {b"x-amzn-sagemaker-closed-session-id": identity}
    assert head.session.data == {}
    assert front.ask(identity)[0] == 400


def test_the_first_request_may_be_for_the_model() -> None:
    front = Front()
    status, body, headers = front.ask(b"NEW_SESSION", b"1,2")
    assert (status, body) == (200, b"1,2")
    assert b"x-amzn-sagemaker-new-session-id" in headers


@pytest.mark.parametrize(("status", "open_sessions"), [(200, 1), (500, 0)])
def test_a_streamed_response_opens_a_session_unless_it_failed(status: int, open_sessions: int) -> None:
    sessions, responder = Sessions(60, FakeClock(EPOCH_S).seconds), FakeResponder(streams=True)
    head = Head(b"POST", b"/invocations", [(b"x-amzn-sagemaker-session-id", b"NEW_SESSION")])

    def stream(_head: Head, _body: bytes, given: Responder) -> None:
        given.begin_stream(status, b"text/plain", [(b"x-own", b"1")], Reader())

    sessions.around(stream)(head, b"1,2", responder)
    ((begun, kind, headers, _),) = responder.begun
    assert (begun, kind, headers[0]) == (status, b"text/plain", (b"x-own", b"1"))
    assert (b"x-amzn-sagemaker-new-session-id" in dict(headers)) == (status == 200)
    assert len(sessions) == open_sessions


def test_a_client_without_streams_gets_the_session_with_the_whole_response() -> None:
    sessions, responder = Sessions(60, FakeClock(EPOCH_S).seconds), FakeResponder()
    head = Head(b"POST", b"/invocations", [(b"x-amzn-sagemaker-session-id", b"NEW_SESSION")])

    def stream(head: Head, _body: bytes, given: Responder) -> None:
        outlet = begin(head, given, 200, b"text/plain", Reader())
        outlet.write(b"1")
        outlet.end()

    sessions.around(stream)(head, b"1,2", responder)
    ((_, _, body, headers),) = responder.responses
    assert body == b"1"
    assert [name for name, _ in headers] == [b"x-amzn-sagemaker-new-session-id"]


def test_a_session_that_nobody_was_told_of_ends() -> None:
    front = Front()
    front.status = 400
    assert front.ask(b"NEW_SESSION")[2] == {}
    assert len(front.sessions) == 0


def test_requests_without_a_session_reach_the_handler_as_they_are() -> None:
    front = Front()
    assert front.ask(None, b'{"requestType":"CLOSE"}') == (200, b'{"requestType":"CLOSE"}', {})
    assert type(front.heads[0]) is Head


def test_a_session_ends_when_it_was_said_to() -> None:
    front = Front()
    identity = front.open()
    front.clock.now_s += 59
    assert front.ask(identity)[0] == 200
    front.clock.now_s += 1
    assert front.ask(identity)[0] == 400
    assert len(front.sessions) == 0


def test_sessions_are_bounded_and_make_room_when_they_end() -> None:
    front = Front(most=2)
    front.open()
    front.clock.now_s += 10
    front.open()
    status, _, headers = front.ask(b"NEW_SESSION")
    assert (status, headers[b"retry-after"]) == (429, b"51")
    front.clock.now_s += 50
    assert front.ask(b"NEW_SESSION")[0] == 200


@pytest.mark.parametrize("identity", [b"unknown", b"", b"\xff"])
def test_an_unknown_session_is_refused(identity: bytes) -> None:
    front = Front()
    assert front.ask(identity or b" ")[0] == 400


def test_closing_needs_a_name() -> None:
    assert Front().ask(b"NEW_SESSION", b'{"requestType":"CLOSE"}')[0] == 400


def test_the_store_says_what_is_wrong() -> None:
    sessions = Sessions(1, FakeClock(EPOCH_S).seconds, most=1)
    sessions.open()
    with pytest.raises(Overloaded, match="close one"):
        sessions.open()
    with pytest.raises(MalformedInput, match="no such session"):
        sessions.close("x")
