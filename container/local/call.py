"""One HTTP call to the container, under the platform's clock: accepted within 250 ms, answered before the deadline."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPResponse

PIECE_BYTES = 65_536


class NoAnswer(Exception):
    """The container gave none, or not all of it; ``late``: because its time was up."""

    def __init__(self, message: str, *, late: bool = False) -> None:
        super().__init__(message)
        self.late = late


@dataclass(frozen=True, slots=True)
class Address:
    """Where the container listens, and how long it may take to accept."""

    host: str
    port: int
    accept_s: float


@dataclass(frozen=True, slots=True)
class Answer:
    """What the container said. Header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    @property
    def text(self) -> str:
        return self.body.decode("utf-8", "replace")


class OpenAnswer:
    """An answer whose body is still to be read, piece by piece, as it comes."""

    def __init__(self, response: HTTPResponse, clock: _Clock) -> None:
        self._response = response
        self._clock = clock
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.getheaders()}

    def pieces(self) -> Iterator[bytes]:
        """Raises NoAnswer when the answer breaks off or takes too long."""
        with self._clock.watched():
            while piece := self._response.read1(PIECE_BYTES):
                yield piece
            if self._response.length:
                raise NoAnswer(f"the connection was closed {self._response.length} bytes before the end of the answer")


@contextmanager
def opened(
    address: Address,
    method: str,
    path: str,
    headers: Mapping[str, str],
    body: bytes | Iterable[bytes],
    within_s: float,
) -> Iterator[OpenAnswer]:
    """Send a request and give its answer from the head on. A body that is no ``bytes`` goes in chunks.

    The connection is closed at the end: whoever leaves early is gone for the container too. Raises NoAnswer.
    """
    client = HTTPConnection(address.host, address.port, timeout=address.accept_s)
    clock = _Clock(within_s)
    try:
        with clock.watched():
            clock.watch(_connect(client, address))
            chunked = not isinstance(body, bytes)
            extra = {"Transfer-Encoding": "chunked"} if chunked else {}
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it may have answered before the end
                client.request(method, path, body, {**headers, **extra}, encode_chunked=chunked)
            response = client.getresponse()
        with contextlib.closing(response):  # where the container wants to close, the client is not in charge of it
            yield OpenAnswer(response, clock)
    finally:
        client.close()
        clock.stop()


def call(
    address: Address,
    method: str,
    path: str,
    headers: Mapping[str, str] | None = None,
    body: bytes | Iterable[bytes] = b"",
    *,
    within_s: float,
) -> Answer:
    """Send a request and read the whole answer. Raises NoAnswer."""
    with opened(address, method, path, headers or {}, body, within_s) as answer:
        return Answer(answer.status, answer.headers, b"".join(answer.pieces()))


def _connect(client: HTTPConnection, address: Address) -> socket.socket:
    try:
        client.connect()
    except TimeoutError as error:
        raise NoAnswer(f"the connection was not accepted within {address.accept_s * 1e3:g} ms") from error
    client.sock.settimeout(None)  # from here on the clock decides, whatever trickles in
    return client.sock


class _Clock:
    """Cuts the connection when the time is up, so that an answer that trickles cannot outlast it."""

    def __init__(self, within_s: float) -> None:
        self._socket: socket.socket | None = None
        self._within_s = within_s
        self._rung = False
        self._timer = threading.Timer(within_s, self._ring)
        self._timer.daemon = True
        self._timer.start()

    def watch(self, connected: socket.socket) -> None:
        # Kept here: the client forgets it when the container asks to close, and still reads the answer from it.
        self._socket = connected

    def _ring(self) -> None:
        self._rung = True
        if self._socket is not None:
            with contextlib.suppress(OSError):  # closed in the meantime
                self._socket.shutdown(socket.SHUT_RDWR)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Whatever goes wrong inside becomes NoAnswer, with the deadline as its reason where that was it."""
        try:
            yield
        except NoAnswer:
            if self._rung:
                raise self._late() from None
            raise
        except (OSError, HTTPException, ValueError) as error:
            if self._rung:
                raise self._late() from error
            raise NoAnswer(f"the container gave no answer: {_said(error)}") from error
        if self._rung:
            raise self._late()

    def _late(self) -> NoAnswer:
        return NoAnswer(f"the container did not answer within {self._within_s:g} s", late=True)

    def stop(self) -> None:
        self._timer.cancel()
        if self._socket is not None:
            # A response that never began keeps the connection open after its client was closed.
            left = self._socket.detach()
            if left >= 0:
                os.close(left)


def _said(error: Exception) -> str:
    return str(error) or type(error).__name__
