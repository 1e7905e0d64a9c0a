"""Faults from outside of a server: other programs, signals, a CPU quota, a proxy, a second client."""

from __future__ import annotations

import itertools
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from bench.load.child_server import child_server

from .plant import Around
from .programs import BURN

ROOT = Path(__file__).resolve().parents[4]
CLIENTS = "slipway-plant-client"
CGROUP = Path("/sys/fs/cgroup/cpu")
"""Of version 1; with version 2 a plant with a quota fails."""
FREEZER = Path("/sys/fs/cgroup/freezer")
"""Of version 1 too."""


def burners(count: int, program: str = BURN, core: int | None = None) -> Around:
    """Programs that use a core each, beside a server that has no precedence over them.

    ``core``: they and the server run on this core alone.
    """

    @contextmanager
    def around(_url: str, pids: Sequence[int]) -> Iterator[None]:
        as_others(pids)
        with _programs(count, program) as running:
            if core is not None:
                pin([*pids, *running], core)
            yield

    return around


def coming_and_going(count: int, every_s: float, for_s: float) -> Around:
    """Burners that run for ``for_s`` after every ``every_s``, as a job of another user does."""

    @contextmanager
    def around(_url: str, pids: Sequence[int]) -> Iterator[None]:
        as_others(pids)
        with _programs(count, BURN) as running:
            signal_all(running, signal.SIGSTOP)
            with _signalled(itertools.repeat((every_s, for_s)), running, signal.SIGCONT, signal.SIGSTOP):
                yield

    return around


def later(after_s: float, count: int) -> Around:
    """Burners that begin so late, and stay."""

    @contextmanager
    def around(_url: str, pids: Sequence[int]) -> Iterator[None]:
        as_others(pids)
        with _programs(count, BURN) as running:
            signal_all(running, signal.SIGSTOP)
            timer = threading.Timer(after_s, signal_all, (running, signal.SIGCONT))
            timer.start()
            try:
                yield
            finally:
                timer.cancel()

    return around


def outranked(count: int, nice: int) -> Around:
    """Burners beside a server that has been made nice to them."""

    @contextmanager
    def around(_url: str, pids: Sequence[int]) -> Iterator[None]:
        as_others(pids)
        for pid in pids:
            for thread in Path(f"/proc/{pid}/task").iterdir():
                os.setpriority(os.PRIO_PROCESS, int(thread.name), nice)
        with _programs(count, BURN):
            yield

    return around


def stopping(every_s: float, for_s: float) -> Around:
    """SIGSTOP and SIGCONT to all processes of the server, again and again."""

    @contextmanager
    def around(_url: str, pids: Sequence[int]) -> Iterator[None]:
        with _signalled(itertools.repeat((every_s, for_s)), pids, signal.SIGSTOP, signal.SIGCONT):
            yield

    return around


def stopping_workers(every_s: float, for_s: float) -> Around:
    """The same for all processes but the one that listens."""

    @contextmanager
    def around(_url: str, pids: Sequence[int]) -> Iterator[None]:
        with _signalled(itertools.repeat((every_s, for_s)), pids[1:], signal.SIGSTOP, signal.SIGCONT):
            yield

    return around


def frozen(every_s: float, for_s: float) -> Around:
    """A pause of the server's container, again and again, as a backup of its disk makes it."""

    @contextmanager
    def around(_url: str, pids: Sequence[int]) -> Iterator[None]:
        group = FREEZER / f"slipway-plant-{os.getpid()}"
        group.mkdir(exist_ok=True)
        _move(pids, group)
        state = group / "freezer.state"
        freeze, thaw = partial(state.write_text, "FROZEN"), partial(state.write_text, "THAWED")
        try:
            with _repeated(itertools.repeat((every_s, for_s)), freeze, thaw):
                yield
        finally:
            _move(pids, FREEZER)
            with suppress(OSError):
                group.rmdir()

    return around


def stopping_at_random(mean_s: float, low_s: float, high_s: float) -> Around:
    """The same at irregular times, ``mean_s`` apart, for times between the two."""
    at = random.Random(7)

    @contextmanager
    def around(_url: str, pids: Sequence[int]) -> Iterator[None]:
        stops = ((at.expovariate(1 / mean_s), at.uniform(low_s, high_s)) for _ in itertools.count())
        with _signalled(stops, pids, signal.SIGSTOP, signal.SIGCONT):
            yield

    return around


def one_core(core: int) -> Around:
    """The server on one core alone."""

    @contextmanager
    def around(_url: str, pids: Sequence[int]) -> Iterator[None]:
        pin(pids, core)
        yield

    return around


def crowded_client(count: int) -> Around:
    """Burners on core 0, where the plant's client has to run too, and the server on core 1."""

    @contextmanager
    def around(_url: str, pids: Sequence[int]) -> Iterator[None]:
        pin(pids, 1)
        with _programs(count, BURN) as running:
            pin(running, 0)
            yield

    return around


