"""``bench peers``: Slipway and other model servers, with the same models, on one machine, in one run."""

from __future__ import annotations

import argparse
import contextlib
import shlex
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

from rich.console import Console

from .. import arguments
from ..errors import Unusable
from ..exits import INTERRUPTED, INVALID, OK
from ..experiments import sweep
from ..experiments.recording import TOOL
from ..observe import environment
from ..peers import environments, figures, loads, rounds, show, table, workload
from ..peers.peer import Peer

ROUNDS, SECONDS, WARMUP_S = 5, 5.0, 1.0
NAMES = ", ".join(one.name for one in table.PEERS)
MODELS = ", ".join(one.name for one in workload.MODELS)


def add(commands: arguments.Subparsers[argparse.ArgumentParser]) -> None:
    command = commands.add_parser(
        "peers", help="compare Slipway with other model servers on this machine (docs/peers.md)"
    )
    command.add_argument("names", nargs="*", metavar="PEER", help=f"of {NAMES} (default: all; slipway always)")
    command.add_argument("--models", nargs="+", default=[], metavar="MODEL", help=f"of {MODELS} (default: all)")
    command.add_argument("--install", action="store_true", help="create missing environments")
    command.add_argument(
        "--cache", type=Path, default=environments.DEFAULT_CACHE, help="folder of environments (default: %(default)s)"
    )
    command.add_argument(
        "--rounds", type=arguments.count, default=ROUNDS, metavar="N", help="rounds (default: %(default)s)"
    )
    command.add_argument(
        "--seconds",
        type=arguments.positive,
        default=SECONDS,
        metavar="S",
        help="seconds of each load (default: %(default)s)",
    )
    command.add_argument(
        "--warmup",
        type=arguments.positive,
        default=WARMUP_S,
        metavar="S",
        help="seconds of warm-up before the loads (default: %(default)s)",
    )
    command.add_argument(
        "--rate",
        type=arguments.positive,
        metavar="R",
        help="rate of the open loop (default: half of the slowest peer's maximum)",
    )
    command.add_argument(
        "--server-cores",
        type=_cores,
        metavar="0,1",
        help="cores of each server (default: the first; the generator has the last)",
    )
    command.add_argument(
        "--generator",
        choices=(loads.WRK, loads.ENGINE),
        default=loads.WRK,
        help="generator of closed loops (default: wrk)",
    )
    command.add_argument("--seed", type=int, default=1, help="seed of arrivals (default: %(default)s)")
    command.add_argument("--markdown", type=Path, metavar="FILE.md", help="also write the tables here")
    arguments.add_output(command)
    command.set_defaults(execute=run)


def run(asked: argparse.Namespace, given: Sequence[str]) -> int:
    arguments.check_output(asked.output)
    arguments.check_directory(asked.markdown)
    peers = chosen(asked.names)
    measure = loads.measure(asked.generator)
    server_cores, generator_core = rounds.choose_cores(asked.server_cores)
    with _sigterm_as_interrupt(), tempfile.TemporaryDirectory(prefix="peers-") as folder:
        pythons, missing = _environments(peers, asked.cache, asked.install)
        config = rounds.ComparisonConfig(
            peers=tuple(one for one in peers if one.name in pythons),
            pythons=pythons,
            models=_models(asked.models),
            rounds=asked.rounds,
            seconds=asked.seconds,
            rate_per_s=asked.rate,
            server_cores=server_cores,
            generator_core=generator_core,
            folder=Path(folder),
            seed=asked.seed,
            measure=measure,
            warmup_s=asked.warmup,
        )
        found = _measure(config, peers, missing, asked.generator, shlex.join(["python", "-m", "bench", *given]))
    if asked.output is not None:
        sweep.write_json(asked.output, found)
    if asked.markdown is not None:
        asked.markdown.write_text(show.markdown(found), encoding="utf-8")
    if asked.json or not sys.stdout.isatty():
        sys.stdout.write(sweep.to_json(found).decode())
    else:
        show.show(found, Console())
    return _status(found)


def chosen(names: Sequence[str]) -> tuple[Peer, ...]:
    """The peers with these names (all without a name), in the order of the table; the first always. Raises Unusable."""
    unknown = set(names) - {one.name for one in table.PEERS}
    if unknown:
        raise Unusable(f"unknown peer {', '.join(sorted(unknown))}: choose of {NAMES}")
    return tuple(one for at, one in enumerate(table.PEERS) if at == 0 or not names or one.name in names)


def _models(names: Sequence[str]) -> tuple[workload.Model, ...]:
    unknown = set(names) - {one.name for one in workload.MODELS}
    if unknown:
        raise Unusable(f"unknown model {', '.join(sorted(unknown))}: choose of {MODELS}")
    return tuple(one for one in workload.MODELS if not names or one.name in names)


def _environments(peers: Sequence[Peer], cache: Path, install: bool) -> tuple[dict[str, Path], dict[str, str]]:
    """The interpreters of the usable peers, and the reason for each unusable one."""
    pythons, missing = {}, {}
    for peer in peers:
        try:
            pythons[peer.name] = environments.python_of(peer, cache, install, arguments.say)
        except environments.Missing as error:
            missing[peer.name] = str(error)
            arguments.say(f"{peer.title}: {error}")
    return pythons, missing


def _measure(
    config: rounds.ComparisonConfig, peers: Sequence[Peer], missing: dict[str, str], generator: str, command: str
) -> figures.Comparison:
    visits: list[figures.RoundResult] = []
    infos = tuple(_info(one, missing.get(one.name)) for one in peers)
    of_models: dict[str, tuple[figures.Load, ...]] = {}
    created, env, partial = datetime.now(UTC).isoformat(timespec="seconds"), environment.describe(), False
    try:
        rounds.run(config, of_models, visits.append, arguments.say)
    except KeyboardInterrupt:
        if not visits:
            raise
        partial = True
    return figures.Comparison(
        created=created,
        command=command,
        tool=TOOL,
        env=env,
        generator=generator,
        server_cores=config.server_cores,
        generator_core=config.generator_core,
        rounds=config.rounds,
        seconds=config.seconds,
        models={one.name: one.about for one in config.models},
        loads=of_models,
        peers=infos,
        visits=tuple(visits),
        summaries=_summaries(visits, config, of_models),
        partial=partial,
    )


def _summaries(
    visits: Sequence[figures.RoundResult],
    config: rounds.ComparisonConfig,
    of_models: dict[str, tuple[figures.Load, ...]],
) -> dict[str, dict[str, dict[str, figures.Summary]]]:
    first = table.PEERS[0].name
    return {
        model: {
            peer.name: {load.name: figures.summarize(visits, peer.name, first, model, load.name) for load in of_model}
            for peer in config.peers
        }
        for model, of_model in of_models.items()
    }


def _info(peer: Peer, missing: str | None) -> figures.PeerInfo:
    version = environments.version(peer) or environment.describe().commit or "this checkout"
    return figures.PeerInfo(peer.name, peer.title, version, peer.settings, peer.advice, missing)


def _status(found: figures.Comparison) -> int:
    if found.partial:
        arguments.say("interrupted: the result is partial")
        return INTERRUPTED
    problems = [one.problem for by in found.summaries.values() for of in by.values() for one in of.values()]
    return INVALID if any(problems) or any(one.missing for one in found.peers) else OK


@contextlib.contextmanager
def _sigterm_as_interrupt() -> Iterator[None]:
    """SIGTERM raises KeyboardInterrupt, so that all servers are stopped."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _cores(text: str) -> tuple[int, ...]:
    return tuple(int(one) for one in text.split(","))
