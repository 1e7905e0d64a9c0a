"""A load of gRPC calls: prepared HTTP/2 frames over a few connections, so that the client costs less than the server.

``python -m tests.benchmarks.server.grpc_load PORT SECONDS CONNECTIONS CALLS`` reads a serialized request from stdin and
prints one JSON object. A real gRPC client in Python needs as much time for a call as the server.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

import uvloop

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 4, 6, 7, 8
ACK = END_STREAM = 1
END_HEADERS = 4
WIDE = (1 << 31) - 1 - 65_535
METHOD = "/inference.GRPCInferenceService/ModelInfer"


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def literal(name: str, value: str) -> bytes:
    """A header field without indexing: the request is the same bytes each time."""
    return bytes((0, len(name))) + name.encode() + bytes((len(value),)) + value.encode()


def headers(port: int) -> bytes:
    fields = {":method": "POST", ":scheme": "http", ":path": METHOD, ":authority": f"127.0.0.1:{port}"}
    return b"".join(literal(*pair) for pair in {**fields, "te": "trailers", "content-type": "application/grpc"}.items())


class Connection(asyncio.Protocol):
    """Keeps ``calls`` calls under way until ``until`` (``perf_counter``); ``latencies`` are in seconds."""

    def __init__(self, port: int, message: bytes, calls: int, until: float) -> None:
        self._fields = headers(port)
        self._data = b"\0" + len(message).to_bytes(4, "big") + message
        self._calls, self._until = calls, until
        self._stream = 1
        self._begun: dict[int, float] = {}
        self._answered: set[int] = set()
        self._rest = b""
        self.latencies: list[float] = []
        self.failures = 0
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport
        window = (4).to_bytes(2, "big") + WIDE.to_bytes(4, "big")
        opening = [PREFACE, frame(SETTINGS, 0, 0, window), frame(WINDOW_UPDATE, 0, 0, WIDE.to_bytes(4, "big"))]
        transport.write(b"".join([*opening, *(self._call() for _ in range(self._calls))]))

    def data_received(self, data: bytes) -> None:
        data = self._rest + data
        at, replies, now = 0, [], time.perf_counter()
        while len(data) - at >= 9:
            end = at + 9 + int.from_bytes(data[at : at + 3], "big")
            if end > len(data):
                break
            kind, flags, stream = data[at + 3], data[at + 4], int.from_bytes(data[at + 5 : at + 9], "big")
            if kind == DATA:
                self._answered.add(stream)
            elif kind == HEADERS and flags & END_STREAM:
                replies.append(self._finish(stream, now))
            elif kind == PING and not flags & ACK:
                replies.append(frame(PING, ACK, 0, data[at + 9 : end]))
            elif kind == SETTINGS and not flags & ACK:
                replies.append(frame(SETTINGS, ACK, 0, b""))
            elif kind == GOAWAY:
                self._transport.close()
            at = end
        self._rest = data[at:]
        if replies:
            self._transport.write(b"".join(replies))

    def connection_lost(self, exc: Exception | None) -> None:
        self.failures += len(self._begun)
        if not self.over.done():
            self.over.set_result(None)

    def _finish(self, stream: int, now: float) -> bytes:
        """Count the end of a call; returns the next one."""
        self.latencies.append(now - self._begun.pop(stream))
        if stream in self._answered:
            self._answered.remove(stream)
        else:
            self.failures += 1
        if now < self._until:
            return self._call()
        if not self._begun:
            self._transport.close()
        return b""

    def _call(self) -> bytes:
        stream, self._stream = self._stream, self._stream + 2
        self._begun[stream] = time.perf_counter()
        return frame(HEADERS, END_HEADERS, stream, self._fields) + frame(DATA, END_STREAM, stream, self._data)


async def load(port: int, seconds: float, connections: int, calls: int, message: bytes) -> dict[str, float]:
    """Rate a second, latencies in seconds, and calls that had no response."""
    loop, begun = asyncio.get_running_loop(), time.perf_counter()
    made = [
        (await loop.create_connection(lambda: Connection(port, message, calls, begun + seconds), "127.0.0.1", port))[1]
        for _ in range(connections)
    ]
    await asyncio.gather(*(one.over for one in made))
    took = time.perf_counter() - begun
    latencies = sorted(latency for one in made for latency in one.latencies)
    failures = sum(one.failures for one in made)
    if not latencies:
        return {"rate": 0.0, "p50_s": 0.0, "p99_s": 0.0, "failures": failures}
    p50, p99 = (latencies[int(len(latencies) * share)] for share in (0.5, 0.99))
    return {"rate": len(latencies) / took, "p50_s": p50, "p99_s": p99, "failures": failures}


if __name__ == "__main__":
    port, seconds, connections, calls = (int(one) for one in sys.argv[1:])
    print(json.dumps(uvloop.run(load(port, seconds, connections, calls, sys.stdin.buffer.read()))))
