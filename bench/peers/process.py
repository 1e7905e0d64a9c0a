"""The process of a peer: pinned to its cores, and ended together with everything that it started."""

from __future__ import annotations

import contextlib
import http.client
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

from .peer import HOST

MARK = "BENCH_PEER_OF"
"""An environment variable of the server that all its descendants inherit, in other sessions and groups too."""
GRACE_S = 15.0
LAST_LINES, LAST_CHARACTERS = 3, 300
"""The end of a log in a message."""
PROBE_EVERY_S = 0.05


class Failed(Exception):
    """A server did not start, ended, or gave a wrong answer; the message says which."""


@dataclass(slots=True)
class Running:
    """A started server. ``log``: its output. ``began_s``: its start by ``perf_counter``."""

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
        """The end of its log in one line."""
        lines = [line.strip() for line in self.log.read_text("utf-8", "replace").splitlines() if line.strip()]
        return f"its log ends: {' | '.join(lines[-LAST_LINES:])[-LAST_CHARACTERS:]}" if lines else "its log is empty"

    def cpu_s(self) -> float:
        """CPU seconds of its process and of those descendants that still run."""
        used = 0.0
        for one in marked(self.mark):
            with contextlib.suppress(psutil.Error):
                times = one.cpu_times()
                used += times.user + times.system
        return used

    def check_private(self) -> None:
        """Raises Failed if a process of the server listens on another interface than the loopback."""
        public = set()
        for one in marked(self.mark):
            with contextlib.suppress(psutil.Error):
                listening = [c.laddr for c in one.net_connections("tcp") if c.status == psutil.CONN_LISTEN]
                public |= {f"{at.ip}:{at.port}" for at in listening if not _is_loopback(at.ip)}
        if public:
            raise Failed(f"it listens on {', '.join(sorted(public))}, which other machines can reach")

    def wait_until_ready(self, port: int, path: str, within_s: float) -> None:
        """Return when the path answers 200. Raises Failed if the server ends, or after ``within_s``."""
        give_up = self.began_s + within_s
        while time.perf_counter() < give_up:
            self.check()
            if _answers(port, path):
                return
            time.sleep(PROBE_EVERY_S)
        raise Failed(f"it was not ready after {within_s:g} s; {self.log_end()}")


def free_ports(count: int) -> tuple[int, ...]:
    """Different ports of 127.0.0.1 that are free now."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.create_server((HOST, 0))) for _ in range(count)]
        return tuple(int(one.getsockname()[1]) for one in sockets)


@contextlib.contextmanager
def running(
    command: Sequence[str], folder: Path, environment: Mapping[str, str], cores: Sequence[int]
) -> Iterator[Running]:
    """Run the command in ``folder`` on these cores. It ends with the block, together with all its descendants.

    Raises Failed when the command cannot be executed.
    """
    mark, log = uuid.uuid4().hex, folder / "server.log"
    process = None
    try:
        with log.open("wb") as output, _inherited_affinity(cores):
            began_s = time.perf_counter()
            process = subprocess.Popen(
                command,
                cwd=folder,
                env={**os.environ, **environment, MARK: mark},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches this process only, which then ends the server
            )
        yield Running(process, mark, log, began_s)
    except OSError as error:
        if process is not None:
            raise
        raise Failed(f"it cannot be started: {error}") from error
    finally:
        with _sigint_ignored():
            _end(process, mark)


def marked(mark: str) -> list[psutil.Process]:
    """The processes with this mark in their environment, zombies excluded."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


@contextlib.contextmanager
def _inherited_affinity(cores: Sequence[int]) -> Iterator[None]:
    """Processes that are started in the block run on these cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextlib.contextmanager
def _sigint_ignored() -> Iterator[None]:
    """Ctrl-C does not stop the block, which takes seconds at most."""
    try:
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    except ValueError:  # another thread than the main one, where Ctrl-C raises nothing
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _end(process: subprocess.Popen[bytes] | None, mark: str) -> None:
    """SIGTERM to the first process, which may end its children in order; then to the others; then SIGKILL."""
    if process is not None:
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_S)
    for number in (signal.SIGTERM, signal.SIGKILL):
        left = marked(mark)
        for one in left:
            with contextlib.suppress(psutil.Error):
                one.send_signal(number)
        psutil.wait_procs(left, timeout=GRACE_S / 5)
    if process is not None:
        process.wait()


def _is_loopback(address: str) -> bool:
    """Whether an address is of the loopback, also as ::ffff:127.0.0.1, which Java and gRPC use."""
    found = ipaddress.ip_address(address)
    return (getattr(found, "ipv4_mapped", None) or found).is_loopback


def _answers(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection(HOST, port, timeout=2.0)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
