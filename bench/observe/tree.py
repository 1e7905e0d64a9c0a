"""The process tree of a server: the listening process, its ancestors of the same program, and all their children."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

import psutil

from ..load.burst import Work

ROOT = Path("/")
MAX_THREADS = 512
"""The most threads to read at each look, to limit its duration."""
START_TOLERANCE_S = 0.05
"""Start times of a process that differ by less are equal. The kernel counts them in hundredths of a second."""
GENERATOR_COMMANDS = ("bench.load", "multiprocessing.spawn")
"""Parts of the command lines of the generator processes that bench starts."""


def listeners(port: int) -> tuple[int, ...]:
    """The ids of the processes that listen on a TCP port, ascending; empty if this user may not see them."""
    listening = [one for one in psutil.net_connections("tcp") if one.status == psutil.CONN_LISTEN]
    return tuple(sorted({one.pid for one in listening if one.pid and one.laddr.port == port}))


def server(port: int, started_s: float | None = None) -> tuple[int, ...]:
    """The processes of this machine that serve a port.

    ``started_s``: the start of the server in seconds since the epoch, from its metrics. If no listener of the port (or
    relative of one) started then, the listener is a proxy, and the result is the listening process that did
    start then. Empty if that process cannot be seen.
    """
    listening = listeners(port)
    if started_s is None or any(_started_at(pid, started_s) for pid in with_children((*roots(listening), *listening))):
        return listening
    return tuple(
        process.pid for process in psutil.process_iter() if _started_at(process.pid, started_s) and _listens(process)
    )


def strangers(port: int, own: Iterable[int]) -> int:
    """The number of open connections to the port from other clients on any machine. ``own``: process ids of bench."""
    own_pids = set(own)
    connections = psutil.net_connections("tcp")
    established = [one for one in connections if one.raddr and one.status == psutil.CONN_ESTABLISHED]
    own_addresses = {one.laddr for one in established if one.pid in own_pids and one.raddr.port == port}
    return sum(one.laddr.port == port and one.raddr not in own_addresses for one in established)


def roots(pids: Iterable[int]) -> tuple[int, ...]:
    """For each listener, its oldest ancestor that runs the same program and is not an ancestor of this bench.

    The listening process may be a sibling of the workers, below a parent that does not listen.
    """
    own_processes = {process.pid for process in _parents(os.getpid())} | {os.getpid()}
    tops = set()
    for pid in pids:
        top = pid
        program = _program(pid)
        for parent in _parents(pid):
            if parent.pid in own_processes or parent.pid == 1 or program is None or _program(parent.pid) != program:
                break
            top = parent.pid
        tops.add(top)
    return tuple(sorted(tops))


def with_children(pids: Iterable[int]) -> tuple[int, ...]:
    """The running ones of these processes, and all their descendants, ascending."""
    running: set[int] = set()
    for pid in pids:
        try:
            process = psutil.Process(pid)
            running |= {pid, *(child.pid for child in process.children(recursive=True))}
        except psutil.Error:
            continue
    return tuple(sorted(running))


def ancestors(pids: Iterable[int]) -> set[int]:
    """The processes above these, up to the first one of the machine."""
    return {parent.pid for pid in pids for parent in _parents(pid)}


def generators(parent: int) -> tuple[int, ...]:
    """The process that runs the load (``parent``), and the generator processes that it started, ascending."""
    pids = {parent}
    try:
        for child in psutil.Process(parent).children(recursive=True):
            if any(command in part for part in child.cmdline() for command in GENERATOR_COMMANDS):
                pids.add(child.pid)
    except psutil.Error:
        pass
    return tuple(sorted(pids))


def family(pids: tuple[int, ...]) -> tuple[int, ...]:
    """All processes of a server, from the result of ``server``. Its first process stays the first."""
    all_pids = with_children((*roots(pids), *pids))
    return (*pids[:1], *(pid for pid in all_pids if pid not in pids[:1]))


class Threads:
    """CPU time and run-queue delay of all threads of some processes, as counters that never shrink.

    Ended threads stay included. ``busiest_ns`` sums, over the looks, the CPU time of the busiest thread since the look
    before.
    """

    def __init__(self, root: Path = ROOT) -> None:
        self._proc = root / "proc"
        self._last: dict[int, tuple[float, float]] = {}
        self._cpu_ns = self._delay_ns = self._busiest_ns = 0.0

    def read(self, pids: Iterable[int]) -> dict[str, float]:
        """The counters in ns, and the number of threads; empty if the kernel has no ``schedstat``."""
        now: dict[int, tuple[float, float]] = {}
        for path in self._paths(pids):
            try:
                fields = (path / "schedstat").read_text().split()
                now[int(path.name)] = (float(fields[0]), float(fields[1]))
            except (OSError, IndexError, ValueError):
                continue
        if not now:
            return {}
        busiest_ns = 0.0
        for thread, (cpu_ns, delay_ns) in now.items():
            last = self._last.get(thread, (0.0, 0.0) if self._last else (cpu_ns, delay_ns))
            self._cpu_ns += max(cpu_ns - last[0], 0.0)
            self._delay_ns += max(delay_ns - last[1], 0.0)
            busiest_ns = max(busiest_ns, cpu_ns - last[0])
        self._busiest_ns += busiest_ns
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
    """A function that reads the CPU time and the run-queue delay of these processes since this call.

    It returns None if they cannot be read.
    """
    threads = Threads()
    threads.read(pids)
    start_ns = _cpu_ns(pids)

    def read() -> Work | None:
        counters = threads.read(pids) if pids else {}
        if not counters:
            return None
        # The counters of processes are coarser, but include threads that have ended.
        return Work(max(counters["threads_cpu_ns"], _cpu_ns(pids) - start_ns), counters["run_delay_ns"])

    return read


def _cpu_ns(pids: Iterable[int]) -> float:
    """CPU time of the processes and of their ended children since their start, in ns."""
    used = 0.0
    for pid in pids:
        try:
            times = psutil.Process(pid).cpu_times()
            used += (times.user + times.system + times.children_user + times.children_system) * 1e9
        except psutil.Error:
            continue
    return used


def _started_at(pid: int, at_s: float) -> bool:
    try:
        return abs(float(psutil.Process(pid).create_time()) - at_s) < START_TOLERANCE_S
    except psutil.Error:
        return False


def _listens(process: psutil.Process) -> bool:
    """Whether a process listens on a TCP port, in its own network namespace."""
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
    """The path of the executable of a process; None if this user may not see it."""
    try:
        return str(psutil.Process(pid).exe()) or None
    except psutil.Error:
        return None
