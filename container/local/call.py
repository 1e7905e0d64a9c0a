"""HTTP calls to the container within the platform's limits: 250 ms to accept, a deadline for the whole response."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPResponse
from urllib.parse import urlsplit

CHUNK_BYTES = 65_536


class NoResponse(Exception):
    """The container sent no complete response; ``late``: its deadline passed."""

    def __init__(self, message: str, *, late: bool = False) -> None:
        super().__init__(message)
        self.late = late


@dataclass(frozen=True, slots=True)
class Address:
    """Host and port of the container, and the seconds that it may take to accept a connection."""

    host: str
    port: int
    accept_s: float

    @classmethod
    def of(cls, url: str, accept_s: float) -> Address:
        """The address in a URL of the form http://HOST:PORT."""
        parts = urlsplit(url)
        assert parts.hostname is not None
        assert parts.port is not None
        return cls(parts.hostname, parts.port, accept_s)


@dataclass(frozen=True, slots=True)
class ContainerResponse:
    """A complete response of the container. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    @property
    def text(self) -> str:
        return self.body.decode("utf-8", "replace")


class OpenResponse:
    """A response whose body is still to be read, chunk by chunk as it arrives."""

    def __init__(self, response: HTTPResponse, deadline: _Deadline) -> None:
        self._response = response
        self._deadline = deadline
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.getheaders()}

    def chunks(self) -> Iterator[bytes]:
        """The body. Raises NoResponse when the response ends early or passes its deadline."""
        with self._deadline.watched():
            while chunk := self._response.read1(CHUNK_BYTES):
                yield chunk
            if self._response.length:
                raise NoResponse(
                    f"the connection was closed {self._response.length} bytes before the end of the response"
                )


@contextmanager
def opened(
    address: Address, method: str, path: str, headers: Mapping[str, str], body: bytes | Iterable[bytes], within_s: float
) -> Iterator[OpenResponse]:
    """Send a request and yield its response after the head. A body other than ``bytes`` is sent chunked.

    The connection is closed at the end, so that the container sees a client that leaves early. Raises NoResponse.
    """
    client = HTTPConnection(address.host, address.port, timeout=address.accept_s)
    deadline = _Deadline(within_s)
    try:
        with deadline.watched():
            deadline.watch(_connect(client, address))
            chunked = not isinstance(body, bytes)
            extra = {"Transfer-Encoding": "chunked"} if chunked else {}
            with contextlib.suppress(
                BrokenPipeError, ConnectionResetError
            ):  # it may have responded before the end of the body
                client.request(method, path, body, {**headers, **extra}, encode_chunked=chunked)
            response = client.getresponse()
        with contextlib.closing(response):  # HTTPConnection does not close it after Connection: close
            yield OpenResponse(response, deadline)
    finally:
        client.close()
        deadline.stop()


def call(
    address: Address,
    method: str,
    path: str,
    headers: Mapping[str, str] | None = None,
    body: bytes | Iterable[bytes] = b"",
    *,
    within_s: float,
) -> ContainerResponse:
    """Send a request and read the whole response. Raises NoResponse."""
    with opened(address, method, path, headers or {}, body, within_s) as response:
        return ContainerResponse(response.status, response.headers, b"".join(response.chunks()))


def _connect(client: HTTPConnection, address: Address) -> socket.socket:
    try:
        client.connect()
    except TimeoutError as error:
        raise NoResponse(f"the connection was not accepted within {address.accept_s * 1e3:g} ms") from error
    client.sock.settimeout(None)  # from here on the deadline decides, however slowly bytes arrive
    return client.sock


class _Deadline:
    """Shuts the connection down at the deadline, so that a slow response cannot outlast it."""

    def __init__(self, within_s: float) -> None:
        self._socket: socket.socket | None = None
        self._within_s = within_s
        self._expired = False
        self._timer = threading.Timer(within_s, self._expire)
        self._timer.daemon = True
        self._timer.start()

    def watch(self, connected: socket.socket) -> None:
        # HTTPConnection drops its socket at Connection: close, and the response still reads from it.
        self._socket = connected

    def _expire(self) -> None:
        self._expired = True
        if self._socket is not None:
            with contextlib.suppress(OSError):  # closed in the meantime
                self._socket.shutdown(socket.SHUT_RDWR)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Raises NoResponse for every connection error inside, with the deadline as the reason where it passed."""
        try:
            yield
        except NoResponse:
            if self._expired:
                raise self._late() from None
            raise
        except (OSError, HTTPException, ValueError) as error:
            if self._expired:
                raise self._late() from error
            raise NoResponse(f"the container sent no response: {_reason(error)}") from error
        if self._expired:
            raise self._late()

    def _late(self) -> NoResponse:
        return NoResponse(f"the container did not respond within {self._within_s:g} s", late=True)

    def stop(self) -> None:
        self._timer.cancel()
        if self._socket is not None:
            # A response that never began keeps the connection open after HTTPConnection.close().
            descriptor = self._socket.detach()
            if descriptor >= 0:
                os.close(descriptor)


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__
