"""The connection: HTTP/2 as a server speaks it (RFC 9113). Bytes in, calls and frames out; no socket and no clock.

The file is longer than 300 lines because the class is one state machine: every frame changes one state.
"""

from __future__ import annotations

from collections.abc import Callable

from ..http.limits import ProcessAccount
from . import frames
from .fields import Fields, MalformedFields
from .flood import FloodBudget
from .frames import DATA, END_HEADERS, END_STREAM, HEAD_BYTES, HEADERS, PROTOCOL_ERROR, ConnectionFault, read_head
from .header_block import HeaderBlock
from .header_reader import HeaderReader
from .outgoing import LARGEST_FRAME, Outgoing
from .stream import Stream

STREAMS = 1_024
"""Calls of one connection that are under way; further ones wait at the client."""

ABANDONED = 1_024
"""Calls beside them whose client has left and whose requests have not ended."""

STREAM_WINDOW = 1_048_576
"""Bytes of one stream that a client may send before they are taken."""

WINDOW = 8_388_608
"""Bytes of one connection that a client may send ahead of the next update; they count as they arrive."""

FRAMES_AT_ONCE = 256
"""Frames of one connection that are looked at in one turn of the event loop: one chunk may hold thousands."""

BLOCK_FACTOR = 2
"""A header block may be so many times as large as the limit of its fields before the connection ends."""

UNREAD_REPLIES = 1_000
"""Replies to PING, SETTINGS and the like that a client may leave unread."""

Begin = Callable[[Stream, Fields], None]
"""Gets each new call, and sets the receiver of its stream."""


