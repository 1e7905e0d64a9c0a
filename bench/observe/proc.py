"""Kernel counters of processes, their control groups, the cores and the network interfaces.

psutil lacks major faults by process, run-queue delay, pressure and the number of runnable tasks. These are read from
``/proc``.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence
from pathlib import Path

import psutil

from server.system import cgroup

from .tree import Threads

ROOT = Path("/")
SUMS = ("major_faults", "cpu_ticks")
"""Counters that include processes that have ended, so that their sums never shrink."""


def is_here(host: str) -> bool:
    """Whether the host is this machine: a loopback address, or one of its own names or addresses."""
    try:
        address = socket.getaddrinfo(host, None)[0][4][0]
        if ipaddress.ip_address(address).is_loopback:
            return True
        family = socket.AF_INET6 if ":" in str(address) else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((address, 0))  # only an address of this machine can be bound
        return True
    except (OSError, ValueError):
        return False


class ServerFiles:
    """Reads the counters of a server's processes, its control groups and the cores.

    ``pids``: the processes whose counters are summed, the listening one first. ``root``: the folder of ``proc`` and
    ``sys``.
    """

    def __init__(self, pids: Sequence[int], root: Path = ROOT) -> None:
        self.pids = tuple(pids)
        self._root = root
        self._groups = cgroup.of(pids[0], root)
        self._threads = Threads(root)
        self._ended = dict.fromkeys(SUMS, 0.0)
        self._last: dict[int, dict[str, float]] = {}

    def read(self) -> dict[str, float]:
        """The current counters and levels by name, which ends in the unit. Values that cannot be read are missing."""
        return {
            **self._stats(),
            **self._threads.read(self.pids),
            **self._loop_delay(),
            **(allowed := _allowed_cores(self.pids[0], self._root)),
            **self._control_groups(allowed.get("allowed_cores")),
            **_pressure(self._root / "proc/pressure/cpu"),
            **_cores(self._root),
        }

    def _stats(self) -> dict[str, float]:
        """CPU time, threads, resident memory and major faults of all processes, and the own memory of the largest one.

        A process that ended keeps its CPU time.
        """
        now = {pid: found for pid in self.pids if (found := stat(pid, self._root))}
        for pid in self._last.keys() - now.keys():
            ended = self._last[pid]
            parent = int(ended["parent"])
            for name in SUMS:
                # The kernel adds the counters of an ended child to a parent that has waited for it.
                parent_growth = (
                    now[parent][name] - self._last[parent][name] if parent in now and parent in self._last else 0.0
                )
                self._ended[name] += ended[name] if parent_growth < ended[name] else 0.0
        self._last = now
        if not now:
            return {}
        names = [name for name in next(iter(now.values())) if name != "parent"]
        found = {name: sum(one[name] for one in now.values()) + self._ended.get(name, 0.0) for name in names}
        found["own_pages"] = max(one["own_pages"] for one in now.values())
        return found

    def _loop_delay(self) -> dict[str, float]:
        """The time in which the event loop (main thread of the listening process) was ready and waited for a core."""
        main = self._root / "proc" / str(self.pids[0]) / "task" / str(self.pids[0])
        try:
            return {"loop_delay_ns": float((main / "schedstat").read_text().split()[1])}
        except (OSError, IndexError, ValueError):
            return {}

    def _control_groups(self, cores: float | None) -> dict[str, float]:
        """Throttling, quota and memory. ``stop_ns``: the longest stop in a period, if ``cores`` use up the quota."""
        throttling, quota_cores = self._groups.throttling(), self._groups.quota_cores()
        values = {
            "quota_cores": quota_cores,
            "memory_bytes": self._groups.memory_used_bytes(),
            "memory_limit_bytes": self._groups.memory_limit_bytes(),
        }
        if throttling is not None:
            values |= {"throttled_ns": throttling.throttled_ns, "throttled_periods": throttling.throttled_periods}
            ran = quota_cores / cores if quota_cores is not None and cores else 0.0
            values["stop_ns"] = None if throttling.period_ns is None else throttling.period_ns * max(1.0 - ran, 0.0)
        return {name: float(value) for name, value in values.items() if value is not None}


def stat(pid: int, root: Path = ROOT) -> dict[str, float]:
    """The counters of one process from ``/proc/PID/stat``; empty if it has ended.

    CPU time and major faults include its ended children that it has waited for.
    """
    try:
        fields = (root / "proc" / str(pid) / "stat").read_text().rpartition(")")[2].split()
        return {
            "parent": float(fields[1]),
            "major_faults": float(fields[9]) + float(fields[10]),
            "cpu_ticks": sum(float(ticks) for ticks in fields[11:15]),
            "threads": float(fields[17]),
            "rss_pages": float(fields[21]),
            **_own_pages(root / "proc" / str(pid) / "statm"),
        }
    except (OSError, IndexError, ValueError):
        return {}


def _own_pages(path: Path) -> dict[str, float]:
    """Resident pages that are not mapped from files. They include weights, and leave out libraries."""
    try:
        resident, shared = (float(field) for field in path.read_text().split()[1:3])
        return {"own_pages": max(resident - shared, 0.0)}
    except (OSError, ValueError):
        return {"own_pages": 0.0}


def _allowed_cores(pid: int, root: Path) -> dict[str, float]:
    """The number of online cores on which a process may run, from the bit mask ``Cpus_allowed``."""
    try:
        lines = (root / "proc" / str(pid) / "status").read_text().splitlines()
        mask = next(line.partition(":")[2] for line in lines if line.startswith("Cpus_allowed:"))
        allowed = int(mask.strip().replace(",", ""), 16)
        online = [int(name.removeprefix("cpu")) for name in core_ticks(root) if name != "cpu"]
        return {"allowed_cores": float(sum(allowed >> core & 1 for core in online))}
    except (OSError, ValueError, StopIteration):
        return {}


def network(loopback: bool) -> dict[str, float]:
    """Bytes that the network interfaces received and sent since boot.

    ``loopback``: count the loopback alone, for a server on this machine; else all other interfaces.
    """
    counters = psutil.net_io_counters(pernic=True, nowrap=False).items()
    chosen = [counts for name, counts in counters if (name == "lo") == loopback]
    return {
        "net_in_bytes": float(sum(counts.bytes_recv for counts in chosen)),
        "net_out_bytes": float(sum(counts.bytes_sent for counts in chosen)),
    }


def core_ticks(root: Path = ROOT) -> dict[str, tuple[int, ...]]:
    """Clock ticks of every core by its name (``cpu3``), and of all cores (``cpu``), as in proc_stat(5).

    Each has user, nice, system, idle, iowait, irq, softirq and steal. psutil is not used, because it renumbers the
    cores if one is offline. Raises OSError or ValueError if the kernel's file cannot be read.
    """
    rows = (line.split() for line in (root / "proc/stat").read_text().splitlines() if line.startswith("cpu"))
    return {name: tuple(int(value) for value in fields[:8]) for name, *fields in rows}


def _cores(root: Path) -> dict[str, float]:
    """Ticks of all cores: total, idle, and stolen by the hypervisor; and the number of runnable tasks."""
    try:
        ticks = core_ticks(root)["cpu"]
        lines = (root / "proc/stat").read_text().splitlines()
        running = next(float(line.split()[1]) for line in lines if line.startswith("procs_running"))
        cores = {"machine_ticks": sum(ticks), "idle_ticks": ticks[3] + ticks[4], "steal_ticks": ticks[7]}
        return {**{name: float(value) for name, value in cores.items()}, "running": running}
    except (OSError, LookupError, ValueError, StopIteration):
        return {}


def _pressure(path: Path) -> dict[str, float]:
    """CPU pressure stall information: the time in which at least one task waited for a core, in us."""
    try:
        some = path.read_text().splitlines()[0]
        return {"pressure_us": float(some.rpartition("total=")[2])}
    except (OSError, IndexError, ValueError):
        return {}
