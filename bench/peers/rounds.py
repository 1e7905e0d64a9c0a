"""The rounds: each server in turn, alone on its cores, asked for the right answer and then loaded."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tests.benchmarks.server.processes import free_port

from ..errors import Unusable
from . import interference, workload
from .figures import Figure, Load, Visit
from .loads import Measure
from .peer import Peer, Place, Row
from .process import Failed, Running, running

PORTS = 6
DYING_S = 1.0
"""A server that answers no more may still be on its way out, which is the better reason to tell."""
SHARE_OF_SLOWEST = 0.5
"""The open loop offers everybody half of what the slowest reached: a rate that each can sustain."""
ONE, MANY, OPEN = "one", "many", "open"
CALLERS = 32
CLOSED = (Load(ONE, users=1), Load(MANY, users=CALLERS))
Say = Callable[[str], None]
Keep = Callable[[Visit], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure, and where. ``pythons``: of each peer that takes part, by name. ``rate_per_s``: of the open loop;
    None for half of what the slowest reaches."""

    peers: tuple[Peer, ...]
    pythons: dict[str, Path]
    models: tuple[workload.Model, ...]
    rounds: int
    seconds: float
    rate_per_s: float | None
    server_cores: tuple[int, ...]
    generator_core: int
    folder: Path
    seed: int
    measure: Measure
    warmup_s: float


def run(plan: Plan, loads: dict[str, tuple[Load, ...]], keep: Keep, say: Say) -> None:
    """All models in turn; ``keep`` gets every visit as it ends, and ``loads`` what each model is loaded with.

    Raises KeyboardInterrupt.
    """
    with generator_on(plan.generator_core):
        for model in plan.models:
            file = plan.folder / f"{model.name}.onnx"
            model.write(file)
            _model(plan, model, file, loads, keep, say)


@contextlib.contextmanager
def generator_on(core: int) -> Iterator[None]:
    """This process, and the load programs that it starts, on a core of their own."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def choose_cores(given: Sequence[int] | None) -> tuple[tuple[int, ...], int]:
    """Those of the servers (the first, unless given), and that of the generator: the last. Raises Unusable."""
    here = sorted(os.sched_getaffinity(0))
    cores = tuple(given) if given else tuple(here[:1])
    if not set(cores) <= set(here):
        raise Unusable(f"the cores here are {here}: there are no {sorted(set(cores) - set(here))}")
    left = [one for one in here if one not in cores]
    if not left:
        raise Unusable(f"servers and load need cores of their own, and there are only {here}")
    return cores, left[-1]


def _model(
    plan: Plan, model: workload.Model, file: Path, all_loads: dict[str, tuple[Load, ...]], keep: Keep, say: Say
) -> None:
    right = workload.expected(file)
    loads: tuple[Load, ...] = CLOSED
    able = plan.peers
    rate = plan.rate_per_s
    if rate is None:
        say(f"{model.name}: what can each sustain?")
        rate, able = _survey(plan, model, file, right, keep, say)
    if rate is not None:
        loads = (*CLOSED, Load(OPEN, rate_per_s=rate))
    all_loads[model.name] = loads
    for number in range(plan.rounds):
        # Forwards and backwards in turn: a machine that drifts slows both ends alike.
        for peer in able if number % 2 == 0 else reversed(able):
            visit = _visit(plan, peer, model.name, file, right, loads, number)
            keep(visit)
            say(_line(visit))


def _survey(
    plan: Plan, model: workload.Model, file: Path, right: Row, keep: Keep, say: Say
) -> tuple[float | None, tuple[Peer, ...]]:
    """A rate that each can sustain, and who can be measured at all; the others' visits are kept as they are."""
    reached, able = [], []
    for peer in plan.peers:
        visit = _visit(plan, peer, model.name, file, right, CLOSED[1:], 0)
        say(_line(visit))
        if visit.trouble is not None:
            keep(replace(visit, figures={}))
            continue
        able.append(peer)
        if not visit.figures[MANY].failures:
            reached.append(visit.figures[MANY].rate_per_s)
    # Two digits: the rate is a choice, and no measurement.
    return (float(f"{SHARE_OF_SLOWEST * min(reached):.2g}") if reached else None), tuple(able)


def _visit(plan: Plan, peer: Peer, model: str, file: Path, right: Row, loads: Sequence[Load], number: int) -> Visit:
    folder = plan.folder / peer.name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    ports = tuple(_ports(PORTS))
    place = Place(folder, plan.pythons[peer.name], ports, file, len(plan.server_cores))
    figures: dict[str, Figure] = {}
    start_s = None
    try:
        for name, text in peer.files(place).items():
            (folder / name).write_text(text, encoding="utf-8")
        for command in peer.prepare(place):
            _prepare(command, folder, peer, plan)
        with running(peer.command(place), folder, peer.environment, plan.server_cores) as server:
            server.wait_until_ready(place.port, peer.ready, peer.ready_within_s)
            workload.check(peer, place, right)
            start_s = time.perf_counter() - server.began_s
            server.check_private()
            _load(plan, peer, place, loads, number, server, figures)
            workload.check(peer, place, right)
    except Failed as error:
        return Visit(peer.name, model, number, start_s, figures, str(error))
    return Visit(peer.name, model, number, start_s, figures)


def _load(
    plan: Plan,
    peer: Peer,
    place: Place,
    loads: Sequence[Load],
    number: int,
    server: Running,
    figures: dict[str, Figure],
) -> None:
    """Fills ``figures``. Raises Failed when the server dies; that load then has no figure."""
    url, body = peer.url(place), workload.payload(peer)
    plan.measure(url, body, CLOSED[-1], plan.warmup_s, plan.seed)
    for load in loads:
        server.check()
        began_s, before = time.perf_counter(), _busy(plan, server)
        found = plan.measure(url, body, load, plan.seconds, plan.seed + number)
        server.check(DYING_S if found.failures else 0.0)
        after, lasted_s = _busy(plan, server), time.perf_counter() - began_s
        noise = interference.problems(before, after, lasted_s, plan.server_cores, "server")
        found = replace(found, problems=(*found.problems, *noise))
        figures[load.name] = found


def _busy(plan: Plan, server: Running) -> interference.CpuTime:
    return interference.CpuTime(interference.busy_s(plan.server_cores), server.cpu_s())


def _prepare(command: Sequence[str], folder: Path, peer: Peer, plan: Plan) -> None:
    with running(command, folder, peer.environment, plan.server_cores) as tool:
        try:
            status = tool.process.wait(peer.ready_within_s)
        except subprocess.TimeoutExpired as error:
            raise Failed(f"{command[0]} did not end after {peer.ready_within_s:g} s") from error
        if status:
            raise Failed(f"{command[0]} ended with status {status}; {tool.last_words()}")


def _ports(count: int) -> list[int]:
    found: set[int] = set()
    while len(found) < count:
        found.add(free_port())
    return list(found)


def _line(visit: Visit) -> str:
    told = [
        f"{name} {one.rate_per_s:,.0f}/s" + (" (invalid)" if one.problems else "")
        for name, one in visit.figures.items()
    ]
    if visit.trouble is not None:
        told.append(visit.trouble)
    return f"{visit.model} {visit.peer}: {', '.join(told)}"
