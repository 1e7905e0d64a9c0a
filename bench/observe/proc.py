"""The kernel's files on a process: CPU, memory, page faults, throttling, and time spent waiting for a core."""

from __future__ import annotations

import ipaddress
import os
import socket
from pathlib import Path

LISTEN = "0A"
MAX_THREADS = 256


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


def find_listener(port: int, root: Path = Path("/")) -> int | None:
    """The process that listens on a TCP port, if this user may know; the oldest of several."""
    sockets = {f"socket:[{inode}]" for name in ("tcp", "tcp6") for inode in _listening(root / "proc/net" / name, port)}
    if not sockets:
        return None
    for pid in sorted(int(entry.name) for entry in (root / "proc").iterdir() if entry.name.isdigit()):
        try:
            if any(os.readlink(link) in sockets for link in (root / "proc" / str(pid) / "fd").iterdir()):
                return pid
        except OSError:
            continue  # another user's, or gone
    return None


def _listening(table: Path, port: int) -> list[str]:
    """The inodes of sockets in state LISTEN on the port, from /proc/net/tcp."""
    try:
        rows = [line.split() for line in table.read_text().splitlines()[1:]]
    except OSError:
        return []
    return [row[9] for row in rows if row[3] == LISTEN and int(row[1].rpartition(":")[2], 16) == port]


class ServerFiles:
    """Reads one process and its cgroup; ``root`` is where /proc and /sys are. Counters count since their beginning."""

    def __init__(self, root: Path, pid: int) -> None:
        self._root = root
        self._process = root / "proc" / str(pid)
        self._cpu_stat, self._memory = self._find_cgroup()

    def read(self) -> dict[str, float]:
        """What can be read now. Names end in their unit; what cannot be read is missing."""
        return {
            **self._stat(),
            **self._waited(),
            **self._cgroup(),
            **_pressure(self._root / "proc/pressure/cpu"),
            **_machine(self._root / "proc/stat"),
        }

    def _stat(self) -> dict[str, float]:
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

    def _waited(self) -> dict[str, float]:
        """Time that threads were ready to run and waited for a core: of all, and of the main one (the event loop)."""
        try:
            threads = sorted((self._process / "task").iterdir(), key=lambda path: int(path.name))[:MAX_THREADS]
            main = _run_delay_ns(self._process / "task" / self._process.name / "schedstat")
            return {"run_delay_ns": sum(_run_delay_ns(path / "schedstat") for path in threads), "loop_delay_ns": main}
        except (OSError, IndexError, ValueError):
            return {}

    def _cgroup(self) -> dict[str, float]:
        found: dict[str, float] = {}
        if self._cpu_stat is not None:
            for name, value in _pairs(self._cpu_stat).items():
                if name in ("nr_periods", "nr_throttled"):
                    found[name] = value
                elif name in ("throttled_usec", "throttled_time"):
                    found["throttled_ns"] = value * (1_000 if name == "throttled_usec" else 1)
        for name, path in zip(("memory_bytes", "memory_limit_bytes"), self._memory, strict=True):
            try:
                found[name] = float(path.read_text())
            except (OSError, ValueError):
                continue  # no file, or the word "max"
        return found

    def _find_cgroup(self) -> tuple[Path | None, tuple[Path, Path]]:
        """Where the process's group keeps cpu.stat, and its memory use and limit: cgroup v2, else v1."""
        try:
            lines = [line.split(":", 2) for line in (self._process / "cgroup").read_text().splitlines()]
        except OSError:
            lines = []
        groups = {name: path.lstrip("/") for _, names, path in lines for name in names.split(",")}
        mount = self._root / "sys/fs/cgroup"
        memory_v1 = _own_or_top(mount / "memory", groups.get("memory", ""))
        memory_v2 = _own_or_top(mount, groups.get("", ""))
        stats = [_own_or_top(mount, groups.get("", "")) / "cpu.stat"]
        stats += [_own_or_top(mount / name, groups.get("cpu", "")) / "cpu.stat" for name in ("cpu", "cpu,cpuacct")]
        memory = (memory_v1 / "memory.usage_in_bytes", memory_v1 / "memory.limit_in_bytes")
        if (memory_v2 / "memory.current").exists():
            memory = (memory_v2 / "memory.current", memory_v2 / "memory.max")
        return next((path for path in stats if path.exists()), None), memory


def network(root: Path, loopback: bool) -> dict[str, float]:
    """Bytes that this machine's interfaces took in and sent, and TCP segments that it had to send again, since boot.

    ``loopback``: the server is here, so the load passes through that interface and no other.
    """
    found = {"net_in_bytes": 0.0, "net_out_bytes": 0.0}
    try:
        for line in (root / "proc/net/dev").read_text().splitlines()[2:]:
            name, _, counts = line.partition(":")
            if (name.strip() == "lo") == loopback:
                fields = counts.split()
                found["net_in_bytes"] += float(fields[0])
                found["net_out_bytes"] += float(fields[8])
        names, values = (
            line.split() for line in (root / "proc/net/snmp").read_text().splitlines() if line[:4] == "Tcp:"
        )
        return found | {"retransmits": float(values[names.index("RetransSegs")])}
    except (OSError, IndexError, ValueError):
        return {}


def _own_or_top(mount: Path, group: str) -> Path:
    """A container often sees its own group as the top of the tree, under a path that exists only outside."""
    return mount / group if group and (mount / group).is_dir() else mount


def _run_delay_ns(path: Path) -> float:
    return float(path.read_text().split()[1])


def _pairs(path: Path) -> dict[str, float]:
    try:
        return {name: float(value) for name, value in (line.split() for line in path.read_text().splitlines())}
    except (OSError, ValueError):
        return {}


def _pressure(path: Path) -> dict[str, float]:
    """Pressure stall information: time in which some task of the machine waited for a core."""
    try:
        some = path.read_text().splitlines()[0]
        return {"pressure_us": float(some.rpartition("total=")[2])}
    except (OSError, IndexError, ValueError):
        return {}


def _machine(path: Path) -> dict[str, float]:
    """Ticks of all cores: in all, idle, and stolen by the hypervisor; and how many tasks are running or ready."""
    try:
        lines = [line.split() for line in path.read_text().splitlines()]
        ticks = [float(value) for value in next(line for line in lines if line[0] == "cpu")[1:9]]
        running = next(float(line[1]) for line in lines if line[0] == "procs_running")
        machine = {"machine_ticks": sum(ticks), "idle_ticks": ticks[3] + ticks[4], "steal_ticks": ticks[7]}
        return machine | {"running": running}
    except (OSError, IndexError, ValueError, StopIteration):
        return {}