class Connection:
    """One connection. ``begin`` gets its calls; ``out`` has what is to be sent.

    ``under_way`` counts calls whose requests have not ended; whoever begins a call takes one off when it has.
    ``over`` says that no call is open and none will be. ``done`` says that nothing is to be read any more.
    """

    def __init__(
        self,
        begin: Begin,
        max_head_bytes: int,
        unsent: ProcessAccount,
        ask: Callable[[], None],
        now_ns: int,
    ) -> None:
        """``unsent``: the bytes that wait to be sent, of all connections. ``ask``: see :class:`Outgoing`."""
        self._begin = begin
        self._max_head_bytes = max_head_bytes
        self._reader = HeaderReader(max_head_bytes)
        self._flood = FloodBudget(now_ns)
        self.now_ns = now_ns  # of the bytes that are being taken
        self.out = Outgoing(unsent, ask, self._sent)
        self.streams: dict[int, Stream] = {}
        self.under_way = 0
        self.done = False
        self.fault: ConnectionFault | None = None
        self.rest = b""  # of a frame that has not arrived in full
        self.opened = False  # the preface has arrived, and was sent
        self.halted = False
        self.leaving = False  # GOAWAY was sent or received
        self._settled = False  # the first SETTINGS have arrived
        self._last = 0  # the highest stream of the client
        self._limit = frames.MOST_WINDOW  # streams above it are ignored
        self._window = WINDOW
        self._block = HeaderBlock(BLOCK_FACTOR * max_head_bytes)
        self._unread_replies = 0
        self._credited_bytes = 0  # sent, and counted for the client's idle frames

    # Called by the protocol

    def start(self) -> None:
        """Send the server's part of the preface, which a client of another protocol does not get."""
        self.opened = True
        limits = {frames.MAX_CONCURRENT_STREAMS: STREAMS, frames.INITIAL_WINDOW_SIZE: STREAM_WINDOW}
        self.out.add(frames.settings({**limits, frames.MAX_HEADER_LIST_SIZE: self._max_head_bytes}))
        self.out.add(frames.window_update(0, WINDOW - frames.FIRST_WINDOW))

    def receive(self, data: bytes, now_ns: int) -> None:
        """Take bytes, in pieces of any size. A fault ends the connection: GOAWAY is sent, and ``done`` is set.

        ``halted`` says that whole frames may be left: other connections have their turn before the next call of this.
        """
        if self.done:
            return
        self.now_ns = now_ns
        if self.rest:
            data = self.rest + data
        at, left = 0, FRAMES_AT_ONCE
        try:
            if not self.opened:
                at = self._open(data)
            while self.opened and left and len(data) - at >= HEAD_BYTES:
                upper, lower, kind, flags, number = read_head(data, at)
                size = upper << 8 | lower
                end = at + HEAD_BYTES + size
                if size > frames.FRAME_BYTES:
                    raise ConnectionFault(frames.FRAME_SIZE_ERROR, f"a frame is larger than {frames.FRAME_BYTES} bytes")
                if end > len(data):
                    break
                self._frame(kind, flags, number & frames.MOST_WINDOW, data, at + HEAD_BYTES, end)
                at = end
                left -= 1
        except ConnectionFault as fault:
            self.fail(fault)
            return
        self.rest = data[at:] if at else data
        self.halted = not left and bool(self.rest)

    def fail(self, fault: ConnectionFault) -> None:
        """End the connection: say why, and read nothing more."""
        self.fault = fault
        self.done, self.halted, self.rest = True, False, b""
        if self.opened:
            self.out.add(frames.goaway(self._last, fault.code, str(fault)))
        self.lose()

    def lose(self) -> None:
        """The connection is closed, or will be: all calls have lost their client."""
        self.done = True
        for stream in list(self.streams.values()):
            self._close(stream)

    def leave(self, reason: str) -> None:
        """Take no more calls; those that are under way go on."""
        if not self.leaving and not self.done:
            self.leaving = True
            self._limit = self._last
            if not self.opened:
                self.start()
            self.out.add(frames.goaway(self._last, frames.NO_ERROR, reason))

    @property
    def over(self) -> bool:
        """Whether no call is open and none will be."""
        return self.done or (self.leaving and not self.streams)

    @property
    def unfinished(self) -> bool:
        """Whether a frame or a header block has not arrived in full, or nothing has arrived yet."""
        return bool(self.rest or self._block.stream) or not self._settled

    @property
    def partial(self) -> tuple[int, int]:
        """The stream of a frame that has not arrived in full, and what has arrived of its payload; 0 for none."""
        if len(self.rest) < HEAD_BYTES or not self.opened:
            return 0, 0
        return read_head(self.rest)[4] & frames.MOST_WINDOW, len(self.rest) - HEAD_BYTES

    def resume(self) -> None:
        """The socket takes bytes again."""
        self._unread_replies = 0
        self.out.writable = True
        self.out.pump()

    # Called by calls

    def reset(self, stream: Stream, code: int) -> None:
        """End a stream without a response."""
        if not stream.over:
            self.out.add(frames.reset(stream.number, code))
            self._close(stream)

    def refill(self, stream: Stream) -> None:
        """Let the client send more on a stream."""
        if stream.remote_open and stream.hungry and stream.receive_window <= STREAM_WINDOW // 2:
            self.out.add(frames.window_update(stream.number, STREAM_WINDOW - stream.receive_window))
            stream.receive_window = STREAM_WINDOW

    # Frames

    def _open(self, data: bytes) -> int:
        """Read the preface. Returns where the first frame begins, 0 if more is needed. Raises ConnectionFault."""
        if data[: len(frames.PREFACE)] != frames.PREFACE[: len(data)]:
            raise ConnectionFault(PROTOCOL_ERROR, "the first bytes are not those of HTTP/2")
        if len(data) < len(frames.PREFACE):
            return 0
        self.start()
        return len(frames.PREFACE)

    def _frame(self, kind: int, flags: int, number: int, data: bytes, begin: int, end: int) -> None:
        """One whole frame, whose payload is ``data[begin:end]``. Raises ConnectionFault."""
        block = self._block
        if block.stream and (kind != frames.CONTINUATION or number != block.stream):
            raise ConnectionFault(PROTOCOL_ERROR, "a header block is interrupted by another frame")
        if not self._settled and kind != frames.SETTINGS:
            raise ConnectionFault(PROTOCOL_ERROR, "the first frame must be SETTINGS")
        if kind == DATA:
            self._data(flags, number, data, begin, end)
        elif kind == HEADERS:
            piece = data[begin:end]
            if flags & (frames.PADDED | frames.PRIORITIZED):
                piece = frames.unpadded(piece, flags)
            if flags & END_HEADERS:
                self._headers(number, piece, bool(flags & END_STREAM))
            else:
                block.begin(number, piece, bool(flags & END_STREAM))
        else:
            self._control(kind, flags, number, data[begin:end])

    def _data(self, flags: int, number: int, data: bytes, begin: int, end: int) -> None:
        size, last = end - begin, bool(flags & END_STREAM)
        self._window -= size
        if self._window <= WINDOW // 2:
            if self._window < 0:
                raise ConnectionFault(frames.FLOW_CONTROL_ERROR, "the window of the connection is exceeded")
            self.out.add(frames.window_update(0, WINDOW - self._window))
            self._window = WINDOW
        if flags & frames.PADDED:
            payload = frames.unpadded(data[begin:end], flags & frames.PADDED)
            data, begin, end = payload, 0, len(payload)
        stream = self.streams.get(number)
        if stream is None:
            self._on_closed(number, idle=begin == end)
            return
        if not stream.remote_open:
            self.reset(stream, frames.STREAM_CLOSED)
            return
        stream.receive_window -= size
        if stream.receive_window < 0:
            self.reset(stream, frames.FLOW_CONTROL_ERROR)
            return
        if begin == end and not last:
            self._idle_frame()
            return
        self._flood.earn()
        if last:
            stream.remote_open = False
        stream.receiver.data(data, begin, end, last)
        if not last:
            self.refill(stream)

    def _headers(self, number: int, block: bytes, last: bool) -> None:
        """A whole header block: of a new call, or its trailers. Raises ConnectionFault."""
        if not number & 1:
            raise ConnectionFault(PROTOCOL_ERROR, "a client's stream has an odd number")
        if number <= self._last or number > self._limit:
            self._trailers(number, block, last)
            return
        self._last = number
        self._flood.earn()
        if len(self.streams) >= STREAMS or self.under_way >= STREAMS + ABANDONED:
            self._reader.skip(block)
            self._answer(frames.reset(number, frames.REFUSED_STREAM))
            return
        try:
            fields = self._reader.read(block)
        except MalformedFields:
            self._answer(frames.reset(number, PROTOCOL_ERROR))
            return
        stream = self.streams[number] = Stream(number, STREAM_WINDOW, self.out.stream_window, not last)
        self.under_way += 1
        self._begin(stream, fields)
        if last and not stream.over:
            stream.receiver.data(b"", 0, 0, True)

    def _trailers(self, number: int, block: bytes, last: bool) -> None:
        """A header block of a stream that is known, or that came too late."""
        self._reader.skip(block)
        if number > self._limit:
            return  # GOAWAY says that nobody has looked at it
        stream = self.streams.get(number)
        if stream is None:
            self._on_closed(number)
        elif not stream.remote_open:
            self.reset(stream, frames.STREAM_CLOSED)
        elif not last:
            self.reset(stream, PROTOCOL_ERROR)
        else:
            stream.remote_open = False
            stream.receiver.data(b"", 0, 0, True)

    def _control(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        """Any frame but DATA and HEADERS. Raises ConnectionFault."""
        if kind == frames.WINDOW_UPDATE and self.out.sent_bytes != self._credited_bytes:
            self._flood.earn(self.out.sent_bytes - self._credited_bytes)
            self._credited_bytes = self.out.sent_bytes
        self._idle_frame()
        if kind in (frames.SETTINGS, frames.PING, frames.GOAWAY) and number:
            raise ConnectionFault(PROTOCOL_ERROR, "a frame of the connection names a stream")
        if kind == frames.WINDOW_UPDATE:
            self._window_update(number, frames.word(payload))
        elif kind == frames.RST_STREAM:
            self._reset(number, payload)
        elif kind == frames.CONTINUATION:
            self._block.add(payload)
            if flags & END_HEADERS:
                self._headers(number, self._block.complete(), self._block.last)
        elif kind == frames.SETTINGS:
            self._settings(flags, payload)
        elif kind == frames.PING:
            self._ping(flags, payload)
        elif kind == frames.GOAWAY:
            self.leaving = True
        elif kind == frames.PUSH_PROMISE:
            raise ConnectionFault(PROTOCOL_ERROR, "clients push nothing")
        elif kind == frames.PRIORITY and (not number or len(payload) != frames.WEIGHT_BYTES):
            raise ConnectionFault(frames.FRAME_SIZE_ERROR, "a PRIORITY frame has no stream, or not five bytes")

    def _settings(self, flags: int, payload: bytes) -> None:
        if flags & frames.ACK:
            if payload:
                raise ConnectionFault(frames.FRAME_SIZE_ERROR, "an acknowledgement of SETTINGS has a payload")
            return
        self._settled = True
        found = frames.read_settings(payload)
        if frames.MAX_FRAME_SIZE in found:
            self.out.frame_bytes = min(found[frames.MAX_FRAME_SIZE], LARGEST_FRAME)
        if frames.INITIAL_WINDOW_SIZE in found:
            self.out.resize(found[frames.INITIAL_WINDOW_SIZE], list(self.streams.values()))
        self._answer(frames.frame(frames.SETTINGS, frames.ACK, 0))
        self.out.pump()  # behind the reply, from which on the client expects more

    def _ping(self, flags: int, payload: bytes) -> None:
        if len(payload) != 8:
            raise ConnectionFault(frames.FRAME_SIZE_ERROR, "a PING frame has not eight bytes")
        if not flags & frames.ACK:
            self._answer(frames.frame(frames.PING, frames.ACK, 0, payload))

    def _window_update(self, number: int, more: int) -> None:
        stream = self.streams.get(number)
        if number and stream is None:
            self._on_closed(number)
        elif stream is None:
            self.out.window += more
            if not more or self.out.window > frames.MOST_WINDOW:
                raise ConnectionFault(_update_error(more), "an update makes the window too large, or is 0")
        else:
            stream.send_window += more
            if not more or stream.send_window > frames.MOST_WINDOW:
                self.reset(stream, _update_error(more))
                return
            self.out.widened(stream)
        self.out.pump()

    def _reset(self, number: int, payload: bytes) -> None:
        frames.word(payload)
        stream = self.streams.get(number)
        if stream is None:
            self._on_closed(number, idle=False)
        else:
            self._close(stream)

    def _idle_frame(self) -> None:
        """Count a frame that carries nothing. Raises ConnectionFault for a flood of them."""
        if not self._flood.spend(self.now_ns):
            raise ConnectionFault(frames.ENHANCE_YOUR_CALM, "too many frames that carry nothing")

    def _on_closed(self, number: int, idle: bool = True) -> None:
        """A frame on a stream that is not open: it was sent before the client knew. Raises ConnectionFault for any
        other. ``idle``: it carries nothing."""
        if idle:
            self._idle_frame()
        if number <= self._limit and (not number & 1 or number > self._last):
            raise ConnectionFault(PROTOCOL_ERROR, "a frame names a stream that was never opened")

    def _answer(self, reply: bytes) -> None:
        """A reply that the client has asked for. Raises ConnectionFault if it reads none of them."""
        if not self.out.writable:
            self._unread_replies += 1
            if self._unread_replies > UNREAD_REPLIES:
                raise ConnectionFault(frames.ENHANCE_YOUR_CALM, "too many replies are not read")
        self.out.add(reply)

    # The end of streams

    def _sent(self, stream: Stream) -> None:
        """The response has left. A client that is still sending is told to stop."""
        if stream.remote_open:
            self.out.add(frames.reset(stream.number, frames.NO_ERROR))
        self._close(stream)

    def _close(self, stream: Stream) -> None:
        if stream.over:
            return
        stream.over = True
        stream.remote_open = False
        del self.streams[stream.number]
        self.out.forget(stream)
        stream.receiver.closed()


def _update_error(more: int) -> int:
    """The code for an invalid window update."""
    return frames.FLOW_CONTROL_ERROR if more else PROTOCOL_ERROR
