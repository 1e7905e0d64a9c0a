"""What is sent on one connection: frames that are ready, and messages that wait for the windows of the peer."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from struct import Struct

from ..http.limits import ProcessAccount
from . import header_blocks
from .frames import (
    DATA,
    END_HEADERS,
    END_STREAM,
    FIRST_WINDOW,
    FLOW_CONTROL_ERROR,
    FRAME_BYTES,
    HEADERS,
    MOST_WINDOW,
    ConnectionFault,
    frame,
    frame_head,
)
from .stream import Stream

PREFIX_BYTES = 5
"""A message follows a byte that says whether it is compressed, and its length (4 bytes)."""

LARGEST_FRAME = 1_048_576
"""Longer frames would hold up other streams of the connection for long, whatever the peer takes."""

HEAVY_BYTES = 4_096
"""Payloads above this size are given to the socket as they are."""

_prefix = Struct(">BI").pack

_HEADERS_HEAD = frame_head(HEADERS, END_HEADERS, 0, len(header_blocks.HEAD))[:5]
_TRAILERS_HEAD = frame_head(HEADERS, END_HEADERS | END_STREAM, 0, len(header_blocks.SUCCESS))[:5]
_opening = Struct(f">5sI{len(header_blocks.HEAD)}sHBBBIBI").pack
"""HEADERS, then the head of a DATA frame and the prefix of its message."""
_closing = Struct(f">5sI{len(header_blocks.SUCCESS)}s").pack


class Outgoing:
    """The sending side of a connection.

    ``frames`` are ready for the socket; ``ask`` is called when there are some that nobody is about to take, once until
    they are taken. ``ended`` is called with each stream whose trailers have left. ``writable`` is False while the
    socket takes nothing. ``account`` counts the bytes of messages that wait, of all connections. ``sent_bytes`` counts
    messages that have left.
    """

    def __init__(self, account: ProcessAccount, ask: Callable[[], None], ended: Callable[[Stream], None]) -> None:
        self.frames: list[bytes | memoryview] = []
        self.heavy = False  # some frames are large: a copy of them would take long
        self.taken = True  # by somebody who takes them when the present call returns
        self.writable = True
        self.window = FIRST_WINDOW
        self.stream_window = FIRST_WINDOW  # of new streams
        self.frame_bytes = FRAME_BYTES
        self.unsent_bytes = 0
        self.sent_bytes = 0
        self._account = account
        self._ask = ask
        self._ended = ended
        self._waiting: deque[Stream] = deque()  # streams that have something to send, and a window

    def add(self, data: bytes) -> None:
        """Let a frame follow the others."""
        self.frames.append(data)
        if not self.taken:
            self.taken = True
            self._ask()

    def take(self) -> list[bytes | memoryview]:
        """The frames that are ready."""
        frames, self.frames = self.frames, []
        self.taken = self.heavy = False
        return frames

    def reply(self, stream: Stream, message: bytes, trailers: bytes) -> None:
        """The whole response of a call."""
        size = len(message) + PREFIX_BYTES
        room = min(self.window, stream.send_window, self.frame_bytes)
        if size > room or stream.begun or not self.writable or trailers is not header_blocks.SUCCESS:
            self.message(stream, message)
            self.end(stream, trailers)
            return
        self.window -= size
        self.sent_bytes += size
        number = stream.number
        opening = _opening(
            *(_HEADERS_HEAD, number, header_blocks.HEAD),
            *(size >> 8, size & 0xFF, DATA, 0, number, 0, len(message)),
        )
        self.add(opening + message + _closing(_TRAILERS_HEAD, number, header_blocks.SUCCESS))
        self._ended(stream)

    def message(self, stream: Stream, message: bytes) -> None:
        """One message, behind those of the same stream."""
        if not stream.begun:
            stream.begun = True
            self.add(frame(HEADERS, END_HEADERS, stream.number, header_blocks.HEAD))
        stream.unsent.append(memoryview(_prefix(0, len(message))))
        if message:
            stream.unsent.append(memoryview(message))
        self._wait(PREFIX_BYTES + len(message))
        if not stream.waiting:
            stream.waiting = True
            self._waiting.append(stream)
        self.pump()

    def end(self, stream: Stream, trailers: bytes) -> None:
        """The trailers, behind all messages. Without a message before them they are the whole response, and hold its
        header fields too."""
        if stream.unsent:
            stream.trailers = trailers
        else:
            self._finish(stream, trailers)

    def last(self, stream: Stream, block: bytes) -> None:
        """A header block that ends the response, or is all of it."""
        self.add(frame(HEADERS, END_HEADERS | END_STREAM, stream.number, block))
        self._ended(stream)

    def forget(self, stream: Stream) -> None:
        """Drop what waits: the stream has ended."""
        if stream.unsent:
            self._wait(-sum(map(len, stream.unsent)))
            stream.unsent.clear()

    def pump(self) -> None:
        """Send what the windows allow, a frame of each stream in turn."""
        while self._waiting and self.window > 0 and self.writable:
            stream = self._waiting.popleft()
            stream.waiting = False
            if not stream.unsent or stream.send_window <= 0:
                continue  # until it has more to send, or its window grows
            self._send(stream)
            if stream.unsent:
                stream.waiting = True
                self._waiting.append(stream)
            elif stream.trailers is not None:
                self._finish(stream, stream.trailers)
            else:
                stream.receiver.drained()

    def resize(self, stream_window: int, streams: list[Stream]) -> None:
        """The peer has changed the first window of streams; open ones change by as much. Raises ConnectionFault."""
        change, self.stream_window = stream_window - self.stream_window, stream_window
        for stream in streams:
            stream.send_window += change
            if stream.send_window > MOST_WINDOW:
                raise ConnectionFault(FLOW_CONTROL_ERROR, "a setting makes a window larger than 2^31 - 1")
            self.widened(stream)

    def widened(self, stream: Stream) -> None:
        """The window of a stream has grown."""
        if stream.unsent and not stream.waiting:
            stream.waiting = True
            self._waiting.append(stream)

    def _send(self, stream: Stream) -> None:
        """One frame of a stream."""
        room = min(self.window, stream.send_window, self.frame_bytes)
        pieces: list[memoryview] = []
        size = 0
        while stream.unsent and size < room:
            piece = stream.unsent.popleft()
            if size + len(piece) > room:
                stream.unsent.appendleft(piece[room - size :])
                piece = piece[: room - size]
            pieces.append(piece)
            size += len(piece)
        self.window -= size
        stream.send_window -= size
        self.sent_bytes += size
        self._wait(-size)
        self.heavy = self.heavy or size > HEAVY_BYTES
        self.add(frame_head(DATA, 0, stream.number, size))
        self.frames += pieces

    def _finish(self, stream: Stream, trailers: bytes) -> None:
        self.last(stream, trailers if stream.begun else header_blocks.HEAD + trailers)

    def _wait(self, change_bytes: int) -> None:
        self.unsent_bytes += change_bytes
        self._account.move(change_bytes)
