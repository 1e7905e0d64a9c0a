"""A client with many connections: ``python -m tests.benchmarks.server.many PORT CONNECTIONS SECONDS``.

It opens all connections at once, sends a request on each, and waits until each has its first answer. From then on it
keeps all connections busy for some seconds. wrk counts no request of a connection that is never accepted, so that a
server that serves a few of them looks best.

It prints a line of JSON: the seconds from its first connect to the first answers (``accepted_s``: half, 99 % and all of
them), the answers a second after that, their latencies in seconds (``p50_s``, ``p99_s``, ``max_s``), the fewest and the
median answers of a connection, and how many connections broke.
"""

from __future__ import annotations

import contextlib
import errno
import json
import re
import select
import socket
import statistics
import sys
from array import array
from time import perf_counter

import numpy as np

FIRST_WITHIN_S = 30.0
ROW = ",".join(f"{(index * 37 % 64) / 64 - 0.5:.4f}" for index in range(64))
BODY = f'{{"instances":[[{ROW}]]}}'
REQUEST = (
    "POST /invocations HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    f"content-length: {len(BODY)}\r\n\r\n{BODY}"
).encode()


class Client:
    """All connections. The answers of a server are equally long; they may arrive in several pieces."""

    def __init__(self, port: int, count: int) -> None:
        self._epoll = select.epoll()
        self._sockets: dict[int, socket.socket] = {}
        self._sent_s: dict[int, float] = {}
        self._pieces: dict[int, bytes] = {}  # of an answer that is not whole
        self._length = 0  # of an answer, head and body; 0 until the first one is whole
        self.answers: dict[int, int] = {}
        self.latencies_s = array("d")
        self.first_s: list[float] = []
        self.broken = 0
        self._begun_s = perf_counter()
        for _ in range(count):
            one = socket.socket()
            one.setblocking(False)
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            code = one.connect_ex(("127.0.0.1", port))
            if code not in (0, errno.EINPROGRESS):
                raise OSError(code, "connecting failed")
            self._sockets[one.fileno()] = one
            self._epoll.register(one.fileno(), select.EPOLLOUT)

    def until_all_have_answered(self) -> None:
        """Send the first request on each connection, and wait for the first answers. Nothing else is sent."""
        end_s = self._begun_s + FIRST_WITHIN_S
        while len(self.first_s) + self.broken < len(self._sockets) and perf_counter() < end_s:
            for number, event in self._epoll.poll(0.1):
                if event & select.EPOLLOUT and number not in self._sent_s:
                    self._epoll.modify(number, select.EPOLLIN)
                    self._send(number)
                elif self._read(number):
                    self.first_s.append(perf_counter() - self._begun_s)
                    self.answers[number] = 0

    def keep_busy(self, seconds: float) -> float:
        """Send the next request on a connection when it has its answer. Returns the seconds that it took."""
        begun_s = perf_counter()
        for number in list(self.answers):
            self._send(number)
        while perf_counter() < begun_s + seconds:
            for number, _ in self._epoll.poll(0.1):
                if self._read(number) and number in self.answers:
                    self.latencies_s.append(perf_counter() - self._sent_s[number])
                    self.answers[number] += 1
                    self._send(number)
        return perf_counter() - begun_s

    def _send(self, number: int) -> None:
        self._sent_s[number] = perf_counter()
        try:
            self._sockets[number].send(REQUEST)
        except OSError:
            self._drop(number)

    def _read(self, number: int) -> bool:
        """Whether an answer of status 200 is whole now."""
        try:
            piece = self._sockets[number].recv(65_536)
        except OSError:
            piece = b""
        data = self._pieces.pop(number, b"") + piece
        if not piece or not data.startswith(b"HTTP/1.1 200"):
            self._drop(number)
            return False
        if len(data) == (self._length or _length(data)):
            self._length = len(data)
            return True
        self._pieces[number] = data
        return False

    def _drop(self, number: int) -> None:
        self.broken += 1
        self.answers.pop(number, None)
        with contextlib.suppress(OSError):
            self._epoll.unregister(number)


def _length(data: bytes) -> int:
    """The bytes of the answer that begins so; 0 while its head is not whole."""
    head, _, rest = data.partition(b"\r\n\r\n")
    announced = re.search(rb"(?i)content-length: *(\d+)", head)
    return len(head) + 4 + int(announced[1]) if rest and announced else 0


def main() -> None:
    port, count, seconds = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    client = Client(port, count)
    client.until_all_have_answered()
    took_s = client.keep_busy(seconds)
    latencies, first = np.array(client.latencies_s), np.array(client.first_s)
    print(
        json.dumps(
            {
                "accepted_s": [float(np.quantile(first, share)) for share in (0.5, 0.99, 1.0)],
                "unanswered": count - len(first),
                "rate": len(latencies) / took_s,
                "p50_s": float(np.quantile(latencies, 0.5)),
                "p99_s": float(np.quantile(latencies, 0.99)),
                "max_s": float(latencies.max()),
                "fewest": min(client.answers.values()),
                "median": statistics.median(client.answers.values()),
                "broken": client.broken,
            }
        )
    )


if __name__ == "__main__":
    main()
