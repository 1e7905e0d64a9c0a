"""Rounds: each server in turn runs alone on its cores, is checked for correct answers, and is loaded."""

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

PORT_COUNT = 6
EXIT_WAIT_S = 1.0
"""How long to wait for the server to end after failed requests. If it ends, its exit status is the reported error."""
SHARE_OF_SLOWEST = 0.5
"""The rate of the open loop, as a share of the lowest rate of a peer in the closed loop. All peers can sustain it."""
ONE, MANY, OPEN = "one", "many", "open"
CALLERS = 32
CLOSED = (Load(ONE, users=1), Load(MANY, users=CALLERS))
Say = Callable[[str], None]
Keep = Callable[[RoundResult], None]


@dataclass(frozen=True, slots=True)
class ComparisonConfig:
    """What ``bench peers`` measures, and on which cores.

    ``pythons``: the interpreter of each peer, by name. ``rounds``: repetitions of all loads. ``seconds``: duration of a
    load. ``rate_per_s``: of the open loop; None to choose it by ``SHARE_OF_SLOWEST``. ``folder``: for models and
    working folders. ``measure``: sends a load. ``warmup_s``: duration of the unmeasured load before the others.
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
    """Measure all models in turn. ``keep`` gets the result of each round at its end. ``loads`` is filled, by model.

    Raises KeyboardInterrupt on Ctrl-C.
    """
    with generator_on(config.generator_core):
        for model in config.models:
            written_model = workload.write(model, config.folder)
            rate, peers = config.rate_per_s, config.peers
            if rate is None:
                say(f"{model.name}: finding a rate that each peer can sustain")
                rate, peers = _choose_rate(config, written_model, keep, say)
            loads[model.name] = (*CLOSED, Load(OPEN, rate_per_s=rate)) if rate is not None else CLOSED
            for number in range(config.rounds):
                # The order alternates, so that a drift of the machine affects the first and the last peer alike.
                for peer in peers if number % 2 == 0 else reversed(peers):
                    result = _round(config, peer, written_model, loads[model.name], number)
                    keep(result)
                    say(_progress_line(result))


@contextlib.contextmanager
def generator_on(core: int) -> Iterator[None]:
    """Pin this process, and the load generators that it starts, to ``core`` during the block."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def choose_cores(requested: Sequence[int] | None) -> tuple[tuple[int, ...], int]:
    """The cores of the servers (``requested``, else the first one), and the core of the generator (the last other one).

    Raises Unusable if a requested core is not available, or if none is left for the generator.
    """
    available = sorted(os.sched_getaffinity(0))
    server_cores = tuple(requested) if requested else tuple(available[:1])
    if not set(server_cores) <= set(available):
        raise Unusable(f"there are no cores {sorted(set(server_cores) - set(available))}: choose from {available}")
    remaining = [one for one in available if one not in server_cores]
    if not remaining:
        raise Unusable(f"the generator needs a core of its own: leave one of {available} out of --server-cores")
    return server_cores, remaining[-1]


def _choose_rate(
    config: ComparisonConfig, model: workload.WrittenModel, keep: Keep, say: Say
) -> tuple[float | None, tuple[Peer, ...]]:
    """The rate of the open loop, and the peers that can be measured.

    The rate is None if no peer served the closed loop without failures. ``keep`` gets the results of the other peers,
    with the error and without figures.
    """
    rates, usable = [], []
    for peer in config.peers:
        result = _round(config, peer, model, CLOSED[1:], 0)
        say(_progress_line(result))
        if result.trouble is not None:
            keep(replace(result, figures={}))
            continue
        usable.append(peer)
        if not result.figures[MANY].failures:
            rates.append(result.figures[MANY].rate_per_s)
    # Two significant digits, for a readable rate.
    return (float(f"{SHARE_OF_SLOWEST * min(rates):.2g}") if rates else None), tuple(usable)


def _round(
    config: ComparisonConfig, peer: Peer, model: workload.WrittenModel, loads: Sequence[Load], number: int
) -> RoundResult:
    """Start the peer, check its answers, send the loads and stop it. A failure is part of the result."""
    folder = config.folder / peer.name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    python, cores = config.pythons[peer.name], len(config.server_cores)
    deployment = Deployment(folder, python, free_ports(PORT_COUNT), model.file, cores)
    figures: dict[str, Figure] = {}
    start_s = None
    try:
        for name, text in peer.files(deployment).items():
            (folder / name).write_text(text, encoding="utf-8")
        for command in peer.prepare(deployment):
            _run_tool(command, folder, peer, config)
        with running(peer.command(deployment), folder, peer.environment, config.server_cores) as server:
            server.wait_until_ready(deployment.port, peer.ready, peer.ready_within_s)
            workload.check(peer, deployment, model.expected)
            start_s = time.perf_counter() - server.began_s
            server.check_private()
            _measure_loads(config, peer, deployment, loads, number, server, figures)
            workload.check(peer, deployment, model.expected)
    except Failed as error:
        return RoundResult(peer.name, model.name, number, start_s, figures, str(error))
    return RoundResult(peer.name, model.name, number, start_s, figures)


def _measure_loads(
    config: ComparisonConfig,
    peer: Peer,
    deployment: Deployment,
    loads: Sequence[Load],
    number: int,
    server: Running,
    figures: dict[str, Figure],
) -> None:
    """Send the loads and fill ``figures`` by load. Raises Failed if the server ends; that load then has no figure."""
    url, body = peer.url(deployment), workload.payload(peer)
    config.measure(url, body, CLOSED[-1], config.warmup_s, config.seed)
    for load in loads:
        server.check()
        start_s, cpu_before = time.perf_counter(), _cpu_time(config, server)
        figure = config.measure(url, body, load, config.seconds, config.seed + number)
        server.check(EXIT_WAIT_S if figure.failures else 0.0)
        cpu_after, duration_s = _cpu_time(config, server), time.perf_counter() - start_s
        interference_problems = interference.problems(cpu_before, cpu_after, duration_s, config.server_cores, "server")
        figure = replace(figure, problems=(*figure.problems, *interference_problems))
        figures[load.name] = figure


def _cpu_time(config: ComparisonConfig, server: Running) -> interference.CpuTime:
    return interference.CpuTime(interference.busy_s(config.server_cores), server.cpu_s())


def _run_tool(command: Sequence[str], folder: Path, peer: Peer, config: ComparisonConfig) -> None:
    """Run a command that prepares the peer. Raises Failed if it fails, or does not end in time."""
    with running(command, folder, peer.environment, config.server_cores) as tool:
        try:
            status = tool.process.wait(peer.ready_within_s)
        except subprocess.TimeoutExpired as error:
            raise Failed(f"{command[0]} did not end after {peer.ready_within_s:g} s") from error
        if status:
            raise Failed(f"{command[0]} ended with status {status}; {tool.log_end()}")


def _progress_line(result: RoundResult) -> str:
    parts = [
        f"{name} {figure.rate_per_s:,.0f}/s" + (" (invalid)" if figure.problems else "")
        for name, figure in result.figures.items()
    ]
    if result.trouble is not None:
        parts.append(result.trouble)
    return f"{result.model} {result.peer}: {', '.join(parts)}"
