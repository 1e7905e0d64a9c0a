"""The gevent driver: runs a load inside a program that gevent runs, such as locust.

Import it only in processes that gevent has patched. Connections, pool and loops are those of the fast engine; only the
waiting for sockets and timers differs.
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

from . import event_loop, timer
from .arrivals import NS_PER_S
from .connection import Connection
from .loops import HOUSEKEEPING_S, Load
from .pool import Pool
from .raw_run import RawRun, Watch

READ, WRITE = 1, 2
READ_BYTES = 65_536
CLOSE_S = 2.0
"""Time for greenlets to end after a load."""
NOT_NOW = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
Result = TypeVar("Result")


class GeventDriver:
    """A ``loops.Driver``; drives one load from the greenlet that calls ``drive``. A connection is a greenlet."""

    def __init__(self) -> None:
        self._hub = gevent.get_hub()
        self._over = Event()
        self._changed = Event()
        self._greenlets = Group()

    def timer(self, callback: Callable[[], None]) -> timer.Timer:
        return timer.make(_Loop(self._hub.loop), callback)

    def later(self, seconds: float, callback: Callable[[], None]) -> None:
        gevent.spawn_later(seconds, callback)

    def in_thread(self, work: Callable[[], Result]) -> _Pending:
        return _Pending(self._hub.threadpool.spawn(work))

    def changed(self) -> None:
        self._changed.set()

    def end(self) -> None:
        self._over.set()

    def dial(self, pool: Pool, connection: Connection) -> None:
        self._greenlets.spawn(_connect, pool, connection)

    def drive(self, load: Load, watch: Watch | None, gate: Callable[[], int]) -> RawRun:
        """Run the load from its first connection to its last. ``gate`` gives the start once all are open."""
        with event_loop.without_collector():
            try:
                load.pool.open(load.warm_connections)
                while load.pool.dialling:
                    self._changed.clear()
                    self._changed.wait()
                load.begin(gate())
                while not self._over.wait(HOUSEKEEPING_S):
                    load.look(watch)
            finally:
                load.end_sending()
                load.pool.forget()
                load.pool.abort()
                self._greenlets.kill(timeout=CLOSE_S)
        return load.result()


def _connect(pool: Pool, connection: Connection) -> None:
    """Open the connection, then read from it until it ends."""
    target = pool.target
    try:
        found: Any = create_connection((target.host, target.port), timeout=pool.timeout_ns / NS_PER_S)
        if pool.tls is not None:
            found = pool.tls.wrap_socket(found, server_hostname=target.host)
    except OSError as error:  # a time-out is one
        pool.refused(error)
        return
    found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    _Transport(found, connection).read()


class _Transport(asyncio.Transport):
    """A socket with the methods of asyncio's transports that ``Connection`` uses."""

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
        """Give received bytes to the connection until either side closes. Runs in the connection's greenlet."""
        tls = isinstance(self._socket, ssl.SSLSocket)
        watcher = self._hub.loop.io(self._socket.fileno(), READ)
        connection = self._connection
        connection.connection_made(self)
        try:
            while not self._closing:
                # Wait first: the response has rarely come by the time that its request has left. TLS may hold bytes
                # that make its socket no longer readable.
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
        pass  # there is no buffer: bytes that the kernel does not take are unsent

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
    """A call in gevent's thread pool, as ``loops.Pending``."""

    def __init__(self, result: Any) -> None:
        self._result = result

    def done(self) -> bool:
        return bool(self._result.ready())

    def result(self) -> Any:
        return self._result.get()


class _Handle:
    """A callback that gevent will run, as ``timer.Handle``."""

    def __init__(self, greenlet: Any) -> None:
        self._greenlet = greenlet

    def cancel(self) -> None:
        # A timer that is set again in its own callback cancels the greenlet that runs it.
        if gevent.getcurrent() is not self._greenlet:
            self._greenlet.kill(block=False)


class _Loop:
    """gevent's event loop as ``timer.Loop``. Callbacks run in gevent's hub and must not wait."""

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
