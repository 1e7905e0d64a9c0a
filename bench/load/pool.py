"""The pool: gives each request a connection, up to a number of connections and a time limit for each request."""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable

from .connection import Clock, Connection
from .measurements import Ending, Measurements, Outcome, Request
from .shot import Shot

# Faults of this machine, not of the server: no file descriptor, port or memory is left for another connection.
EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.EADDRNOTAVAIL, errno.ENOBUFS, errno.ENOMEM})
NS_PER_S = 1_000_000_000
Ended = Callable[[Outcome], None]
Dial = Callable[["Pool", Connection], None]
"""Begins to open a connection: ``connection_made`` on it follows, or ``refused`` on the pool."""


class Pool:
    """Opens connections as they are needed, keeps them alive, and gives each request to the one used last.

    ``ended`` is called once for each submitted request, after its connection is free again. ``changed`` is called
    after a connection was opened, refused or closed. The time limit of a request counts from its intended instant.
    """

    def __init__(
        self,
        shot: Shot,
        clock: Clock,
        measurements: Measurements,
        ended: Ended,
        dial: Dial,
        changed: Callable[[], None],
    ) -> None:
        self.target = shot.target
        self.tls = shot.target.tls_context()
        self.timeout_ns = round(shot.timeout_s * NS_PER_S)
        self.connections: set[Connection] = set()
        self.dialling = 0
        self.measurements = measurements
        self.in_flight = 0
        self.peak_in_flight = 0
        self.cap_hits = 0
        self.exhausted = False
        self.opened_in_all = 0
        self._carrier = shot.carrier
        self._max_connections = shot.max_connections
        self._spare = shot.spare
        self._clock = clock
        self._ended = ended
        self._dial = dial
        self._changed = changed
        self._idle: list[Connection] = []
        self._busy: dict[Request, Connection] = {}
        self._waiting: deque[Request] = deque()
        self._by_due: deque[Request] = deque()

    def open(self, count: int) -> None:
        """Begin to open up to ``count`` connections ahead of the load, so that its start is no burst of handshakes."""
        for _ in range(min(count, self._max_connections)):
            self._grow()

    def submit(self, request: Request) -> None:
        """Send the request on an idle connection, or let it wait for one. Submit requests in order of ``due_ns``."""
        self.in_flight += 1
        self.peak_in_flight = max(self.peak_in_flight, self.in_flight)
        self._by_due.append(request)
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                self._send(connection, request)
                if self._spare:
                    self._keep_spare()
                return
        self._waiting.append(request)
        if not self._grow_for_waiting():
            self.cap_hits += 1

    def expire(self, now_ns: int) -> None:
        """End every request whose time limit has passed. Call it every few milliseconds."""
        by_due = self._by_due
        while by_due and (by_due[0].done or by_due[0].due_ns + self.timeout_ns <= now_ns):
            request = by_due.popleft()
            if request.done:
                continue
            connection = self._busy.pop(request, None)
            if connection is not None:
                connection.abort()
            self._finish(request, Ending(Outcome.TIMEOUT), request.due_ns + self.timeout_ns)

    def forget(self) -> None:
        """Drop the requests in flight without a row: their load is over."""
        self._waiting.clear()
        self._busy.clear()

    def abort(self) -> None:
        """Close every connection at once."""
        for connection in tuple(self.connections):
            connection.abort()

    def resent(self) -> int | None:
        """TCP segments sent again on the connections that are open now; None where the kernel does not count them."""
        counts = [count for one in self.connections if (count := one.resent()) is not None]
        return sum(counts) if counts else None

    def opened(self, connection: Connection) -> None:
        self.connections.add(connection)
        self.opened_in_all += 1
        self.dialling -= 1
        self._ready(connection)
        self._changed()

    def ended(self, connection: Connection, request: Request, ending: Ending, last_byte_ns: int) -> None:
        self._busy.pop(request, None)
        if connection.usable:
            self._ready(connection)
        self._finish(request, ending, last_byte_ns)

    def closed(self, connection: Connection) -> None:
        self.connections.discard(connection)
        self._grow_for_waiting()
        self._changed()

    def refused(self, error: OSError) -> None:
        """A connection could not be opened, or not within the time limit."""
        self.dialling -= 1
        if error.errno in EXHAUSTED:
            self.exhausted = True
        self._fail_oldest_waiting(str(error) or "no connection within the time limit")
        self._changed()

    def _ready(self, connection: Connection) -> None:
        while self._waiting:
            request = self._waiting.popleft()
            if not request.done:
                self._send(connection, request)
                return
        self._idle.append(connection)

    def _send(self, connection: Connection, request: Request) -> None:
        self._busy[request] = connection
        connection.send(request)

    def _finish(self, request: Request, ending: Ending, last_byte_ns: int) -> None:
        request.done = True
        self.in_flight -= 1
        self.measurements.add(request, ending, last_byte_ns)
        self._ended(ending.outcome)

    def _grow_for_waiting(self) -> bool:
        """Open one more connection if more requests wait than connections are being opened; False at the maximum."""
        if self.dialling >= len(self._waiting):
            return True
        if len(self.connections) + self.dialling >= self._max_connections:
            return False
        self._grow()
        return True

    def _keep_spare(self) -> None:
        """Open connections ahead of the requests that will need them, where the load wants some to spare."""
        idle = sum(one.usable for one in self._idle)
        while idle + self.dialling < self._spare and len(self.connections) + self.dialling < self._max_connections:
            self._grow()

    def _grow(self) -> None:
        self.dialling += 1
        self._dial(self, Connection(self, self._carrier, self._clock))

    def _fail_oldest_waiting(self, why: str) -> None:
        while self._waiting:
            request = self._waiting.popleft()
            if not request.done:
                self._finish(request, Ending(Outcome.CONNECTION, detail=why.encode()), self._clock())
                return
