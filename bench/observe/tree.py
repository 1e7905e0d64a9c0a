"""The process tree of a server: the process that listens, its parents of the same program, and all their children."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

import psutil

from ..load.burst import Work

ROOT = Path("/")
MAX_THREADS = 512
"""Threads that are read at each look; more would take too long."""
SAME_S = 0.05
"""Between two readings of when a process began; the kernel counts hundredths."""
FLEET = ("bench.load", "multiprocessing.spawn")
"""In the command lines of generator processes that a bench starts."""


def listeners(port: int) -> tuple[int, ...]:
    """The processes that listen on a TCP port, ascending; empty where this user may not see them."""
    found = psutil.net_connections("tcp")
    return tuple(
        sorted({one.pid for one in found if one.pid and one.status == psutil.CONN_LISTEN and one.laddr.port == port})
    )


def server(port: int, started_s: float | None = None) -> tuple[int, ...]:
    """The processes of this machine that answer on a port.

    They are its listeners, or, where none of these began at ``started_s`` (seconds since the epoch, as the server says
    of itself), the process behind them that did: the listener is a proxy then. Empty if that process cannot be seen.
    """
    found = listeners(port)
    if started_s is None or any(_began(pid, started_s) for pid in with_children((*roots(found), *found))):
        return found
    return tuple(one.pid for one in psutil.process_iter() if _began(one.pid, started_s) and _listens(one))


def strangers(port: int, own: Iterable[int]) -> int:
    """Open connections at the port whose other end is no socket of ``own``: another client's, of any machine."""
    mine = set(own)
    found = [one for one in psutil.net_connections("tcp") if one.raddr and one.status == psutil.CONN_ESTABLISHED]
    ours = {one.laddr for one in found if one.pid in mine and one.raddr.port == port}
    return sum(one.laddr.port == port and one.raddr not in ours for one in found)


def roots(pids: Iterable[int]) -> tuple[int, ...]:
    """For each listener its oldest ancestor that runs the same program and did not start this bench.

    Worker processes may be siblings of the process that listens, below a parent that does not.
    """
    ours = {one.pid for one in _parents(os.getpid())} | {os.getpid()}
    found = set()
    for pid in pids:
        top = pid
        program = _program(pid)
        for parent in _parents(pid):
            if parent.pid in ours or parent.pid == 1 or program is None or _program(parent.pid) != program:
                break
            top = parent.pid
        found.add(top)
    return tuple(sorted(found))


def with_children(pids: Iterable[int]) -> tuple[int, ...]:
    """These processes and all below them that still run."""
    found: set[int] = set()
    for pid in pids:
        try:
            process = psutil.Process(pid)
            found |= {pid, *(one.pid for one in process.children(recursive=True))}
        except psutil.Error:
            continue
    return tuple(sorted(found))


def generators(parent: int) -> tuple[int, ...]:
    """The process that runs the load, and the generator processes that it started."""
    found = {parent}
    try:
        for one in psutil.Process(parent).children(recursive=True):
            if any(mark in part for part in one.cmdline() for mark in FLEET):
                found.add(one.pid)
    except psutil.Error:
        pass
    return tuple(sorted(found))


def family(pids: tuple[int, ...]) -> tuple[int, ...]:
    """All processes of a server from those of ``server``, the first of these first."""
    everything = with_children((*roots(pids), *pids))
    return (*pids[:1], *(pid for pid in everything if pid not in pids[:1]))


class Threads:
    """CPU time and run-queue delay of all threads of some processes, as counters that never shrink.

    A thread that ended keeps what it had. ``busiest_ns`` adds up what the busiest thread of each look used.
    """

    def __init__(self, root: Path = ROOT) -> None:
        self._proc = root / "proc"
        self._last: dict[int, tuple[float, float]] = {}
        self._cpu_ns = self._delay_ns = self._busiest_ns = 0.0

    def read(self, pids: Iterable[int]) -> dict[str, float]:
        """The counters now; empty where the kernel has no ``schedstat``."""
        now: dict[int, tuple[float, float]] = {}
        for path in self._paths(pids):
            try:
                fields = (path / "schedstat").read_text().split()
                now[int(path.name)] = (float(fields[0]), float(fields[1]))
            except (OSError, IndexError, ValueError):
                continue
        if not now:
            return {}
        busiest = 0.0
        for thread, (cpu, delay) in now.items():
            before = self._last.get(thread, (0.0, 0.0) if self._last else (cpu, delay))
            self._cpu_ns += max(cpu - before[0], 0.0)
            self._delay_ns += max(delay - before[1], 0.0)
            busiest = max(busiest, cpu - before[0])
        self._busiest_ns += busiest
        self._last = now
        return {
            "run_delay_ns": self._delay_ns,
            "threads_cpu_ns": self._cpu_ns,
            "busiest_ns": self._busiest_ns,
            "threads": float(len(now)),
        }

    def _paths(self, pids: Iterable[int]) -> list[Path]:
        paths: list[Path] = []
        for pid in pids:
            try:
                paths += (self._proc / str(pid) / "task").iterdir()
            except OSError:
                continue
        return paths[:MAX_THREADS]


def work_of(pids: tuple[int, ...]) -> Callable[[], Work | None]:
    """A reader of the CPU time and the run-queue delay of these processes."""
    threads = Threads()
    threads.read(pids)
    begun_ns = _cpu_ns(pids)

    def read() -> Work | None:
        seen = threads.read(pids) if pids else {}
        if not seen:
            return None
        # The processes' own counters are coarse, but keep what threads used that have ended.
        return Work(max(seen["threads_cpu_ns"], _cpu_ns(pids) - begun_ns), seen["run_delay_ns"])

    return read


def _cpu_ns(pids: Iterable[int]) -> float:
    """CPU time of the processes and of their children that have ended, since their start."""
    used = 0.0
    for pid in pids:
        try:
            times = psutil.Process(pid).cpu_times()
            used += (times.user + times.system + times.children_user + times.children_system) * 1e9
        except psutil.Error:
            continue
    return used


def _began(pid: int, at_s: float) -> bool:
    try:
        return abs(float(psutil.Process(pid).create_time()) - at_s) < SAME_S
    except psutil.Error:
        return False


def _listens(process: psutil.Process) -> bool:
    """Whether it listens on TCP, in its own network."""
    try:
        return any(one.status == psutil.CONN_LISTEN for one in process.net_connections("tcp"))
    except psutil.Error:
        return False


def _parents(pid: int) -> list[psutil.Process]:
    try:
        return list(psutil.Process(pid).parents())
    except psutil.Error:
        return []


def _program(pid: int) -> str | None:
    """The file that a process runs; None where this user may not see it."""
    try:
        return str(psutil.Process(pid).exe()) or None
    except psutil.Error:
        return None
