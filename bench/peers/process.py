"""The process of a peer: pinned to its cores, and stopped together with all its descendants."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from ..load import probe, target
from .peer import HOST

MARK_VARIABLE = "BENCH_PEER_OF"
"""An environment variable that identifies a server's descendants, which inherit it also in other process groups."""
GRACE_S = 15.0
LAST_LINES, LAST_CHARACTERS = 3, 300
"""The length of the end of a log that a message quotes."""
PROBE_INTERVAL_S = 0.05


class Failed(Exception):
    """A server did not start, ended, or gave a wrong answer. The message is a phrase about the server."""


@dataclass(slots=True)
class Running:
    """A started server. ``mark``: identifies its processes. ``log``: its output. ``began_s``: start by perf_counter."""

    process: subprocess.Popen[bytes]
    mark: str
    log: Path
    began_s: float

    def check(self, patience_s: float = 0.0) -> None:
        """Raises Failed if the process has ended, or ends within ``patience_s``."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            status = self.process.wait(patience_s)
            raise Failed(f"it ended with status {status}; {self.log_end()}")

    def log_end(self) -> str:
        """The last lines of the log, as one line."""
        lines = [line.strip() for line in self.log.read_text("utf-8", "replace").splitlines() if line.strip()]
        return f"its log ends: {' | '.join(lines[-LAST_LINES:])[-LAST_CHARACTERS:]}" if lines else "its log is empty"

    def cpu_s(self) -> float:
        """CPU seconds of the running processes of the server."""
        used_s = 0.0
        for process in marked(self.mark):
            with contextlib.suppress(psutil.Error):
                times = process.cpu_times()
                used_s += times.user + times.system
        return used_s

    def check_private(self) -> None:
        """Raises Failed if a process of the server listens on an interface other than the loopback."""
        public_addresses = set()
        for process in marked(self.mark):
            with contextlib.suppress(psutil.Error):
                listening = [c.laddr for c in process.net_connections("tcp") if c.status == psutil.CONN_LISTEN]
                public_addresses |= {
                    f"{address.ip}:{address.port}" for address in listening if not _is_loopback(address.ip)
                }
        if public_addresses:
            raise Failed(f"it listens on {', '.join(sorted(public_addresses))}, which other machines can reach")

    def wait_until_ready(self, port: int, path: str, within_s: float) -> None:
        """Wait until the path returns 200. Raises Failed if the server ends, or ``within_s`` after its start."""
        deadline_s, server = self.began_s + within_s, target.parse(f"{HOST}:{port}")
        while time.perf_counter() < deadline_s:
            self.check()
            with contextlib.suppress(OSError):
                if probe.ask(server, path, timeout_s=2.0)[0] == 200:
                    return
            time.sleep(PROBE_INTERVAL_S)
        raise Failed(f"it was not ready after {within_s:g} s; {self.log_end()}")


def free_ports(count: int) -> tuple[int, ...]:
    """``count`` different ports of 127.0.0.1 that are free now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server((HOST, 0))) for _ in range(count)]
        return tuple(int(listener.getsockname()[1]) for listener in sockets)


@contextlib.contextmanager
def running(
    command: Sequence[str], folder: Path, environment: Mapping[str, str], cores: Sequence[int]
) -> Iterator[Running]:
    """Run a command in ``folder`` on these cores. It is stopped after the block, together with all its descendants.

    Raises Failed if the command cannot be executed.
    """
    mark, log = uuid.uuid4().hex, folder / "server.log"
    process = None
    try:
        with log.open("wb") as output, _inherited_affinity(cores):
            began_s = time.perf_counter()
            process = subprocess.Popen(
                command,
                cwd=folder,
                env={**os.environ, **environment, MARK_VARIABLE: mark},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches this process only, which then stops the server
            )
        yield Running(process, mark, log, began_s)
    except OSError as error:
        if process is not None:
            raise
        raise Failed(f"it cannot be started: {error}") from error
    finally:
        with _sigint_ignored():
            _stop(process, mark)


def marked(mark: str) -> list[psutil.Process]:
    """The processes with this mark in their environment, without zombies."""
    processes = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get(MARK_VARIABLE) == mark and process.status() != psutil.STATUS_ZOMBIE:
                processes.append(process)
    return processes


@contextlib.contextmanager
def _inherited_affinity(cores: Sequence[int]) -> Iterator[None]:
    """Processes that start in the block inherit these cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextlib.contextmanager
def _sigint_ignored() -> Iterator[None]:
    """Ctrl-C does not interrupt the block, which must be short."""
    try:
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    except ValueError:  # not the main thread: Ctrl-C does not reach it
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _stop(process: subprocess.Popen[bytes] | None, mark: str) -> None:
    """Send SIGTERM to the first process, which may stop its children itself; then to the others; then SIGKILL."""
    if process is not None:
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_S)
    for signal_number in (signal.SIGTERM, signal.SIGKILL):
        remaining = marked(mark)
        for other in remaining:
            with contextlib.suppress(psutil.Error):
                other.send_signal(signal_number)
        psutil.wait_procs(remaining, timeout=GRACE_S / 5)
    if process is not None:
        process.wait()


def _is_loopback(address: str) -> bool:
    """Whether an IP address is a loopback address, also in the form ::ffff:127.0.0.1, which Java and gRPC use."""
    parsed = ipaddress.ip_address(address)
    return (getattr(parsed, "ipv4_mapped", None) or parsed).is_loopback
