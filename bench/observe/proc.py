"""Kernel counters: of one process and its control groups, of all cores, and of the network interfaces.

psutil finds processes and interfaces. It has no counter of major faults by process, run-queue delay, pressure, tasks
that are ready, or TCP retransmits; these are read from ``/proc`` here.
"""

from __future__ import annotations

import ipaddress
import socket
from pathlib import Path

import psutil

from server.system import cgroup

ROOT = Path("/")
MAX_THREADS = 256
"""Threads of a process whose run-queue delay is read at each look; more would take too long."""


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


def find_listener(port: int) -> int | None:
    """The process that listens on a TCP port, the one with the lowest number of several.

    None where none listens, or where it belongs to another user whose sockets this user may not see.
    """
    found = (
        one for one in psutil.net_connections("tcp") if one.status == psutil.CONN_LISTEN and one.laddr.port == port
    )
    return min((one.pid for one in found if one.pid is not None), default=None)


class ServerFiles:
    """Reads the counters of one process, its control groups and the cores. ``root``: where ``proc`` and ``sys`` are."""

    def __init__(self, pid: int, root: Path = ROOT) -> None:
        self._root = root
        self._process = root / "proc" / str(pid)
        self._groups = cgroup.of(pid, root)

    def read(self) -> dict[str, float]:
        """The counters now, each since its own beginning. Names end in the unit; what cannot be read is missing."""
        return {
            **self._stat(),
            **self._run_delay(),
            **self._control_groups(),
            **_pressure(self._root / "proc/pressure/cpu"),
            **_cores(self._root),
        }

    def _stat(self) -> dict[str, float]:
        """CPU time, threads, resident memory and major faults: one file has all of them."""
        try:
            fields = (self._process / "stat").read_text().rpartition(")")[2].split()
            return {
                "major_faults": float(fields[9]),
                "cpu_ticks": float(fields[11]) + float(fields[12]),
                "threads": float(fields[17]),
                "rss_pages": float(fields[21]),
            }
        except (OSError, IndexError, ValueError):
            return {}

    def _run_delay(self) -> dict[str, float]:
        """Time that threads were ready to run and waited for a core: of all, and of the main one (the event loop)."""
        try:
            threads = sorted((self._process / "task").iterdir(), key=lambda path: int(path.name))[:MAX_THREADS]
            main = _run_delay_ns(self._process / "task" / self._process.name / "schedstat")
            return {"run_delay_ns": sum(_run_delay_ns(path / "schedstat") for path in threads), "loop_delay_ns": main}
        except (OSError, IndexError, ValueError):
            return {}

    def _control_groups(self) -> dict[str, float]:
        throttling = self._groups.throttling()
        found = {
            "throttled_ns": None if throttling is None else throttling.throttled_ns,
            "memory_bytes": self._groups.memory_used_bytes(),
            "memory_limit_bytes": self._groups.memory_limit_bytes(),
        }
        return {name: float(value) for name, value in found.items() if value is not None}


def network(loopback: bool, root: Path = ROOT) -> dict[str, float]:
    """Bytes that the interfaces took in and sent, and TCP segments that this machine sent again, all since boot.

    ``loopback``: read that interface alone, because the server is on this machine and the load uses no other.
    """
    counters = psutil.net_io_counters(pernic=True, nowrap=False).items()
    chosen = [counts for name, counts in counters if (name == "lo") == loopback]
    try:
        rows = [line.split() for line in (root / "proc/net/snmp").read_text().splitlines() if line.startswith("Tcp:")]
        names, values = rows
        return {
            "net_in_bytes": float(sum(counts.bytes_recv for counts in chosen)),
            "net_out_bytes": float(sum(counts.bytes_sent for counts in chosen)),
            "retransmits": float(values[names.index("RetransSegs")]),
        }
    except (OSError, IndexError, ValueError):
        return {}


def core_ticks(root: Path = ROOT) -> dict[str, tuple[int, ...]]:
    """Ticks of every core by its name (``cpu3``), and of all (``cpu``): user, nice, system, idle, iowait, irq, softirq
    and steal, as in proc_stat(5). psutil numbers the cores that are online, which are others where a core is offline.

    Raises OSError or ValueError where the kernel's file cannot be read.
    """
    rows = (line.split() for line in (root / "proc/stat").read_text().splitlines() if line.startswith("cpu"))
    return {name: tuple(int(value) for value in fields[:8]) for name, *fields in rows}


def _cores(root: Path) -> dict[str, float]:
    """Ticks of all cores: in all, idle, and stolen by the hypervisor; and how many tasks are running or ready."""
    try:
        ticks = core_ticks(root)["cpu"]
        lines = (root / "proc/stat").read_text().splitlines()
        running = next(float(line.split()[1]) for line in lines if line.startswith("procs_running"))
        cores = {"machine_ticks": sum(ticks), "idle_ticks": ticks[3] + ticks[4], "steal_ticks": ticks[7]}
        return {**{name: float(value) for name, value in cores.items()}, "running": running}
    except (OSError, LookupError, ValueError, StopIteration):
        return {}


def _run_delay_ns(path: Path) -> float:
    return float(path.read_text().split()[1])


def _pressure(path: Path) -> dict[str, float]:
    """Pressure stall information: time in which some task of the machine waited for a core."""
    try:
        some = path.read_text().splitlines()[0]
        return {"pressure_us": float(some.rpartition("total=")[2])}
    except (OSError, IndexError, ValueError):
        return {}
