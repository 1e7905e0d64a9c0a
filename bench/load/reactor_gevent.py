"""The gevent reactor: turns a load's loops inside a program that gevent runs, such as locust.

Imported by processes that gevent has patched, and by no other. Its connections, its pool and its loops are those of the
fast engine: only who waits for sockets and timers differs, so both see the same request in the same way.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import Any, TypeVar

import gevent
from gevent.event import Event
from gevent.pool import Group
from gevent.socket import create_connection

from . import event_loop as looping
from . import timer
from .connection import Clock, Connection
from .loops import HOUSEKEEPING_S, Load, RawRun, Shot, Watch
from .measurements import Measurements
from .pool import Ended, Pool

NS_PER_S = 1_000_000_000
READ, WRITE = 1, 2
READ_BYTES = 65_536
CLOSE_S = 2.0
NOT_NOW = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
Result = TypeVar("Result")


class GeventReactor:
    """A ``loops.Reactor``; drives one load from the greenlet that calls ``drive``."""

    def __init__(self) -> None:
        self._hub = gevent.get_hub()
        self._over = Event()
        self._pool: GeventPool | None = None

    def pool(self, shot: Shot, clock: Clock, measurements: Measurements, ended: Ended) -> GeventPool:
        self._pool = GeventPool(
            shot.target,
            shot.carrier,
            max_connections=shot.max_connections,
            timeout_ns=round(shot.timeout_s * NS_PER_S),
            clock=clock,
            measurements=measurements,
            ended=ended,
        )
        return self._pool

    def timer(self, callback: Callable[[], None]) -> timer.Timer:
        return timer.make(_Loop(self._hub.loop), callback)

    def later(self, seconds: float, callback: Callable[[], None]) -> None:
        gevent.spawn_later(seconds, callback)

    def in_thread(self, work: Callable[[], Result]) -> _Pending:
        return _Pending(self._hub.threadpool.spawn(work))

    def end(self) -> None:
        self._over.set()

    def drive(self, load: Load, watch: Watch | None, gate: Callable[[], int], connections: int) -> RawRun:
        """From the first connection to the last. ``gate`` gives the instant of the start once they are open."""
        pool = self._pool
        assert pool is not None
        with looping.without_collector():
            try:
                pool.open(connections)
                load.begin(gate())
                while not self._over.wait(HOUSEKEEPING_S):
                    load.look(watch)
            finally:
                load.end_sending()
                pool.close()
        return load.result()


class GeventPool(Pool):
    """Its connections are greenlets, each with one socket."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._greenlets = Group()
        self._settled = Event()

    def open(self, count: int) -> None:
        """Open up to ``count`` connections ahead of the load; those that fail will fail the load's requests too."""
        for _ in range(min(count, self._max_connections)):
            self._grow()
        while self._coming:
            self._settled.clear()
            self._settled.wait()

    def close(self) -> None:
        """Drop every connection and attempt."""
        self.forget()
        for connection in tuple(self._connections):
            connection.abort()
        self._greenlets.kill(timeout=CLOSE_S)

    def opened(self, connection: Connection) -> None:
        super().opened(connection)
        self._settled.set()

    def refused(self, connection: Connection, error: OSError) -> None:
        super().refused(connection, error)
        self._settled.set()

    def _dial(self, connection: Connection) -> None:
        self._greenlets.spawn(self._connect, connection)

    def _connect(self, connection: Connection) -> None:
        """Open it, then read from it until it ends."""
        target = self._target
        try:
            found: Any = create_connection((target.host, target.port), timeout=self._timeout_ns / NS_PER_S)
            if self._tls is not None:
                found = self._tls.wrap_socket(found, server_hostname=target.host)
        except OSError as error:  # a time-out is one
            self.refused(connection, error)
            return
        found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        _Transport(found, connection).read()


class _Transport(asyncio.Transport):
    """A socket in the clothes of asyncio's transports, as far as ``Connection`` knows them."""

    def __init__(self, of: Any, connection: Connection) -> None:
        super().__init__()
        of.settimeout(0)
        self._socket = of
        self._connection = connection
        self._unsent = b""
        self._closing = False
        self._error: OSError | None = None
        self._reader = gevent.getcurrent()
        self._hub = gevent.get_hub()

    def read(self) -> None:
        """Hand on what comes, until either side closes; runs in the connection's own greenlet."""
        tls = isinstance(self._socket, ssl.SSLSocket)
        watcher = self._hub.loop.io(self._socket.fileno(), READ)
        connection = self._connection
        connection.connection_made(self)
        try:
            while not self._closing:
                # Waiting first: a reply has hardly ever come by the time that its request has left. TLS may hold bytes
                # that its socket no longer tells of.
                if not tls or not self._socket.pending():
                    self._hub.wait(watcher)
                try:
                    data = self._socket.recv(READ_BYTES)
                except NOT_NOW:
                    continue
                if not data:
                    break
                connection.data_received(data)
        except OSError as error:
            self._error = error
        except gevent.GreenletExit:
            pass
        finally:
            self._closing = True
            watcher.close()
            self._socket.close()
            connection.connection_lost(self._error)

    def write(self, data: Any) -> None:
        if self._unsent:
            self._unsent += data
            return
        sent = self._send(data)
        if sent < len(data) and not self._closing:
            self._unsent = bytes(data[sent:])
            gevent.spawn(self._flush)

    def get_write_buffer_size(self) -> int:
        return len(self._unsent)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass  # nothing is kept back: whatever the kernel does not take is unsent

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            if gevent.getcurrent() is not self._reader:
                self._reader.kill(block=False)

    def abort(self) -> None:
        self.close()

    def _send(self, data: Any) -> int:
        try:
            return int(self._socket.send(data))
        except NOT_NOW:
            return 0
        except OSError as error:
            self._error = error
            self.close()
            return len(data)

    def _flush(self) -> None:
        watcher = self._hub.loop.io(self._socket.fileno(), WRITE)
        try:
            while self._unsent and not self._closing:
                self._hub.wait(watcher)
                if not self._closing:
                    self._unsent = self._unsent[self._send(self._unsent) :]
        finally:
            watcher.close()
        if not self._closing:
            self._connection.resume_writing()


class _Pending:
    """Work of gevent's pool of threads, as ``loops.Pending``."""

    def __init__(self, told: Any) -> None:
        self._told = told

    def done(self) -> bool:
        return bool(self._told.ready())

    def result(self) -> Any:
        return self._told.get()


class _Handle:
    def __init__(self, greenlet: Any) -> None:
        self._greenlet = greenlet

    def cancel(self) -> None:
        # A timer that is set anew from its own callback cancels the call that it is in.
        if gevent.getcurrent() is not self._greenlet:
            self._greenlet.kill(block=False)


class _Loop:
    """gevent's event loop as a timer knows one. Callbacks run in gevent's hub, and may not wait."""

    def __init__(self, loop: Any) -> None:
        self._loop = loop
        self._watchers: dict[int, Any] = {}

    def add_reader(self, fd: int, callback: Callable[[], None]) -> None:
        watcher = self._loop.io(fd, READ)
        watcher.start(callback)
        self._watchers[fd] = watcher

    def remove_reader(self, fd: int) -> None:
        self._watchers.pop(fd).close()

    def call_later(self, delay: float, callback: Callable[[], None]) -> timer.Handle:
        return _Handle(gevent.spawn_later(delay, callback))

    def call_soon(self, callback: Callable[[], None]) -> timer.Handle:
        return _Handle(gevent.spawn(callback))
