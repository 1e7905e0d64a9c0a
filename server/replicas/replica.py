"""One replica as the supervisor sees it: started, told what to serve, signalled, and waited for."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from .channel import Channel

ROOT = Path(__file__).resolve().parents[2]
BOOTSTRAP = (
    "import sys; sys.path.insert(0, sys.argv[2]); "
    "from server.system.orphans import end_with_parent; end_with_parent(int(sys.argv[3])); "
    "from server.launch import launch_replica; sys.exit(launch_replica(int(sys.argv[1])))"
)
"""The replica's program. It takes a second to import the server, and must not outlive its parent meanwhile."""


class Replica:
    """A process with its channel. ``joined``: it serves; ``served``: it has. ``silent_s``: seconds without a report.
    ``families`` are the metrics that it sent last."""

    def __init__(self, number: int, handle: Callable[[Replica, str, Any], Awaitable[Any]]) -> None:
        """``handle`` gets this replica, and the name and the argument of each call and notice."""
        self.number = number
        self.channel = Channel(partial(handle, self))
        self.loaded = False
        self.joined = self.served = False
        self.ready = False
        self.reason = ""
        self.families: list[Any] = []
        self.silent_s = 0.0
        self.told: str | None = None
        self.tasks: set[asyncio.Future[None]] = set()
        self._process: subprocess.Popen[bytes] | None = None
        self._end: socket.socket | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self, environ: Mapping[str, str]) -> None:
        """Start the process with these variables. Raises OSError if the system cannot start one more."""
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                self._process = subprocess.Popen(  # noqa: S603 - our own interpreter
                    [sys.executable, "-c", BOOTSTRAP, str(theirs.fileno()), str(ROOT), str(os.getpid())],
                    env=dict(environ),
                    stdin=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                    process_group=0,  # Ctrl-C reaches the supervisor, which tells the replicas
                )
            except BaseException:
                ours.close()
                raise
        self._end = ours

    async def run(self, order: dict[str, Any]) -> int:
        """Give the process its order, and serve the channel until it ends. Returns the exit code; below 0: a signal."""
        assert self._end is not None
        await self.channel.open(self._end)
        self.channel.tell("order", order)
        serving = asyncio.ensure_future(self.channel.serve())
        try:
            return await self._exit_code()
        finally:
            self.joined = self.ready = False
            serving.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await serving

    async def _exit_code(self) -> int:
        """Wait for the end of the process, in a thread."""
        loop, process = asyncio.get_running_loop(), self._process
        assert process is not None
        ended: asyncio.Future[int] = loop.create_future()

        def wait() -> None:
            code = process.wait()
            with contextlib.suppress(RuntimeError):  # the event loop is closed: the supervisor has given up
                loop.call_soon_threadsafe(ended.set_result, code)

        threading.Thread(target=wait, name=f"replica-{self.number}", daemon=True).start()
        return await ended

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; nothing happens if the process has ended."""
        if self._process is not None:
            self._process.send_signal(number)
