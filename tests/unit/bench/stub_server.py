"""A server that answers each request as a script says: what a load meets, without a model.

As a program it prints its port and answers POST with stage times until its standard input ends.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from bench.load.child_server import serve

TIMING = (
    "receive;dur=0.012, decode;dur=0.004, queue_busy;dur=0.003, queue_timer;dur=0.002, assemble;dur=0.001, "
    'compute;dur=0.010, scatter;dur=0.001, encode;dur=0.002, batch;desc="8"'
)
ATTRIBUTES = "receive=12,decode=4,queue_busy=3,queue_timer=2,assemble=1,compute=10,scatter=1,encode=2,batch=8"
METRICS = """\
# TYPE slipway_stage_seconds histogram
slipway_stage_seconds_bucket{model="m",version="1",stage="send",le="+Inf"} %d
slipway_stage_seconds_sum{model="m",version="1",stage="send"} %f
slipway_stage_seconds_count{model="m",version="1",stage="send"} %d
"""


@dataclass(frozen=True, slots=True)
class Reply:
    """Bytes to write, and whether to close after them. ``hang``: keep the connection open and silent."""

    data: bytes = b""
    close: bool = False
    hang: bool = False


def http(status: int = 200, body: bytes = b"{}", **headers: str) -> Reply:
    """A complete answer; header names with underscores for hyphens."""
    lines = [f"HTTP/1.1 {status} Said", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return Reply("\r\n".join([*lines, "", ""]).encode() + body, close=headers.get("Connection") == "close")


def failure(status: int, code: str, message: str) -> Reply:
    """An error as the server words it."""
    return http(status, json.dumps({"error": message, "code": code, "request_id": "r"}).encode())


TROUBLES = (
    http(Server_Timing=TIMING),
    failure(503, "not_ready", "the model is loading"),
    Reply(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\ncut", close=True),
    Reply(close=True),
    Reply(hang=True),
    Reply(b"no HTTP at all\r\n\r\n"),
    http(body=b"<html>sign in</html>", Content_Type="text/html"),
    http(Connection="close", Server_Timing=TIMING),
)
"""What /troubled/NUMBER answers, by turns."""


@dataclass(slots=True)
class StubServer:
    """Answers the n-th request (from 0) with ``script(n)``; remembers the heads and bodies that came."""

    script: Callable[[int], Reply]
    heads: list[bytes] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    connections: int = 0

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while head := await _head(reader):
                length = next(
                    (int(line[15:]) for line in head.split(b"\r\n") if line[:15].lower() == b"content-length:"), 0
                )
                body = await reader.readexactly(length)
                number = len(self.heads)
                self.heads.append(head)
                self.bodies.append(body)
                reply = self.script(number)
                writer.write(reply.data)
                if reply.hang:
                    await reader.read()  # until the client gives up
                    return
                if reply.close:
                    return
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


async def _head(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return b""


@asynccontextmanager
async def serving(script: Callable[[int], Reply]) -> AsyncIterator[tuple[StubServer, str]]:
    """The stub and its URL, on 127.0.0.1."""
    stub = StubServer(script)
    server = await asyncio.start_server(stub.handle, "127.0.0.1", 0)
    try:
        yield stub, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


class SlipwayStub(StubServer):
    """Speaks what the real server speaks: stage times when asked, in either carrier, and metrics."""

    def __init__(self) -> None:
        super().__init__(self.answer)

    def answer(self, number: int) -> Reply:
        head = self.heads[number]
        if head.startswith(b"GET /metrics"):
            posts = sum(one.startswith(b"POST") for one in self.heads)
            return http(200, (METRICS % (posts, posts * 0.002, posts)).encode())
        if head.startswith(b"GET"):
            return http(200, b'{"name": "m", "versions": ["1"]}')
        if b"POST /overloaded" in head:
            return failure(429, "overloaded", "the queue is full: try again later")
        if b"POST /troubled/" in head:
            return TROUBLES[int(head.split(b" ")[1].rpartition(b"/")[2]) % len(TROUBLES)]
        if b"X-Slipway-Timing: 1" in head:
            return http(200, Server_Timing=TIMING)
        if b"slipway-timing" in head:
            return http(200, X_Amzn_SageMaker_Custom_Attributes=ATTRIBUTES)
        return http(200)


async def _main() -> None:
    await serve(await asyncio.start_server(SlipwayStub().handle, "127.0.0.1", 0))


if __name__ == "__main__":
    asyncio.run(_main())
