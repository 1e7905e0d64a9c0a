"""The fleet: one load from several processes, each with a share of it, all starting at the same instant.

They are processes and not threads, because the interpreter reads responses and uses one core. They are spawned, never
forked, so that no state of this process is shared. The start is an instant of the machine's monotonic clock.
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
from . import engine, event_loop
from .callers import Callers
from .measurements import COLUMNS
from .raw_run import RawRun, Snapshot, Watch
from .schedule import Schedule
from .shot import Shot

LEAD_NS = 100_000_000
"""From the last process that is ready to the start of the load."""
REPORT_EVERY_S = 0.2
END_S = 5.0
"""Time for a process to end after its result."""
READY = "ready"
FAST, LOCUST = "fast", "locust"
ENGINES = (FAST, LOCUST)
_REPOSITORY = Path(__file__).resolve().parents[2]


class Process(Protocol):
    """A process of the fleet, of multiprocessing or of subprocess."""

    def terminate(self) -> None: ...

    def kill(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Member:
    """A process, the pipe to it, and ``ended``, which waits for its end and returns False if it still runs."""

    process: Process
    pipe: Connection
    ended: Callable[[], bool]


def run(
    shot: Shot, what: Schedule | Callers, processes: int, watch: Watch | None = None, engine_name: str = FAST
) -> RawRun:
    """Send a load from ``processes`` processes; rows are numbered as if one had sent them all.

    Ctrl-C ends all early with the rows so far. The locust engine always has processes of its own, because locust
    patches sockets and threads of the process that imports it. Raises Unusable without locust, and when a process ends
    without a result.
    """
    if engine_name == LOCUST and importlib.util.find_spec("locust") is None:
        raise Unusable('the locust engine needs locust: pip install -c constraints.txt -e ".[bench]"')
    if processes == 1 and engine_name == FAST:
        return engine.run(shot, what, watch)
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
        stdout=sys.stderr,  # standard output is for the result
        cwd=_REPOSITORY,
        start_new_session=True,  # Ctrl-C reaches this process only, which forwards it
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
    """One run of all shares. Of the generator's limits the worst share counts, because each share has one core."""
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
        # An upper bound: peaks need not coincide.
        peak_in_flight=sum(one.peak_in_flight for one in parts),
        cap_hits=sum(one.cap_hits for one in parts),
        exhausted=any(one.exhausted for one in parts),
        interrupted=any(one.interrupted for one in parts),
        abandoned=sum(one.abandoned for one in parts),
        start_ns=min(one.start_ns for one in parts),
        connections=sum(one.connections for one in parts),
        run_delay=max((one.run_delay for one in parts if one.run_delay is not None), default=None),
        resent=sum(known) if (known := [one.resent for one in parts if one.resent is not None]) else None,
    )


def _part(whole: int, part: int, parts: int) -> int:
    return max(1, whole // parts + (part < whole % parts))


def _conduct(connections: Sequence[Connection], interrupted: Event, watch: Watch | None) -> list[RawRun]:
    """Wait until all are ready, send the start, add up their snapshots, and return their results."""
    results: dict[Connection, RawRun] = {}
    snapshots: dict[Connection, Snapshot] = {}
    ready = 0
    while len(results) < len(connections):
        for connection in wait([one for one in connections if one not in results]):
            assert isinstance(connection, Connection)
            message = _receive(connection, interrupted)
            if isinstance(message, RawRun):
                results[connection] = message
            elif isinstance(message, Snapshot):
                snapshots[connection] = message
                if watch is not None:
                    watch(_sum(list(snapshots.values())))
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
            raise KeyboardInterrupt from None  # before the load began
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
    """Ctrl-C ends the processes early, which then send their rows. The event is set on Ctrl-C."""
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


def reporting(send: Watch) -> Watch:
    """A watch that sends a snapshot every ``REPORT_EVERY_S``."""
    next_s = 0.0

    def watch(now: Snapshot) -> None:
        nonlocal next_s
        if now.elapsed_s >= next_s:
            next_s = now.elapsed_s + REPORT_EVERY_S
            send(now)

    return watch


def _member(connection: Connection, shot: Shot, what: Schedule | Callers) -> None:
    """The program of a spawned process. A terminal sends Ctrl-C to all processes; here only SIGTERM ends the load."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    async def gate() -> int:
        connection.send(READY)
        start_ns: int = await asyncio.get_running_loop().run_in_executor(None, connection.recv)
        return start_ns

    result = event_loop.run(engine.send(shot, what, reporting(connection.send), gate=gate))
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the result must still be sent
    connection.send(result)
    connection.close()
