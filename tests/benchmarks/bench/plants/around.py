"""Faults from outside of a server: other programs, signals, a CPU quota, a proxy, a second client."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from bench.load.child_server import child_server

from .plant import Around

ROOT = Path(__file__).resolve().parents[4]
BURN = "import os; os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))\nwhile True: pass"
CGROUP = Path("/sys/fs/cgroup/cpu")
"""Of version 1; with version 2 a plant with a quota fails."""


def burners(count: int) -> Around:
    """Programs that use a core each, beside a server that has no precedence over them."""

    @contextmanager
    def around(_url: str, pids: Sequence[int]) -> Iterator[None]:
        as_others(pids)
        running = [subprocess.Popen([sys.executable, "-c", BURN]) for _ in range(count)]
        try:
            yield
        finally:
            for one in running:
                one.kill()
                one.wait()

    return around


def crowded(count: int) -> Around:
    """Programs on the core of the load generator, while the server has the other cores."""

    @contextmanager
    def around(_url: str, pids: Sequence[int]) -> Iterator[None]:
        first, *others = sorted(os.sched_getaffinity(0))
        for pid in pids:
            for thread in Path(f"/proc/{pid}/task").iterdir():
                os.sched_setaffinity(int(thread.name), others)
        burn = [*on_core(first), sys.executable, "-c", BURN]
        running = [subprocess.Popen(burn) for _ in range(count)]
        try:
            yield
        finally:
            for one in running:
                one.kill()
                one.wait()

    return around


def on_core(core: int) -> list[str]:
    """The start of a command that runs on one core, without precedence over other programs."""
    return ["taskset", "-c", str(core), "chrt", "--other", "0"]


def stopping(every_s: float, for_s: float) -> Around:
    """SIGSTOP and SIGCONT to all processes of the server, again and again."""

    @contextmanager
    def around(_url: str, pids: Sequence[int]) -> Iterator[None]:
        over = threading.Event()

        def stop() -> None:
            while not over.wait(every_s):
                signal_all(pids, signal.SIGSTOP)
                time.sleep(for_s)  # the plant itself is a stop of this length
                signal_all(pids, signal.SIGCONT)

        thread = threading.Thread(target=stop)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
            signal_all(pids, signal.SIGCONT)

    return around


def quota(cores: float) -> Around:
    """A CPU quota for the processes of the server, in a control group of their own."""

    @contextmanager
    def around(_url: str, pids: Sequence[int]) -> Iterator[None]:
        group = CGROUP / f"slipway-plant-{os.getpid()}-{pids[0]}"
        group.mkdir()
        try:
            (group / "cpu.cfs_period_us").write_text("100000")
            (group / "cpu.cfs_quota_us").write_text(str(int(cores * 100_000)))
            as_others(pids)  # a group without a share of real-time takes no process that runs ahead of others
            for pid in pids:
                (group / "cgroup.procs").write_text(str(pid))
            yield
        finally:
            for pid in pids:
                with suppress(OSError):
                    (CGROUP / "cgroup.procs").write_text(str(pid))
            with suppress(OSError):
                group.rmdir()

    return around


def proxied(kind: str, value: float) -> Around:
    """A proxy that limits bytes per second (``rate``), or adds seconds to each way (``delay``)."""

    @contextmanager
    def around(url: str, _pids: Sequence[int]) -> Iterator[str]:
        with child_server("tests.benchmarks.bench.plants.slow_proxy", url, kind, str(value)) as address:
            yield address

    return around


@contextmanager
def other_client(url: str, body: Path, rate: float) -> Iterator[None]:
    """A second client with a load of its own."""
    command = [sys.executable, "-m", "tests.benchmarks.bench.plants.other_client", url, str(body), str(rate)]
    running = subprocess.Popen(command, cwd=ROOT)
    try:
        yield
    finally:
        running.kill()
        running.wait()


def signal_all(pids: Sequence[int], number: int) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def above_others() -> None:
    """Run this process and its children ahead of other programs of the machine, where the user may."""
    with suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))


def as_others(pids: Sequence[int]) -> None:
    """Take the precedence of ``above_others`` from all threads of these processes."""
    for pid in pids:
        with suppress(OSError):
            for thread in Path(f"/proc/{pid}/task").iterdir():
                with suppress(OSError):
                    os.sched_setscheduler(int(thread.name), os.SCHED_OTHER, os.sched_param(0))
