"""Rounds: each server in turn runs alone on its cores, must give the expected answer, and is loaded."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import Unusable
from . import interference, workload
from .figures import Figure, Load, RoundResult
from .loads import Measure
from .peer import Deployment, Peer
from .process import Failed, Running, free_ports, running

PORTS = 6
ENDING_S = 1.0
"""Time for a server to end after failed requests: its exit status is then the reported error."""
SHARE_OF_SLOWEST = 0.5
"""The open loop's rate, as a share of the slowest peer's rate in the closed loop: each peer can sustain it."""
ONE, MANY, OPEN = "one", "many", "open"
CALLERS = 32
CLOSED = (Load(ONE, users=1), Load(MANY, users=CALLERS))
Say = Callable[[str], None]
Keep = Callable[[RoundResult], None]


@dataclass(frozen=True, slots=True)
class ComparisonConfig:
    """What ``bench peers`` measures, and on which cores.

    ``pythons``: the interpreter of each peer, by name. ``rounds``: repetitions of all loads. ``seconds``: length of a
    load. ``rate_per_s``: of the open loop; None for ``SHARE_OF_SLOWEST``. ``folder``: for models and working folders.
    ``measure``: sends a load. ``warmup_s``: length of the load before the first measured one.
    """

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


def run(config: ComparisonConfig, loads: dict[str, tuple[Load, ...]], keep: Keep, say: Say) -> None:
    """Measure all models in turn. ``keep`` gets each result as its round ends; ``loads`` is filled by model.

    Raises KeyboardInterrupt.
    """
    with generator_on(config.generator_core):
        for model in config.models:
            written = workload.write(model, config.folder)
            rate, peers = config.rate_per_s, config.peers
            if rate is None:
                say(f"{model.name}: finding a rate that each peer can sustain")
                rate, peers = _survey(config, written, keep, say)
            loads[model.name] = (*CLOSED, Load(OPEN, rate_per_s=rate)) if rate is not None else CLOSED
            for number in range(config.rounds):
                # The order alternates, so that a drift of the machine slows the first and the last peer alike.
                for peer in peers if number % 2 == 0 else reversed(peers):
                    result = _round(config, peer, written, loads[model.name], number)
                    keep(result)
                    say(_line(result))


@contextlib.contextmanager
def generator_on(core: int) -> Iterator[None]:
    """This process, and the load generators that it starts, run on ``core`` while the block runs."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def choose_cores(given: Sequence[int] | None) -> tuple[tuple[int, ...], int]:
    """The cores of the servers (``given``, else the first), and the core of the generator (the last of the others).

    Raises Unusable when a given core does not exist, or when none is left for the generator.
    """
    here = sorted(os.sched_getaffinity(0))
    cores = tuple(given) if given else tuple(here[:1])
    if not set(cores) <= set(here):
        raise Unusable(f"there are no cores {sorted(set(cores) - set(here))}: choose of {here}")
    left = [one for one in here if one not in cores]
    if not left:
        raise Unusable(f"servers and generator need cores of their own: leave one of {here} to the generator")
    return cores, left[-1]


def _survey(
    config: ComparisonConfig, model: workload.WrittenModel, keep: Keep, say: Say
) -> tuple[float | None, tuple[Peer, ...]]:
    """The open loop's rate (None if no peer served its load without failures), and the peers that can be measured.

    Results of the other peers go to ``keep``, with the error and without figures.
    """
    reached, able = [], []
    for peer in config.peers:
        result = _round(config, peer, model, CLOSED[1:], 0)
        say(_line(result))
        if result.trouble is not None:
            keep(replace(result, figures={}))
            continue
        able.append(peer)
        if not result.figures[MANY].failures:
            reached.append(result.figures[MANY].rate_per_s)
    # Two significant digits: the rate is chosen, and need not be exact.
    return (float(f"{SHARE_OF_SLOWEST * min(reached):.2g}") if reached else None), tuple(able)


def _round(
    config: ComparisonConfig, peer: Peer, model: workload.WrittenModel, loads: Sequence[Load], number: int
) -> RoundResult:
    folder = config.folder / peer.name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    python, cores = config.pythons[peer.name], len(config.server_cores)
    deployment = Deployment(folder, python, free_ports(PORTS), model.file, cores)
    figures: dict[str, Figure] = {}
    start_s = None
    try:
        for name, text in peer.files(deployment).items():
            (folder / name).write_text(text, encoding="utf-8")
        for command in peer.prepare(deployment):
            _prepare(command, folder, peer, config)
        with running(peer.command(deployment), folder, peer.environment, config.server_cores) as server:
            server.wait_until_ready(deployment.port, peer.ready, peer.ready_within_s)
            workload.check(peer, deployment, model.expected)
            start_s = time.perf_counter() - server.began_s
            server.check_private()
            _load(config, peer, deployment, loads, number, server, figures)
            workload.check(peer, deployment, model.expected)
    except Failed as error:
        return RoundResult(peer.name, model.name, number, start_s, figures, str(error))
    return RoundResult(peer.name, model.name, number, start_s, figures)


def _load(
    config: ComparisonConfig,
    peer: Peer,
    deployment: Deployment,
    loads: Sequence[Load],
    number: int,
    server: Running,
    figures: dict[str, Figure],
) -> None:
    """Send the loads and fill ``figures``. Raises Failed when the server ends; the load then has no figure."""
    url, body = peer.url(deployment), workload.payload(peer)
    config.measure(url, body, CLOSED[-1], config.warmup_s, config.seed)
    for load in loads:
        server.check()
        began_s, before = time.perf_counter(), _cpu_time(config, server)
        found = config.measure(url, body, load, config.seconds, config.seed + number)
        server.check(ENDING_S if found.failures else 0.0)
        after, lasted_s = _cpu_time(config, server), time.perf_counter() - began_s
        others = interference.problems(before, after, lasted_s, config.server_cores, "server")
        found = replace(found, problems=(*found.problems, *others))
        figures[load.name] = found


def _cpu_time(config: ComparisonConfig, server: Running) -> interference.CpuTime:
    return interference.CpuTime(interference.busy_s(config.server_cores), server.cpu_s())


def _prepare(command: Sequence[str], folder: Path, peer: Peer, config: ComparisonConfig) -> None:
    with running(command, folder, peer.environment, config.server_cores) as tool:
        try:
            status = tool.process.wait(peer.ready_within_s)
        except subprocess.TimeoutExpired as error:
            raise Failed(f"{command[0]} did not end after {peer.ready_within_s:g} s") from error
        if status:
            raise Failed(f"{command[0]} ended with status {status}; {tool.log_end()}")


def _line(result: RoundResult) -> str:
    parts = [
        f"{name} {one.rate_per_s:,.0f}/s" + (" (invalid)" if one.problems else "")
        for name, one in result.figures.items()
    ]
    if result.trouble is not None:
        parts.append(result.trouble)
    return f"{result.model} {result.peer}: {', '.join(parts)}"
