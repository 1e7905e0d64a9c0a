"""A proxy between client and server.

    python -m tests.benchmarks.bench.plants.slow_proxy URL KIND VALUE

limits the bytes per second of both directions (``rate``), of the answers (``answers``) or of the requests
(``uploads``), delays every piece by so many seconds (``delay``) or by up to so many (``jitter``), or sends what it has
each time that so many have passed (``flush``), or only the answers so (``beacon``), or asks for so long whether a
request may pass (``permit``). Or it needs so many seconds for each new connection, and keeps one for an answer
(``handshake``), for three (``few``), for eight (``eight``), for all (``kept``), until it is 0.2 s old (``aged``), or
until none has come for 40 ms (``idle``). It prints its port, and forwards connections to the URL until its
standard input closes.
"""

from __future__ import annotations

import asyncio
import random
import sys
from contextlib import suppress
from urllib.parse import urlsplit

from bench.load.child_server import serve

PIECE, IDLE_S, AGE_S = 8_192, 0.04, 0.2
ANSWERS = {"few": 3, "eight": 8}
"""For which a connection is kept."""
RESPONSE = b"HTTP/1.1 200 OK\r\n"


class Way:
    """One direction through the proxy, shared by all connections, as a link is."""

    def __init__(self, kind: str, value: float) -> None:
        self._kind, self._value = kind, value
        self._free_s = 0.0
        self._random = random.Random(0)

    async def pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop, answers = asyncio.get_running_loop(), 0
        old_s = loop.time() + (AGE_S if self._kind == "aged" else float("inf"))
        with suppress(OSError):
            patience_s = IDLE_S if self._kind == "idle" else None
            while data := await asyncio.wait_for(reader.read(PIECE), patience_s):
                answers += RESPONSE in data
                if self._kind == "delay":
                    await asyncio.sleep(self._value)
                elif self._kind == "jitter":
                    await asyncio.sleep(self._random.uniform(0, self._value))
                elif self._kind == "flush":
                    await asyncio.sleep(self._value - loop.time() % self._value)
                elif self._kind == "permit":
                    await asyncio.sleep(self._value if data.startswith(b"POST") else 0)
                elif self._kind == "handshake" or answers == ANSWERS.get(self._kind) or loop.time() > old_s:
                    data = data.replace(RESPONSE, RESPONSE + b"Connection: close\r\n")
                elif self._kind == "rate":
                    self._free_s = max(self._free_s, loop.time()) + len(data) / self._value
                    await asyncio.sleep(self._free_s - loop.time())
                writer.write(data)
                await writer.drain()
        writer.close()


async def main(url: str, kind: str, value: float) -> None:
    parts = urlsplit(url)
    kinds = {
        "answers": ("free", "rate"),
        "uploads": ("rate", "free"),
        "idle": ("idle", "free"),
        "beacon": ("free", "flush"),
    }.get(kind, (kind, kind))
    ways = [Way(one, value) for one in kinds]

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if kind in ("handshake", "few", "eight", "kept", "idle", "aged"):
            await asyncio.sleep(value)
        to_reader, to_writer = await asyncio.open_connection(parts.hostname, parts.port)
        await asyncio.gather(ways[0].pass_on(reader, to_writer), ways[1].pass_on(to_reader, writer))

    await serve(await asyncio.start_server(accept, "127.0.0.1", 0))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], float(sys.argv[3])))
