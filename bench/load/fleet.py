"""The fleet: one load from several processes, each with its share, all starting at the same instant.

Processes and not threads: reading replies is work of the interpreter, and one interpreter works on one core. They are
spawned, never forked, so that a share behaves as a program of its own, and agree on the start by the machine's
monotonic clock.
"""

from __future__ import annotations

import asyncio
import importlib.util
import multiprocessing
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from threading import Event
from types import FrameType
from typing import Protocol

import numpy as np

from ..errors import Unusable
from . import engine
from . import event_loop as looping
from .engine import RawRun, Shot, Snapshot, Watch
from .measurements import COLUMNS
from .schedule import Schedule

LEAD_NS = 100_000_000
TELL_EVERY_S = 0.2
END_S = 5.0
READY = "ready"
FAST, LOCUST = "fast", "locust"
ENGINES = (FAST, LOCUST)
_REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Callers:
    """A closed loop: so many users for so long."""

    users: int
    duration_s: float

    def share(self, part: int, parts: int) -> Callers:
        return Callers(self.users // parts + (part < self.users % parts), self.duration_s)


class Process(Protocol):
    """A process of the fleet: multiprocessing's, or a program's."""

    def terminate(self) -> None: ...

    def kill(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Member:
    """A process, the pipe to it, and how to wait for its end (False: it is still there)."""

    process: Process
    pipe: Connection
    ended: Callable[[], bool]


def run(
    shot: Shot, what: Schedule | Callers, processes: int, watch: Watch | None = None, engine_name: str = FAST
) -> RawRun:
    """Send it from so many processes; the rows of all, numbered as in one. Ctrl-C ends all early with what there is.

    Locust's are always processes of their own: it patches sockets and threads of the one that imports it. Raises
    Unusable when a process ends without a result.
    """
    if engine_name == LOCUST and importlib.util.find_spec("locust") is None:
        raise Unusable('the locust engine needs locust: pip install -c constraints.txt -e ".[bench]"')
    if processes == 1 and engine_name == FAST:
        return looping.run(_loop(shot, what, watch))
    start = _start_locust if engine_name == LOCUST else _start
    members: list[Member] = []
    try:
        for number in range(processes):
            own = replace(shot, max_connections=_part(shot.max_connections, number, processes))
            members.append(start(own, what.share(number, processes)))
        with _forwarding([one.process for one in members]) as interrupted:
            return merge(_conduct([one.pipe for one in members], interrupted, watch), what)
    finally:
        for one in members:
            one.pipe.close()
            if not one.ended():
                one.process.kill()


def _start(shot: Shot, what: Schedule | Callers) -> Member:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_member, args=(theirs, shot, what), daemon=True)
    process.start()
    theirs.close()

    def ended() -> bool:
        process.join(timeout=END_S)
        return not process.is_alive()

    return Member(process, ours, ended)


def _start_locust(shot: Shot, what: Schedule | Callers) -> Member:
    ours, theirs = multiprocessing.Pipe()
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.load.locust_member", str(theirs.fileno())],
        pass_fds=[theirs.fileno()],
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,  # our own output is the result
        cwd=_REPOSITORY,
        start_new_session=True,  # Ctrl-C is for us to pass on
    )
    theirs.close()
    ours.send((shot, what))

    def ended() -> bool:
        try:
            process.wait(timeout=END_S)
        except subprocess.TimeoutExpired:
            return False
        return True

    return Member(process, ours, ended)


def merge(parts: Sequence[RawRun], what: Schedule | Callers) -> RawRun:
    """The rows of all shares in one; of what limits a generator, the worst share's, since each has one core."""
    columns = {name: np.concatenate([one.columns[name] for one in parts]) for name in COLUMNS}
    is_open = isinstance(what, Schedule)
    order = np.argsort(columns["index" if is_open else "due_ns"], kind="stable")
    columns = {name: column[order] for name, column in columns.items()}
    if not is_open:
        columns["index"] = np.arange(len(order), dtype=np.int64)
    failures = sorted((item for one in parts for item in one.failures.items()), key=lambda item: -item[1].index)
    return RawRun(
        columns=columns,
        failures=dict(failures),
        scheduled_ns=what.offsets_ns if isinstance(what, Schedule) else parts[0].scheduled_ns,
        generator_cpu=max(one.generator_cpu for one in parts),
        # Peaks need not coincide: an upper bound.
        peak_in_flight=sum(one.peak_in_flight for one in parts),
        cap_hits=sum(one.cap_hits for one in parts),
        exhausted=any(one.exhausted for one in parts),
        interrupted=any(one.interrupted for one in parts),
        abandoned=sum(one.abandoned for one in parts),
        start_ns=min(one.start_ns for one in parts),
    )


def _loop(
    shot: Shot, what: Schedule | Callers, watch: Watch | None, gate: engine.Gate | None = None
) -> looping.Load[RawRun]:
    if isinstance(what, Schedule):
        return engine.open_loop(shot, what, watch, gate=gate)
    return engine.closed_loop(shot, what.users, what.duration_s, watch, gate=gate)


def _part(whole: int, part: int, parts: int) -> int:
    return max(1, whole // parts + (part < whole % parts))


def _conduct(connections: Sequence[Connection], interrupted: Event, watch: Watch | None) -> list[RawRun]:
    """Wait for all, say when to start, add up what they tell, collect what they bring."""
    results: dict[Connection, RawRun] = {}
    told: dict[Connection, Snapshot] = {}
    ready = 0
    while len(results) < len(connections):
        for connection in wait([one for one in connections if one not in results]):
            assert isinstance(connection, Connection)
            message = _receive(connection, interrupted)
            if isinstance(message, RawRun):
                results[connection] = message
            elif isinstance(message, Snapshot):
                told[connection] = message
                if watch is not None:
                    watch(_sum(list(told.values())))
            else:
                ready += 1
                if ready == len(connections):
                    start_ns = time.perf_counter_ns() + LEAD_NS
                    for one in connections:
                        one.send(start_ns)
    return [results[one] for one in connections]


def _receive(connection: Connection, interrupted: Event) -> object:
    try:
        return connection.recv()
    except (EOFError, OSError) as error:
        if interrupted.is_set():
            raise KeyboardInterrupt from None  # before it had begun
        raise Unusable("a load process ended without a result: see the lines above") from error


def _sum(parts: Sequence[Snapshot]) -> Snapshot:
    return Snapshot(
        max(one.elapsed_s for one in parts),
        sum(one.ended for one in parts),
        sum(one.failed for one in parts),
        sum(one.in_flight for one in parts),
    )


@contextmanager
def _forwarding(processes: Sequence[Process]) -> Iterator[Event]:
    """Ctrl-C asks the members to end; they tell what they have. The event is set when it came."""
    interrupted = Event()

    def forward(_number: int, _frame: FrameType | None) -> None:
        interrupted.set()
        for process in processes:
            process.terminate()

    before = signal.signal(signal.SIGINT, forward)
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, before)


def _member(connection: Connection, shot: Shot, what: Schedule | Callers) -> None:
    """A process of the fleet. A terminal sends Ctrl-C to all processes; only the first one's word counts here."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    next_s = 0.0

    async def gate() -> int:
        connection.send(READY)
        start_ns: int = await asyncio.get_running_loop().run_in_executor(None, connection.recv)
        return start_ns

    def watch(now: Snapshot) -> None:
        nonlocal next_s
        if now.elapsed_s >= next_s:
            next_s = now.elapsed_s + TELL_EVERY_S
            connection.send(now)

    result = looping.run(_loop(shot, what, watch, gate))
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # what there is must still be told
    connection.send(result)
    connection.close()