@contextmanager
def _programs(count: int, program: str) -> Iterator[list[int]]:
    """The processes of so many programs, until the block ends."""
    running = [subprocess.Popen([sys.executable, "-c", program]) for _ in range(count)]
    try:
        yield [one.pid for one in running]
    finally:
        for one in running:
            one.kill()
            one.wait()


@contextmanager
def _signalled(times: Iterable[tuple[float, float]], pids: Sequence[int], begin: int, end: int) -> Iterator[None]:
    """For each pair of ``times`` the signal ``begin`` after the first, and ``end`` after the second and when the block
    ends."""
    with _repeated(times, partial(signal_all, pids, begin), partial(signal_all, pids, end)):
        yield


@contextmanager
def _repeated(
    times: Iterable[tuple[float, float]], begin: Callable[[], object], end: Callable[[], object]
) -> Iterator[None]:
    """The same with calls."""
    over = threading.Event()

    def repeat() -> None:
        for every_s, for_s in times:
            if over.wait(every_s):
                return
            begin()
            time.sleep(for_s)  # the plant itself is a change of this length
            end()

    thread = threading.Thread(target=repeat)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        end()


def quota(cores: float, period_us: int = 100_000, burns: int = 0) -> Around:
    """A CPU quota for the processes of the server, in a control group of their own, with so many burners in it."""

    @contextmanager
    def around(_url: str, pids: Sequence[int]) -> Iterator[None]:
        # A group without a share of real-time takes no process that runs ahead of others.
        as_others(pids)
        with _programs(burns, BURN) as running, _group(f"slipway-plant-{os.getpid()}", cores, period_us) as group:
            _move([*pids, *running], group)
            try:
                yield
            finally:
                _move([*pids, *running], CGROUP)

    return around


def pod_quota(cores: float) -> Around:
    """The same for a group around the server's own, which has no quota itself, as for a pod of containers."""

    @contextmanager
    def around(_url: str, pids: Sequence[int]) -> Iterator[None]:
        with _group(f"slipway-plant-{os.getpid()}", cores, 100_000) as pod:
            own = pod / "server"
            own.mkdir(exist_ok=True)
            _move(pids, own)
            try:
                yield
            finally:
                _move(pids, CGROUP)
                with suppress(OSError):
                    own.rmdir()

    return around


def client_quota(cores: float) -> Around:
    """A CPU quota for what starts with ``IN_GROUP``."""

    @contextmanager
    def around(_url: str, _pids: Sequence[int]) -> Iterator[None]:
        with _group(CLIENTS, cores, 100_000):
            yield

    return around


IN_GROUP = (
    "chrt", "--other", "0", "sh", "-c", f'echo $$ > {CGROUP}/{CLIENTS}/cgroup.procs; exec "$@"', "sh",
)  # fmt: skip
"""The start of a command that runs in the group of ``client_quota``."""


@contextmanager
def _group(name: str, cores: float, period_us: int) -> Iterator[Path]:
    group = CGROUP / name
    group.mkdir(exist_ok=True)
    try:
        (group / "cpu.cfs_period_us").write_text(str(period_us))
        (group / "cpu.cfs_quota_us").write_text(str(int(cores * period_us)))
        yield group
    finally:
        with suppress(OSError):
            group.rmdir()


def _move(pids: Sequence[int], group: Path) -> None:
    as_others(pids)  # a group without a budget for real time takes no other
    for pid in pids:
        with suppress(ProcessLookupError):
            (group / "cgroup.procs").write_text(str(pid))


def proxied(kind: str, value: float) -> Around:
    """A proxy that limits bytes per second (``rate``), or adds seconds to each way (``delay``)."""

    @contextmanager
    def around(url: str, _pids: Sequence[int]) -> Iterator[str]:
        with child_server("tests.benchmarks.bench.plants.slow_proxy", url, kind, str(value)) as address:
            yield address

    return around


@contextmanager
def other_client(url: str, body: Path, rate: float, at_once: int) -> Iterator[None]:
    """A second client with a load of its own: so many requests at once, ``rate`` times a second."""
    command = [sys.executable, "-m", "tests.benchmarks.bench.plants.other_client", url, str(body)]
    command += [str(rate), str(at_once)]
    running = subprocess.Popen(command, cwd=ROOT)
    try:
        yield
    finally:
        running.kill()
        running.wait()


def pin(pids: Sequence[int], core: int) -> None:
    """Let all threads of these processes, and those that they start later, run on one core alone."""
    for pid in pids:
        with suppress(OSError):
            for thread in Path(f"/proc/{pid}/task").iterdir():
                with suppress(OSError):
                    os.sched_setaffinity(int(thread.name), {core})


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
