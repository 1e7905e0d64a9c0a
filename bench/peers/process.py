"""The process: a server of somebody else's, on cores of its own, and gone whole when its block ends."""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import os
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from .peer import HOST

MARK = "BENCH_PEER_OF"
"""In the environment of everything that is started here, and so of all its descendants, wherever they hide."""
GRACE_S = 15.0
LAST_LINES, LAST_WORDS = 3, 300
PROBE_EVERY_S = 0.05


class Failed(Exception):
    """A server did not start, died, or answered wrongly; the message says what happened."""


@dataclass(slots=True)
class Running:
    """A started server. ``began_s``: when, by ``perf_counter``. ``log``: what it wrote."""

    process: subprocess.Popen[bytes]
    mark: str
    log: Path
    began_s: float

    def check(self, patience_s: float = 0.0) -> None:
        """Raises Failed when it is no longer there. ``patience_s``: how long its end may take."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            status = self.process.wait(patience_s)
            raise Failed(f"it ended with status {status}; {self.last_words()}")

    def last_words(self) -> str:
        """The end of its log, in one line."""
        lines = [line.strip() for line in self.log.read_text("utf-8", "replace").splitlines() if line.strip()]
        return f"its log ends: {' | '.join(lines[-LAST_LINES:])[-LAST_WORDS:]}" if lines else "its log is empty"

    def cpu_s(self) -> float:
        """CPU seconds of it and of all that it started, as far as they are still there."""
        used = 0.0
        for one in marked(self.mark):
            with contextlib.suppress(psutil.Error):
                times = one.cpu_times()
                used += times.user + times.system
        return used

    def check_private(self) -> None:
        """Raises Failed when it, or what it started, listens on more than the loopback interface."""
        public = set()
        for one in marked(self.mark):
            with contextlib.suppress(psutil.Error):
                heard = [c.laddr for c in one.net_connections("tcp") if c.status == psutil.CONN_LISTEN]
                public |= {f"{at.ip}:{at.port}" for at in heard if not _is_loopback(at.ip)}
        if public:
            raise Failed(f"it listens on {', '.join(sorted(public))}, where others than this machine can reach it")

    def wait_until_ready(self, port: int, path: str, within_s: float) -> None:
        """Until the path answers 200. Raises Failed."""
        give_up = self.began_s + within_s
        while time.perf_counter() < give_up:
            self.check()
            if _answers(port, path):
                return
            time.sleep(PROBE_EVERY_S)
        raise Failed(f"it was not ready after {within_s:g} s; {self.last_words()}")


@contextlib.contextmanager
def running(
    command: Sequence[str], folder: Path, environment: Mapping[str, str], cores: Sequence[int]
) -> Iterator[Running]:
    """The command in its folder, on these cores, until the block ends, with everything that it started.

    Raises Failed when it cannot be executed.
    """
    mark, log = uuid.uuid4().hex, folder / "server.log"
    process = None
    try:
        with log.open("wb") as output, _on(cores):
            began_s = time.perf_counter()
            process = subprocess.Popen(
                command,
                cwd=folder,
                env={**os.environ, **environment, MARK: mark},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for us, who then end it in an orderly way
            )
        yield Running(process, mark, log, began_s)
    except OSError as error:
        if process is not None:
            raise
        raise Failed(f"it cannot be started: {error}") from error
    finally:
        with _undisturbed():
            _end(process, mark)


def marked(mark: str) -> list[psutil.Process]:
    """The processes of this machine that carry the mark."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


@contextlib.contextmanager
def _on(cores: Sequence[int]) -> Iterator[None]:
    """What is started inside inherits these cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """A second Ctrl-C does not stop the tidying up, which takes seconds at most."""
    try:
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    except ValueError:  # not the main thread, which is the only one that Ctrl-C disturbs
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _end(process: subprocess.Popen[bytes] | None, mark: str) -> None:
    """Ask the first process, which knows best how to end the others; then whoever is left; then without asking."""
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
    """Java and gRPC listen on ::ffff:127.0.0.1, which is 127.0.0.1 in the other family's words."""
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
