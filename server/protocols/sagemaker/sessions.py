"""Stateful sessions: what a caller's requests share, opened and closed by headers, bounded in number and time.

``X-Amzn-SageMaker-Session-Id: NEW_SESSION`` opens one; the reply brings its id and when it ends. A body
``{"requestType": "NEW_SESSION"}`` asks for nothing else, ``{"requestType": "CLOSE"}`` with an id ends that session; any
other body is for the model.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

import orjson

from ...errors import MalformedInput, Overloaded, SlipwayError
from ...request import Head, Headers, InferRequest
from ...scripts.call import Home
from .. import JSON, NO_HEADERS, Handler, Responder
from ..failure import send_failure
from ..inference import SESSION_ID
from ..responder import Outlet, Source

NEW_SESSION_ID = b"x-amzn-sagemaker-new-session-id"
CLOSED_SESSION_ID = b"x-amzn-sagemaker-closed-session-id"
OPEN = b"NEW_SESSION"
MOST = 1_000
"""Sessions that may be open at a time: they hold what handlers keep, and callers forget to close them."""
MARGIN_S = 0.5
"""The clock of the epoch and that of timers do not run quite alike."""
LONGEST_COMMAND = 1_024
"""A body that only opens or closes is short; a longer one is for the model."""


@dataclass(slots=True)
class Session:
    """``data`` is the handler's own, kept until the session ends (``ends_s``, seconds of the Unix epoch). ``home``:
    where the state is instead, for a handler in a process of its own."""

    id: str
    ends_s: float
    data: dict[str, Any] = field(default_factory=dict)
    home: Home | None = None
    over: bool = False

    def end(self) -> None:
        """Free what it keeps, wherever that is."""
        self.over = True
        self.data.clear()
        if self.home is not None:
            self.home.forget(self)


class SessionHead(Head):
    """The head of a request within a session: without the header, with the session."""

    __slots__ = ("session",)

    def __init__(self, head: Head, session: Session) -> None:
        headers = [pair for pair in head.headers if pair[0] != SESSION_ID]
        super().__init__(head.method, head.path, headers, head.begun_ns, head.received_ns)
        self.session = session


class Sessions:
    """All that are open. They end at a fixed time: what the caller was told when it was opened stays true."""

    def __init__(
        self,
        lasts_s: float,
        clock: Callable[[], float],
        most: int = MOST,
        later: Callable[[float, Callable[[], None]], object] = lambda _s, _call: None,
    ) -> None:
        """``clock``: seconds of the Unix epoch. ``later(seconds, call)``: so that a session that nobody asks for any
        more is freed too."""
        self._later = later
        self._lasts_s = lasts_s
        self._clock = clock
        self._most = most
        self._open: dict[str, Session] = {}  # in the order in which they were opened, and so in which they end

    def __len__(self) -> int:
        return len(self._open)

    def open(self) -> Session:
        """Raises Overloaded when too many are open."""
        self._expire()
        if len(self._open) >= self._most:
            first_ends_s = next(iter(self._open.values())).ends_s
            raise Overloaded(
                f"{self._most} sessions are open: close one", max(int(first_ends_s - self._clock()) + 1, 1)
            )
        session = Session(secrets.token_hex(16), self._clock() + self._lasts_s)
        self._open[session.id] = session
        self._later(self._lasts_s + MARGIN_S, self._expire)
        return session

    def get(self, identity: str) -> Session:
        """Raises MalformedInput when there is none, or none any more."""
        self._expire()
        session = self._open.get(identity)
        if session is None:
            raise MalformedInput("there is no such session, or it has ended: open one with NEW_SESSION")
        return session

    def close(self, identity: str) -> Session:
        """Raises MalformedInput as :meth:`get` does."""
        session = self.get(identity)
        del self._open[session.id]
        session.end()
        return session

    def around(self, handler: Handler) -> Handler:
        """The handler, with sessions; requests that have none reach it as they are."""

        def handle(head: Head, body: bytes, responder: Responder) -> InferRequest | None:
            asked = head.get(SESSION_ID)
            if asked is None:
                return handler(head, body, responder)
            try:
                return self._within(asked, head, body, responder, handler)
            except SlipwayError as error:
                send_failure(error, head, responder)
                return None

        return handle

    def _within(
        self, asked: bytes, head: Head, body: bytes, responder: Responder, handler: Handler
    ) -> InferRequest | None:
        command = _command(body)
        if asked == OPEN:
            if command == "CLOSE":
                raise MalformedInput("a session that is to be closed must be named in the header Session-Id")
            session = self.open()
            ends = datetime.fromtimestamp(session.ends_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            told: Headers = [(NEW_SESSION_ID, f"{session.id}; Expires={ends}".encode())]
            if command == "NEW_SESSION":
                responder.send(200, JSON, orjson.dumps({"sessionId": session.id}), told)
                return None
            return handler(SessionHead(head, session), body, NewSessionResponder(self, session, told, responder))
        session = self.get(asked.decode("latin-1"))
        if command == "CLOSE":
            self.close(session.id)
            responder.send(
                200, JSON, orjson.dumps({"sessionId": session.id}), [(CLOSED_SESSION_ID, session.id.encode())]
            )
            return None
        return handler(SessionHead(head, session), body, responder)

    def forget(self, session: Session) -> None:
        """End a session of which its caller was not told."""
        if self._open.pop(session.id, None) is not None:
            session.end()

    def _expire(self) -> None:
        now_s = self._clock()
        for session in list(self._open.values()):
            if session.ends_s > now_s:
                break
            del self._open[session.id]
            session.end()


class NewSessionResponder:
    """Adds the id of a new session to the response of the model. Ends the session where the request failed: its caller
    does not learn the id."""

    def __init__(self, sessions: Sessions, session: Session, told: Headers, responder: Responder) -> None:
        self._sessions = sessions
        self._session = session
        self._told = told
        self._responder = responder

    def send(self, status: int, content_type: bytes, body: bytes, headers: Headers = NO_HEADERS, /) -> None:
        self._responder.send(status, content_type, body, self._with_id(status, headers))

    def begin_stream(self, status: int, content_type: bytes, headers: Headers, source: Source, /) -> Outlet | None:
        return self._responder.begin_stream(status, content_type, self._with_id(status, headers), source)

    def _with_id(self, status: int, headers: Headers) -> Headers:
        if status == HTTPStatus.OK:
            return [*headers, *self._told]
        self._sessions.forget(self._session)
        return headers


def _command(body: bytes) -> str | None:
    """The ``requestType`` of a body that is nothing but that."""
    if len(body) > LONGEST_COMMAND or b'"requestType"' not in body:
        return None
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return fields.get("requestType") if isinstance(fields, dict) else None
