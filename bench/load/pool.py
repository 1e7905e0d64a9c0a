"""The pool: requests meet connections, up to a cap, and nobody waits for longer than the time limit."""

from __future__ import annotations

import errno
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable

from .connection import Clock, Connection
from .measurements import Ending, Measurements, Outcome, Request
from .server_timing import Carrier
from .target import Target

# Not the server's fault: this machine has no file descriptor, port or memory left for another connection.
EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.EADDRNOTAVAIL, errno.ENOBUFS, errno.ENOMEM})
Ended = Callable[[Outcome], None]


class Pool(ABC):
    """Opens connections as they are needed, keeps them alive, gives each request to the one used last.

    ``ended`` is called once per submitted request, after its connection is free again. ``timeout_ns`` counts from the
    intended instant, as the patience of whoever wanted to send then. How a connection is made is the engine's own
    (``_dial``), and so are waiting for the first ones and dropping the last.
    """

    def __init__(
        self,
        target: Target,
        carrier: Carrier,
        *,
        max_connections: int,
        timeout_ns: int,
        clock: Clock,
        measurements: Measurements,
        ended: Ended,
    ) -> None:
        self.measurements = measurements
        self.in_flight = 0
        self.peak_in_flight = 0
        self.cap_hits = 0
        self.exhausted = False
        self._target = target
        self._carrier = carrier
        self._max_connections = max_connections
        self._timeout_ns = timeout_ns
        self._clock = clock
        self._ended = ended
        self._idle: list[Connection] = []
        self._busy: dict[Request, Connection] = {}
        self._waiting: deque[Request] = deque()
        self._by_due: deque[Request] = deque()
        self._connections: set[Connection] = set()
        self._coming = 0
        self._tls = target.tls_context()

    @abstractmethod
    def _dial(self, connection: Connection) -> None:
        """Begin to open the connection: ``connection_made`` on it follows, or ``refused`` here."""

    def submit(self, request: Request) -> None:
        """Send it on an idle connection, or have it wait for one. Requests must come in the order of their due."""
        self.in_flight += 1
        self.peak_in_flight = max(self.peak_in_flight, self.in_flight)
        self._by_due.append(request)
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                self._send(connection, request)
                return
        self._waiting.append(request)
        if not self._grow_for_waiting():
            self.cap_hits += 1

    def expire(self, now_ns: int) -> None:
        """End every request whose time limit has passed; to be called every few milliseconds."""
        by_due = self._by_due
        while by_due and (by_due[0].done or by_due[0].due_ns + self._timeout_ns <= now_ns):
            request = by_due.popleft()
            if request.done:
                continue
            connection = self._busy.pop(request, None)
            if connection is not None:
                connection.abort()
            self._finish(request, Ending(Outcome.TIMEOUT), request.due_ns + self._timeout_ns)

    def forget(self) -> None:
        """Requests still in flight are forgotten, not recorded: their load is over."""
        self._waiting.clear()
        self._busy.clear()

    def opened(self, connection: Connection) -> None:
        self._connections.add(connection)
        self._coming -= 1
        self._ready(connection)

    def ended(self, connection: Connection, request: Request, ending: Ending, last_byte_ns: int) -> None:
        self._busy.pop(request, None)
        if connection.usable:
            self._ready(connection)
        self._finish(request, ending, last_byte_ns)

    def closed(self, connection: Connection) -> None:
        self._connections.discard(connection)
        self._grow_for_waiting()

    def refused(self, connection: Connection, error: OSError) -> None:
        """The connection could not be opened in time, or at all."""
        if connection.usable:
            return  # it opened in the very turn in which the time was up
        self._coming -= 1
        if error.errno in EXHAUSTED:
            self.exhausted = True
        self._fail_oldest_waiting(str(error) or "no connection within the time limit")

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
        """One more connection if more requests wait than connections are coming; False when the cap forbids it."""
        if self._coming >= len(self._waiting):
            return True
        if len(self._connections) + self._coming >= self._max_connections:
            return False
        self._grow()
        return True

    def _grow(self) -> None:
        self._coming += 1
        self._dial(Connection(self, self._carrier, self._clock))

    def _fail_oldest_waiting(self, why: str) -> None:
        while self._waiting:
            request = self._waiting.popleft()
            if not request.done:
                self._finish(request, Ending(Outcome.CONNECTION, detail=why.encode()), self._clock())
                return
