"""A server of bench in a child process, which ends with its block."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import Unusable

_REPOSITORY = Path(__file__).resolve().parents[2]


@contextmanager
def child_server(*command: str) -> Iterator[str]:
    """The address (``http://127.0.0.1:PORT``) of ``python -m COMMAND``, which prints its port and serves until its
    standard input ends. Raises Unusable when it does not start."""
    with subprocess.Popen(
        [sys.executable, "-m", *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=_REPOSITORY
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        port = process.stdout.readline().strip()
        if not port:
            raise Unusable(f"{command[0]} did not start: see the lines above")
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.stdin.close()
            process.wait(timeout=10)


async def serve(server: asyncio.Server) -> None:
    """What such a server does: print its port, and serve until standard input ends."""
    print(server.sockets[0].getsockname()[1], flush=True)
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), ended.set)
    await ended.wait()
    server.close()
