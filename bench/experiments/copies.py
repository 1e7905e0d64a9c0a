"""Copies: a second Slipway beside the one that is measured, with its command and other flags."""

from __future__ import annotations

import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psutil

from server.system.orphans import ending_with_us

from ..errors import Unusable
from ..load.target import Target

PROGRAM = "serve.py"
PATIENCE_S = 30.0
LISTENING = re.compile(r"listening on http://[^\s/]*:(\d+)")
READY = "/ping"
MEMORY_FACTOR = 1.5
"""A copy is started if so many times the memory of the server is free."""
POLL_S = 0.05
ALONE = (
    "--host",
    "127.0.0.1",
    "--port",
    "0",
    "--grpc-port",
    "-1",
    "--tls-cert",
    "",
    "--tls-key",
    "",
    "--capture-to",
    "",
)
"""Flags with which a copy takes no port and no folder of the server that it copies."""


def can_copy(pids: Sequence[int]) -> bool:
    """Whether the first of these processes is a Slipway of this user whose command can be started again."""
    try:
        _command(pids)
    except Unusable:
        return False
    return True


@contextmanager
def copied(target: Target, pids: Sequence[int], flags: Sequence[str]) -> Iterator[Target]:
    """The target at a copy of its server, started with ``flags`` in addition, on a port of its own.

    ``pids``: the processes of the server, the one that listens first. Raises Unusable if it cannot be started.
    """
    command, folder, environment = _command(pids)
    _check_memory(pids)
    with (
        tempfile.TemporaryFile("w+") as log,
        subprocess.Popen(
            ending_with_us([*command, *ALONE, *flags], signal.SIGTERM), cwd=folder, env=environment,
            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True,  # Ctrl-C ends the block, which ends this
        ) as process,
    ):  # fmt: skip
        try:
            port = _port(process, log.fileno())
            yield replace(target, host="127.0.0.1", port=port, tls=False)
        finally:
            process.terminate()
            try:
                process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                process.kill()


def _command(pids: Sequence[int]) -> tuple[list[str], str, dict[str, str]]:
    """The command line, the working directory and the environment of a running Slipway."""
    try:
        process = psutil.Process(pids[0])
        command, folder, environment = process.cmdline(), process.cwd(), process.environ()
    except (psutil.Error, IndexError, OSError, ValueError) as error:  # ValueError: no process has this number
        raise Unusable(f"the command of the server cannot be read: {error}") from error
    if not any(Path(word).name == PROGRAM for word in command[:3]):
        raise Unusable("the server is no Slipway of this machine, so that no copy of it can be started")
    return command, folder, environment


def _check_memory(pids: Sequence[int]) -> None:
    used = 0
    for pid in pids:
        try:
            used += psutil.Process(pid).memory_info().rss
        except psutil.Error:
            continue
    free = psutil.virtual_memory().available
    if MEMORY_FACTOR * used > free:
        raise Unusable(f"a copy of the server needs {used / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free")


def _port(process: subprocess.Popen[bytes], log: int) -> int:
    """The port of the copy when it is ready. Raises Unusable if it ends, or takes too long."""
    end_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < end_s:
        text = Path(f"/proc/self/fd/{log}").read_text(encoding="utf-8", errors="replace")
        found = LISTENING.search(text)
        if found is not None and _is_ready(int(found[1])):
            return int(found[1])
        if process.poll() is not None:
            last = (text.strip().splitlines() or ["no line"])[-1]
            raise Unusable(f"a copy of the server ended at once: {last[-200:]}")
        time.sleep(POLL_S)
    raise Unusable(f"a copy of the server was not ready after {PATIENCE_S:g} s")


def _is_ready(port: int) -> bool:
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", READY)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
