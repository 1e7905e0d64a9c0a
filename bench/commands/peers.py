"""``bench peers``: Slipway and other model servers, with the same models, on one machine, in one run."""

from __future__ import annotations

import argparse
import contextlib
import shlex
import signal
import tempfile
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

from rich.console import Console

from .. import arguments
from ..errors import Unusable
from ..exits import INTERRUPTED, INVALID, OK
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
    command.add_argument("names", nargs="*", metavar="PEER", help=f"from {NAMES} (default: all; slipway always)")
    command.add_argument("--models", nargs="+", default=[], metavar="MODEL", help=f"from {MODELS} (default: all)")
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
        type=_parse_cores,
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


def run(args: argparse.Namespace, argv: Sequence[str]) -> int:
    arguments.check_output(args.output)
    arguments.check_directory(args.markdown)
    peers = chosen(args.names)
    measure = loads.measure(args.generator)
    server_cores, generator_core = rounds.choose_cores(args.server_cores)
    with _sigterm_as_interrupt(), tempfile.TemporaryDirectory(prefix="peers-") as folder:
        pythons, missing = _environments(peers, args.cache, args.install)
        config = rounds.ComparisonConfig(
            peers=tuple(peer for peer in peers if peer.name in pythons),
            pythons=pythons,
            models=_choose_models(args.models),
            rounds=args.rounds,
            seconds=args.seconds,
            rate_per_s=args.rate,
            server_cores=server_cores,
            generator_core=generator_core,
            folder=Path(folder),
            seed=args.seed,
            measure=measure,
            warmup_s=args.warmup,
        )
        comparison = _measure(config, peers, missing, args.generator, shlex.join(["python", "-m", "bench", *argv]))
    if args.markdown is not None:
        args.markdown.write_text(show.markdown(comparison), encoding="utf-8")
    arguments.give(args, comparison, lambda: show.show(comparison, Console()))
    return _status(comparison)


def chosen(names: Sequence[str]) -> tuple[Peer, ...]:
    """The peers with these names, or all without names, in the order of the table. The first one is always included.

    Raises Unusable for an unknown name.
    """
    unknown = set(names) - {peer.name for peer in table.PEERS}
    if unknown:
        raise Unusable(f"unknown peer {', '.join(sorted(unknown))}: choose from {NAMES}")
    return tuple(peer for index, peer in enumerate(table.PEERS) if index == 0 or not names or peer.name in names)


def _choose_models(names: Sequence[str]) -> tuple[workload.Model, ...]:
    unknown = set(names) - {model.name for model in workload.MODELS}
    if unknown:
        raise Unusable(f"unknown model {', '.join(sorted(unknown))}: choose from {MODELS}")
    return tuple(model for model in workload.MODELS if not names or model.name in names)


def _environments(peers: Sequence[Peer], cache: Path, install: bool) -> tuple[dict[str, Path], dict[str, str]]:
    """Both by name: the interpreters of the usable peers, and the reasons why the others cannot be used."""
    pythons, reasons = {}, {}
    for peer in peers:
        try:
            pythons[peer.name] = environments.python_of(peer, cache, install, arguments.say)
        except environments.Missing as error:
            reasons[peer.name] = str(error)
            arguments.say(f"{peer.title}: {error}")
    return pythons, reasons


def _measure(
    config: rounds.ComparisonConfig, peers: Sequence[Peer], reasons: dict[str, str], generator: str, command: str
) -> figures.Comparison:
    results: list[figures.RoundResult] = []
    infos = tuple(_peer_info(one, reasons.get(one.name)) for one in peers)
    loads_by_model: dict[str, tuple[figures.Load, ...]] = {}
    created, env, partial = datetime.now(UTC).isoformat(timespec="seconds"), environment.describe(), False
    try:
        rounds.run(config, loads_by_model, results.append, arguments.say)
    except KeyboardInterrupt:
        if not results:
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
        loads=loads_by_model,
        peers=infos,
        visits=tuple(results),
        summaries=_summaries(results, config, loads_by_model),
        partial=partial,
    )


def _summaries(
    results: Sequence[figures.RoundResult],
    config: rounds.ComparisonConfig,
    loads_by_model: dict[str, tuple[figures.Load, ...]],
) -> dict[str, dict[str, dict[str, figures.Summary]]]:
    first = table.PEERS[0].name
    return {
        model: {
            peer.name: {
                load.name: figures.summarize(results, peer.name, first, model, load.name) for load in loads_of_model
            }
            for peer in config.peers
        }
        for model, loads_of_model in loads_by_model.items()
    }


def _peer_info(peer: Peer, missing: str | None) -> figures.PeerInfo:
    version = environments.version(peer) or environment.describe().commit or "this checkout"
    return figures.PeerInfo(peer.name, peer.title, version, peer.settings, peer.advice, missing)


def _status(comparison: figures.Comparison) -> int:
    if comparison.partial:
        arguments.say("interrupted: the result is partial")
        return INTERRUPTED
    by_load = [loads for by_peer in comparison.summaries.values() for loads in by_peer.values()]
    has_problem = any(summary.problem for summaries in by_load for summary in summaries.values())
    return INVALID if has_problem or any(peer.missing for peer in comparison.peers) else OK


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


def _parse_cores(text: str) -> tuple[int, ...]:
    return tuple(int(one) for one in text.split(","))
