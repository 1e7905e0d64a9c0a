"""The frozen server: an echo server whose event loop stops for a second in every six.

    python -m tests.benchmarks.bench.frozen_server

prints its port, and serves on 127.0.0.1 until its standard input closes.
"""

from __future__ import annotations

import asyncio
import time

from bench.load.child_server import serve
from bench.load.echo_server import EchoProtocol

PERIOD_S, FROZEN_S = 6.0, 1.0


async def main() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(EchoProtocol, "127.0.0.1", 0)
    start_s = loop.time() + PERIOD_S - FROZEN_S

    def freeze(number: int) -> None:
        # A blocking wait on purpose, until an absolute instant, so that a late start does not lengthen the freeze.
        until_s = start_s + number * PERIOD_S + FROZEN_S
        while (left_s := until_s - loop.time()) > 0:
            time.sleep(left_s)
        loop.call_at(start_s + (number + 1) * PERIOD_S, freeze, number + 1)

    loop.call_at(start_s, freeze, 0)
    await serve(server)


if __name__ == "__main__":
    asyncio.run(main())
