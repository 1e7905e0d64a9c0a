"""Stateful sessions of SageMaker: opened and closed by headers, limited in number and time.

``X-Amzn-SageMaker-Session-Id: NEW_SESSION`` opens a session; the response carries its id and the time of its end. A
body ``{"requestType": "NEW_SESSION"}`` only opens one, ``{"requestType": "CLOSE"}`` with an id closes that session. Any
other body goes to the model.
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
from ...scripts.call import StateOwner
from .. import JSON, NO_HEADERS, Handler, Responder
from ..failure import send_failure
from ..request_options import SESSION_ID
from ..responder import Outlet, Source

NEW_SESSION_ID = b"x-amzn-sagemaker-new-session-id"
CLOSED_SESSION_ID = b"x-amzn-sagemaker-closed-session-id"
OPEN = b"NEW_SESSION"
MAX_SESSIONS = 1_000
"""Sessions that may be open at a time: they hold memory, and clients forget to close them."""
MARGIN_S = 0.5
"""Tolerance between the clock of the epoch and the event loop's timers."""
MAX_COMMAND_BYTES = 1_024
"""A longer body goes to the model without a look for ``requestType``."""


@dataclass(slots=True)
class StatefulSession:
    """One session. ``data`` belongs to the script until the session ends at ``ends_s`` (seconds of the Unix epoch).
    ``owner`` holds the state of a script in a worker process."""

    id: str
    ends_s: float
    data: dict[str, Any] = field(default_factory=dict)
    owner: StateOwner | None = None
    over: bool = False

    def end(self) -> None:
        """Free the session's state, here and in a worker process."""
        self.over = True
        self.data.clear()
        if self.owner is not None:
            self.owner.forget(self)


class SessionHead(Head):
    """The head of a request within a session. It holds the session in place of the header."""

    __slots__ = ("session",)

    def __init__(self, head: Head, session: StatefulSession) -> None:
        headers = [pair for pair in head.headers if pair[0] != SESSION_ID]
        super().__init__(head.method, head.path, headers, head.begun_ns, head.received_ns)
        self.session = session


class Sessions:
    """The open sessions. Each ends at the time that its first response announced."""

    def __init__(
        self,
        lasts_s: float,
        clock: Callable[[], float],
        most: int = MAX_SESSIONS,
        later: Callable[[float, Callable[[], None]], object] = lambda _s, _call: None,
    ) -> None:
        """``clock`` returns seconds of the Unix epoch. ``later(seconds, call)`` sets a timer, which frees sessions
        without further requests."""
        self._later = later
        self._lasts_s = lasts_s
        self._clock = clock
        self._most = most
        self._open: dict[str, StatefulSession] = {}  # in the order of their ends
        self._timed = False  # one timer for all: clients that open and close sessions must not collect timers

    def __len__(self) -> int:
        return len(self._open)

    def open(self) -> StatefulSession:
        """Open a session. Raises Overloaded if too many are open."""
        self._expire()
        if len(self._open) >= self._most:
            first_ends_s = next(iter(self._open.values())).ends_s
            raise Overloaded(
                f"{self._most} sessions are open; close one", max(int(first_ends_s - self._clock()) + 1, 1)
            )
        session = StatefulSession(secrets.token_hex(16), self._clock() + self._lasts_s)
        self._open[session.id] = session
        if not self._timed:
            self._set_timer()
        return session

    def get(self, identity: str) -> StatefulSession:
        """The open session of an id. Raises MalformedInput if there is none, or if it has ended."""
        self._expire()
        session = self._open.get(identity)
        if session is None:
            raise MalformedInput("there is no such session, or it has ended; open one with NEW_SESSION")
        return session

    def close(self, identity: str) -> StatefulSession:
        """End a session. Raises MalformedInput as :meth:`get` does."""
        session = self.get(identity)
        del self._open[session.id]
        session.end()
        return session

    def around(self, handler: Handler) -> Handler:
        """A handler that adds sessions to ``handler``. Requests without the header pass unchanged."""

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
                raise MalformedInput("CLOSE needs the id of a session in the header X-Amzn-SageMaker-Session-Id")
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

    def forget(self, session: StatefulSession) -> None:
        """End a session whose id no client knows."""
        if self._open.pop(session.id, None) is not None:
            session.end()

    def _set_timer(self) -> None:
        """End the session that ends first when its time has come, and then the others."""
        first = next(iter(self._open.values()))
        self._timed = True
        self._later(max(first.ends_s - self._clock(), 0.0) + MARGIN_S, self._on_timer)

    def _on_timer(self) -> None:
        self._timed = False
        self._expire()
        if self._open:
            self._set_timer()

    def _expire(self) -> None:
        now_s = self._clock()
        for session in list(self._open.values()):
            if session.ends_s > now_s:
                break
            del self._open[session.id]
            session.end()


class NewSessionResponder:
    """Adds the id of a new session to the model's response. A failed request ends the session: its client does not
    learn the id."""

    def __init__(self, sessions: Sessions, session: StatefulSession, told: Headers, responder: Responder) -> None:
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
    """The ``requestType`` of a body that opens or closes a session, None for any other body."""
    if len(body) > MAX_COMMAND_BYTES or b'"requestType"' not in body:
        return None
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return fields.get("requestType") if isinstance(fields, dict) else None
