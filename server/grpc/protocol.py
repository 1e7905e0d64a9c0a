"""One connection for gRPC on the event loop: the socket, the timers and the accounts around the HTTP/2 connection."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from time import perf_counter_ns
from typing import Any

from ..errors import MalformedInput, ServerFull, SlipwayError, SlowRequest
from ..http.half_closed import close_after_reading
from ..http.protocol import LEAST_BYTES_PER_S
from .call import Call
from .connection import Connection
from .fields import Fields
from .frames import ENHANCE_YOUR_CALM, INTERNAL_ERROR, ConnectionFault
from .port import Port
from .stream import Stream

log = logging.getLogger("slipway.grpc")

ALMOST = 0.95
"""The event loop's clock and the one of requests differ a little."""

CLOSE_S = 10.0
"""How long a closed connection may take for its last bytes."""

PLAIN_HTTP = (
    b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\ncontent-length: 49\r\nconnection: close\r\n\r\n"
    b"this port speaks gRPC; send HTTP/1.1 to the other"
)
"""The response to a client that does not speak HTTP/2."""


DRAIN_LOOK_S = 2.0
"""How often a drain looks whether clients take their responses."""


class GrpcProtocol(asyncio.Protocol):
    """One connection. ``came`` is called with it when it is open, behind the handshake of TLS, which may never end;
    ``gone`` when it is closed."""

    def __init__(
        self, port: Port, loop: Any, came: Callable[[GrpcProtocol], None], gone: Callable[[GrpcProtocol], None]
    ) -> None:
        self._port = port
        self._loop = loop
        self._came = came
        self._gone = gone
        self._transport: Any = None
        now_ns = perf_counter_ns()
        self._connection = Connection(self._begin, port.hot.max_head_bytes, port.unsent, self._ask, now_ns)
        self._held_bytes = 0  # of an unfinished frame
        self._closing = False
        self._reading = True
        self._going_on = False  # at the next turn of the event loop
        self._busy = False  # there was a call when this was last looked at
        self._last_ns = now_ns  # the end of the last call
        self._since_ns = now_ns  # since then some frame has not arrived in full; 0: all have
        self._received_bytes = self._seen_bytes = 0
        self._stuck_at_bytes = -1  # sent when the idle timer was started and a response waited; -1: none waited
        self._read_timer: Any = None
        self._idle_timer: Any = None

    # Called by the transport

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        if not self._port.hot.connections.admit(self):
            self._connection.start()
            self._refuse(ServerFull("the server has as many connections as it may; retry later"), ENHANCE_YOUR_CALM)
        else:
            self._idle_timer = self._loop.call_later(self._port.hot.keep_alive_s, self._look)
            self._time_reading()
        self._came(self)

    def data_received(self, data: bytes) -> None:
        if self._closing:
            return
        self._received_bytes += len(data)
        self._receive(data)

    def _receive(self, data: bytes) -> None:
        connection = self._connection
        now_ns = perf_counter_ns()
        connection.out.taken = True
        try:
            connection.receive(data, now_ns)
        except Exception:
            log.exception("a connection failed")
            connection.fail(ConnectionFault(INTERNAL_ERROR, "the server failed; its log has the details"))
        self._hold(len(connection.rest))
        unfinished = connection.unfinished
        self._since_ns = (self._since_ns or now_ns) if unfinished else 0
        if connection.fault is not None:
            self._port.hot.refused[MalformedInput.code] += 1
            if not connection.opened:
                connection.out.add(PLAIN_HTTP)
        elif self._read_timer is None and (unfinished or connection.streams):
            self._time_reading()
        self._flush()

    def _go_on(self) -> None:
        """Look at the frames and messages that the last turn of the event loop has left."""
        self._going_on = False
        if self._connection.out.writable and not self._closing:
            self._receive(b"")

    def _regulate(self) -> None:
        """Read nothing from a client that does not read, nor while frames of an earlier turn are left."""
        halted, writable = self._connection.halted, self._connection.out.writable
        reading = self._closing or (writable and not halted)
        if (reading and self._reading) or self._transport.is_closing():
            return
        if reading != self._reading:
            self._reading = reading
            if reading:
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()
        if halted and writable and not self._going_on:
            self._going_on = True
            self._loop.call_soon(self._go_on)

    def eof_received(self) -> None:
        """The client sends nothing more: it has left. The transport closes."""

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the signature of asyncio
        self._closing = True
        self._connection.out.taken = True  # nobody is to be asked to send
        self._connection.lose()
        self._hold(0)
        self._port.hot.connections.leave(self)
        for timer in (self._read_timer, self._idle_timer):
            if timer is not None:
                timer.cancel()
        self._gone(self)

    def pause_writing(self) -> None:
        self._connection.out.writable = False
        self._regulate()

    def resume_writing(self) -> None:
        self._connection.resume()
        self._regulate()

    # Called by the listener, and by the limit on connections

    def leave(self) -> None:
        """The server is draining: take no more calls, and close when the last one is over."""
        self._connection.leave("the server is draining")
        for stream in list(self._connection.streams.values()):
            stream.receiver.leave()
        self._flush()
        self._look_in_drain(None)

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()

    def idle_ns(self) -> int:
        """Nanoseconds since it last had a call; 0 while it has one."""
        return 0 if self._connection.streams else perf_counter_ns() - self._last_ns

    def close_idle(self) -> None:
        """Close it; it has no call."""
        self._connection.leave("the connection is idle")
        self._flush()

    # Called by the connection

    def _begin(self, stream: Stream, fields: Fields) -> None:
        self._busy = True
        Call(self._port, self._connection, stream, fields)

    def _ask(self) -> None:
        """Frames are ready outside of any other call: those of one turn of the event loop are sent together."""
        self._loop.call_soon(self._flush)

    # Called by timers

    def _read_expired(self) -> None:
        """End what has not arrived in time."""
        self._read_timer = None
        connection, now_ns = self._connection, perf_counter_ns()
        if self._closing:
            return
        if not connection.out.writable:
            self._time_reading()  # nothing is read: see _look
            return
        seconds = self._port.hot.read_timeout_s
        least_bytes, before_ns = LEAST_BYTES_PER_S * seconds, now_ns - int(seconds * ALMOST * 1e9)
        came_bytes, self._seen_bytes = self._received_bytes - self._seen_bytes, self._received_bytes
        number, arrived_bytes = connection.partial
        late = connection.unfinished and self._since_ns <= before_ns and came_bytes < least_bytes
        if late and number not in connection.streams:
            self._refuse(SlowRequest("a frame has not arrived in time"), ENHANCE_YOUR_CALM)
            return
        for one, stream in list(connection.streams.items()):
            stream.receiver.slow(arrived_bytes if one == number else 0, least_bytes, before_ns)
        if connection.unfinished or connection.streams:
            self._time_reading()
        self._flush()

    def _look(self) -> None:
        """Close a connection without calls, and one whose client does not read."""
        connection, keep_alive_s = self._connection, self._port.hot.keep_alive_s
        out = connection.out
        stuck = out.unsent_bytes > 0 or not out.writable
        if stuck and out.sent_bytes == self._stuck_at_bytes:
            self.abort()
            return
        self._stuck_at_bytes = out.sent_bytes if stuck else -1
        left_s = keep_alive_s - self.idle_ns() / 1e9
        if left_s <= 0:
            self.close_idle()
            return
        self._idle_timer = self._loop.call_later(left_s, self._look)

    def _look_in_drain(self, left_bytes: int | None) -> None:
        """Close a connection whose calls all wait for their client to take responses, if it has taken nothing since the
        last look: it would hold up the end of the server. ``left_bytes``: those that had left then; None where a call
        waited for anything else."""
        if self._closing:
            return
        out, streams = self._connection.out, self._connection.streams.values()
        held = bool(out.unsent_bytes or not out.writable) and all(one.unsent for one in streams)
        now_bytes = out.sent_bytes - self._transport.get_write_buffer_size() if held else None
        if held and now_bytes == left_bytes:
            log.warning("a client takes no responses, its connection is closed unsent_bytes=%d", out.unsent_bytes)
            self.abort()
            return
        self._loop.call_later(DRAIN_LOOK_S, self._look_in_drain, now_bytes)

    # Sending and closing

    def _flush(self) -> None:
        """Send the frames that are ready, and close if there will be no others."""
        connection, transport = self._connection, self._transport
        heavy = connection.out.heavy
        ready = connection.out.take()
        if ready and not self._closing and not transport.is_closing():
            if heavy:
                transport.writelines(ready)
            else:
                transport.write(ready[0] if len(ready) == 1 else b"".join(ready))
        if self._busy and not connection.streams:
            self._busy = False
            self._last_ns = perf_counter_ns()
        if connection.over and not self._closing:
            self._close()
        self._regulate()

    def _refuse(self, error: SlipwayError, code: int) -> None:
        """Count an error of the connection itself, and end it."""
        self._port.hot.refused[error.code] += 1
        self._connection.fail(ConnectionFault(code, str(error)))
        self._flush()

    def _close(self) -> None:
        """Close after the last bytes. A client that is still sending gets time to read them."""
        self._closing = True
        self._hold(0)
        if self._connection.fault is not None:
            close_after_reading(self._transport, self._loop)
        else:
            self._transport.close()
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        self._idle_timer = self._loop.call_later(CLOSE_S, self._transport.abort)

    def _hold(self, size_bytes: int) -> None:
        """Count the bytes of an unfinished frame."""
        if size_bytes != self._held_bytes:
            self._port.hot.account.move(size_bytes - self._held_bytes)
            self._held_bytes = size_bytes

    def _time_reading(self) -> None:
        self._read_timer = self._loop.call_later(self._port.hot.read_timeout_s, self._read_expired)
