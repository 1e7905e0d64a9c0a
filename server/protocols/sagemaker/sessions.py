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
from typing import Any

import orjson

from ...errors import MalformedInput, Overloaded, SlipwayError
from ...request import Head, Headers, InferRequest
from ...scripts.call import StateOwner
from .. import JSON, NO_HEADERS, Handler, Reply
from ..failure import reply_failure
from ..inference import SESSION_ID

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
class StatefulSession:
    """``data`` is the handler's own, kept until the session ends (``ends_s``, seconds of the Unix epoch). ``owner``:
    where the state is instead, for a handler in a process of its own."""

    id: str
    ends_s: float
    data: dict[str, Any] = field(default_factory=dict)
    owner: StateOwner | None = None
    over: bool = False

    def end(self) -> None:
        """Free what it keeps, wherever that is."""
        self.over = True
        self.data.clear()
        if self.owner is not None:
            self.owner.forget(self)


class SessionHead(Head):
    """The head of a request within a session: without the header, with the session."""

    __slots__ = ("session",)

    def __init__(self, head: Head, session: StatefulSession) -> None:
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
        self._open: dict[str, StatefulSession] = {}  # in the order in which they were opened, and so in which they end

    def __len__(self) -> int:
        return len(self._open)

    def open(self) -> StatefulSession:
        """Raises Overloaded when too many are open."""
        self._expire()
        if len(self._open) >= self._most:
            first_ends_s = next(iter(self._open.values())).ends_s
            raise Overloaded(
                f"{self._most} sessions are open: close one", max(int(first_ends_s - self._clock()) + 1, 1)
            )
        session = StatefulSession(secrets.token_hex(16), self._clock() + self._lasts_s)
        self._open[session.id] = session
        self._later(self._lasts_s + MARGIN_S, self._expire)
        return session

    def get(self, identity: str) -> StatefulSession:
        """Raises MalformedInput when there is none, or none any more."""
        self._expire()
        session = self._open.get(identity)
        if session is None:
            raise MalformedInput("there is no such session, or it has ended: open one with NEW_SESSION")
        return session

    def close(self, identity: str) -> StatefulSession:
        """Raises MalformedInput as :meth:`get` does."""
        session = self.get(identity)
        del self._open[session.id]
        session.end()
        return session

    def around(self, handler: Handler) -> Handler:
        """The handler, with sessions; requests that have none reach it as they are."""

        def handle(head: Head, body: bytes, reply: Reply) -> InferRequest | None:
            asked = head.get(SESSION_ID)
            if asked is None:
                return handler(head, body, reply)
            try:
                return self._within(asked, head, body, reply, handler)
            except SlipwayError as error:
                reply_failure(error, head, reply)
                return None

        return handle

    def _within(self, asked: bytes, head: Head, body: bytes, reply: Reply, handler: Handler) -> InferRequest | None:
        command = _command(body)
        if asked == OPEN:
            if command == "CLOSE":
                raise MalformedInput("a session that is to be closed must be named in the header Session-Id")
            session = self.open()
            ends = datetime.fromtimestamp(session.ends_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            told: Headers = [(NEW_SESSION_ID, f"{session.id}; Expires={ends}".encode())]
            if command == "NEW_SESSION":
                reply(200, JSON, orjson.dumps({"sessionId": session.id}), told)
                return None
            return handler(SessionHead(head, session), body, self._telling(session, told, reply))
        session = self.get(asked.decode("latin-1"))
        if command == "CLOSE":
            self.close(session.id)
            reply(200, JSON, orjson.dumps({"sessionId": session.id}), [(CLOSED_SESSION_ID, session.id.encode())])
            return None
        return handler(SessionHead(head, session), body, reply)

    def _telling(self, session: StatefulSession, told: Headers, reply: Reply) -> Reply:
        """A reply that brings the session's id; where the request failed nobody hears of the session, so it ends."""

        def tell(status: int, content_type: bytes, body: bytes, headers: Headers = NO_HEADERS) -> None:
            if status == 200:
                headers = [*headers, *told]
            else:
                self._open.pop(session.id, None)
                session.end()
            reply(status, content_type, body, headers)

        return tell

    def _expire(self) -> None:
        now_s = self._clock()
        for session in list(self._open.values()):
            if session.ends_s > now_s:
                break
            del self._open[session.id]
            session.end()


def _command(body: bytes) -> str | None:
    """The ``requestType`` of a body that is nothing but that."""
    if len(body) > LONGEST_COMMAND or b'"requestType"' not in body:
        return None
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return fields.get("requestType") if isinstance(fields, dict) else None
