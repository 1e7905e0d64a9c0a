"""Fakes that behave like the real thing, with time that moves only when told to."""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import Callable
from typing import Any

from server.errors import SlipwayError
from server.protocols.responder import NO_HEADERS, Source
from server.request import Headers


class FakeClock:
    """A clock that a test sets. Called it gives nanoseconds; :meth:`seconds` is the same clock in seconds."""

    def __init__(self, now_s: float = 0.0) -> None:
        self.now_ns = round(now_s * 1e9)

    def __call__(self) -> int:
        return self.now_ns

    def seconds(self) -> float:
        return self.now_s

    @property
    def now_s(self) -> float:
        return self.now_ns / 1e9

    @now_s.setter
    def now_s(self, now_s: float) -> None:
        self.now_ns = round(now_s * 1e9)


class FakeTimer:
    def __init__(self, when_ns: int, callback: Callable[[], Any]) -> None:
        self.when_ns = when_ns
        self.callback = callback
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True

    def __lt__(self, other: FakeTimer) -> bool:
        return self.when_ns < other.when_ns


class FakeLoop:
    """An event loop turned by hand: ``turn`` runs what is due now, ``advance`` lets time pass first."""

    def __init__(self) -> None:
        self.now_ns = 1_000_000_000
        self._ready: deque[tuple[Callable[..., Any], tuple[Any, ...]]] = deque()
        self._timers: list[FakeTimer] = []

    def clock(self) -> int:
        return self.now_ns

    def call_soon(self, callback: Callable[..., Any], *args: Any) -> None:
        self._ready.append((callback, args))

    def call_soon_threadsafe(self, callback: Callable[..., Any], *args: Any) -> None:
        self._ready.append((callback, args))

    def call_later(self, delay_s: float, callback: Callable[..., Any], *args: Any) -> FakeTimer:
        timer = FakeTimer(self.now_ns + round(delay_s * 1e9), lambda: callback(*args))
        heapq.heappush(self._timers, timer)
        return timer

    def turn(self) -> None:
        """Run callbacks until none is due."""
        while True:
            while self._timers and self._timers[0].when_ns <= self.now_ns:
                timer = heapq.heappop(self._timers)
                if not timer.is_cancelled:
                    self._ready.append((timer.callback, ()))
            if not self._ready:
                return
            callback, args = self._ready.popleft()
            callback(*args)

    def advance(self, ns: int) -> None:
        self.now_ns += ns
        self.turn()

    @property
    def armed(self) -> list[FakeTimer]:
        return [timer for timer in self._timers if not timer.is_cancelled]


class FakeTransport(asyncio.Transport):
    """Keeps what is written; knows whether it was closed."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closed = False
        self.ended = False
        self.paused = False

    def write(self, data: Any) -> None:
        assert not self.closed, "written after close"
        self.written += bytes(data)

    def take(self) -> bytes:
        """What was written since this was last asked."""
        written, self.written = self.written, b""
        return written

    def get_write_buffer_size(self) -> int:
        return 0

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.ended = True

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return {"peername": ("127.0.0.1", 50_000), "sockname": ("127.0.0.1", 8080)}.get(name, default)


class FakeOutlet:
    """Keeps the pieces of a streamed response."""

    writable = True

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.ended = False
        self.error: SlipwayError | None = None

    def write(self, piece: bytes) -> None:
        self.pieces.append(piece)

    def end(self) -> None:
        self.ended = True

    def fail(self, error: SlipwayError) -> None:
        self.error = error


class FakeResponder:
    """Keeps the responses that it is asked to send. ``streams``: whether it takes them in pieces."""

    def __init__(self, *, streams: bool = False, sent: Callable[[int, bytes], None] | None = None) -> None:
        """``sent(status, body)`` is called after each whole response."""
        self.streams = streams
        self.sent = sent
        self.responses: list[tuple[int, bytes, bytes, Headers]] = []
        self.begun: list[tuple[int, bytes, Headers, FakeOutlet]] = []

    def send(self, status: int, content_type: bytes, body: bytes, headers: Headers = NO_HEADERS, /) -> None:
        self.responses.append((status, content_type, body, headers))
        if self.sent is not None:
            self.sent(status, body)

    def begin_stream(self, status: int, content_type: bytes, headers: Headers, _source: Source, /) -> FakeOutlet | None:
        if not self.streams:
            return None
        outlet = FakeOutlet()
        self.begun.append((status, content_type, headers, outlet))
        return outlet
