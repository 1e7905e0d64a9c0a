"""Copies: a second Slipway beside the measured one, started with the same command and additional flags."""

from __future__ import annotations

import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import psutil

from server.system.orphans import ending_with_us

from ..errors import Unusable
from ..load import probe
from ..load.target import Target

PROGRAM = "serve.py"
TIMEOUT_S = 30.0
LISTENING = re.compile(r"listening on http://[^\s/]*:(\d+)")
READY = "/ping"
MEMORY_FACTOR = 1.5
"""A copy is started only if the free memory is at least this many times the memory of the server."""
POLL_S = 0.05
OWN_RESOURCES = ("--host=127.0.0.1", "--port=0", "--grpc-port=-1", "--tls-cert=", "--tls-key=", "--capture-to=")
"""Flags that give a copy a free port, and keep it from the ports, certificates and capture folder of the server."""


def can_copy(pids: Sequence[int]) -> bool:
    """Whether the first of these processes is a Slipway whose command this user can read and start again."""
    try:
        _command(pids)
    except Unusable:
        return False
    return True


@contextmanager
def copied(target: Target, pids: Sequence[int], flags: Sequence[str]) -> Iterator[Target]:
    """Start a copy of the target's server with additional ``flags``, yield its target, and stop it after the block.

    ``pids``: the processes of the server, the listening one first. Raises Unusable if the copy cannot be started, or is
    not ready within ``TIMEOUT_S``.
    """
    command, folder, environment = _command(pids)
    _check_memory(pids)
    with (
        tempfile.TemporaryFile("w+") as log,
        subprocess.Popen(
            ending_with_us([*command, *OWN_RESOURCES, *flags], signal.SIGTERM), cwd=folder, env=environment,
            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True,  # Ctrl-C ends the block, and the block ends the copy
        ) as process,
    ):  # fmt: skip
        try:
            yield _when_ready(replace(target, host="127.0.0.1", tls=False), process, log.fileno())
        finally:
            process.terminate()
            try:
                process.wait(TIMEOUT_S)
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
        raise Unusable("no copy of the server can be started: its process on this machine is not Slipway's serve.py")
    return command, folder, environment


def _check_memory(pids: Sequence[int]) -> None:
    """Raises Unusable if too little memory is free for a copy of these processes."""
    used_bytes = 0
    for pid in pids:
        try:
            used_bytes += psutil.Process(pid).memory_info().rss
        except psutil.Error:
            continue
    free_bytes = psutil.virtual_memory().available
    if MEMORY_FACTOR * used_bytes > free_bytes:
        raise Unusable(
            f"a copy of the server needs {MEMORY_FACTOR * used_bytes / 1e9:.1f} GB of free memory, and "
            f"{free_bytes / 1e9:.1f} GB are free"
        )


def _when_ready(target: Target, process: subprocess.Popen[bytes], log_fd: int) -> Target:
    """The target with the port of the copy, when it is ready. Raises Unusable if it ends, or after ``TIMEOUT_S``."""
    deadline_s = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline_s:
        output = Path(f"/proc/self/fd/{log_fd}").read_text(encoding="utf-8", errors="replace")
        match = LISTENING.search(output)
        if match is not None:
            target = replace(target, port=int(match[1]))
            with suppress(OSError):
                if probe.ask(target, READY, timeout_s=5.0)[0] == 200:
                    return target
        if process.poll() is not None:
            last_line = (output.strip().splitlines() or ["none"])[-1]
            raise Unusable(f"a copy of the server ended before it was ready; its last line: {last_line[-200:]}")
        time.sleep(POLL_S)
    raise Unusable(f"a copy of the server was not ready after {TIMEOUT_S:g} s")
