"""The echo server: a minimal HTTP server, to measure the generator itself.

    python -m bench.load.echo_server

prints its port and serves on 127.0.0.1 until its standard input closes, so that it ends with its parent.
"""

from __future__ import annotations

import asyncio
from typing import cast

from httptools import HttpParserError, HttpRequestParser

from .child_server import serve

_BODY = b'{"echo":true}'
_TIMING = ", ".join(
    f"{stage};dur=0.000"
    for stage in ("receive", "decode", "queue_busy", "queue_timer", "assemble", "compute", "scatter", "encode")
)
REPLY = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
    b"Server-Timing: " + _TIMING.encode() + b', request;rows=1;ahead=0, batch;desc="1"\r\n'
    b"Content-Length: " + str(len(_BODY)).encode() + b"\r\n\r\n" + _BODY
)
"""As long as a real server's response, with stage times, because the generator takes time to read them."""


class EchoProtocol(asyncio.Protocol):
    """Parses requests and answers each with ``REPLY``."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._parser = HttpRequestParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except HttpParserError:
            if self._transport is not None:
                self._transport.abort()

    def on_message_complete(self) -> None:
        if self._transport is not None:
            self._transport.write(REPLY)


async def main() -> None:
    await serve(await asyncio.get_running_loop().create_server(EchoProtocol, "127.0.0.1", 0))


if __name__ == "__main__":
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
