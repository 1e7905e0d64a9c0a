"""``bench whatif``: forecast the latency of a recorded run after a change, without any load."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from .. import arguments
from ..errors import Unusable
from ..exits import INVALID, OK
from ..experiments import forecasting
from ..explain import changes
from ..explain.changes import Change
from ..explain.forecast import Forecast
from ..explain.workload import NoForecast

EPILOG = """\
examples:
  python -m bench whatif run.json --set max_batch_size=16 --set max_queue_delay_us=0
  python -m bench whatif run.json --rate x2
  python -m bench whatif run.json --set instances=2 --also two.json      (two.json: a run of such a server)
  python -m bench whatif run.json --payload binary --also binary.json    (binary.json: a run with --binary)
  python -m bench whatif run.json --candidate static_int8 --artifact model/

The server's queue is simulated with the recorded arrivals. A forecast is refused, with the reason, if the simulation
does not reproduce the recorded run, or if the records lack a measurement that the change needs. Exit status:
0 a forecast, 1 no forecast, 2 wrong usage."""


def add(commands: arguments.Subparsers[argparse.ArgumentParser]) -> None:
    command = arguments.add_described(
        commands, "whatif", "forecast the latency after a change, from a result of run", EPILOG
    )
    command.add_argument("record", type=Path, metavar="RECORD.json")
    add_change(command)
    arguments.add_output(command)
    command.set_defaults(execute=run)


def add_change(command: argparse.ArgumentParser) -> None:
    """Add the flags that describe a change."""
    names = ", ".join(changes.SETTINGS)
    command.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help=f"a setting of the server: {names}"
    )
    command.add_argument("--rate", metavar="x2", help="times the recorded rate")
    command.add_argument("--compute", metavar="x0.5", help="times the time of a run of the model")
    command.add_argument("--extra-us", type=arguments.count, metavar="N", help="microseconds more in each run")
    command.add_argument("--payload", choices=("binary",), help="binary tensors instead of JSON")
    command.add_argument("--cache", type=float, metavar="0.3", help="the share of requests that a cache answers")
    command.add_argument("--candidate", metavar="NAME", help="another candidate of --artifact, such as int8")
    add_measured(command)


def add_measured(command: argparse.ArgumentParser) -> None:
    """Add the flags that name further measurements: the artifact with its candidates, and other runs."""
    command.add_argument(
        "--artifact", type=Path, metavar="FOLDER", help="the served artifact, for its other candidates"
    )
    command.add_argument(
        "--also",
        type=Path,
        action="append",
        default=[],
        metavar="RECORD.json",
        help="another run of this server: with more instances, another load, or binary bodies",
    )


def change_of(args: argparse.Namespace) -> Change:
    """The change that the flags describe. Raises Unusable without a change, and for flags that contradict."""
    if (args.candidate is None) != (args.artifact is None):
        raise Unusable("--candidate NAME and --artifact FOLDER need each other")
    if args.candidate is not None and args.compute is not None:
        raise Unusable("--candidate already sets the compute time: leave out --compute, or --candidate")
    try:
        change = changes.parse(
            args.set,
            rate=args.rate,
            compute=args.compute,
            extra_us=args.extra_us or 0,
            cache=args.cache,
            binary=args.payload == "binary",
        )
    except ValueError as error:
        raise Unusable(str(error)) from error
    if args.candidate is not None:
        change = forecasting.candidate(args.artifact, args.candidate).joined(change)
    if change == Change():
        raise Unusable("a forecast needs a change: pass --set NAME=VALUE, --rate x2, or another of whatif --help")
    return change


def run(args: argparse.Namespace, _argv: Sequence[str]) -> int:
    arguments.check_output(args.output, args.record)
    change = change_of(args)
    try:
        forecast = forecasting.of_file(args.record, change, args.also)
    except NoForecast as error:
        arguments.print_result(args, {"change": change.words, "no_forecast": str(error)}, lambda: None)
        arguments.say(f"no forecast: {error}")
        return INVALID
    arguments.give(args, forecast, lambda: print(*lines(forecast), sep="\n"))
    return OK


def lines(forecast: Forecast) -> list[str]:
    """The forecast as text."""
    output = [forecast.words]
    for name, p in forecast.predictions.items():
        output.append(
            f"  {name}  {p.base_ms:,.2f} -> {p.ms:,.2f} ms [{p.low_ms:,.2f}, {p.high_ms:,.2f}], "
            f"x{p.ratio:.2f} [{p.low:.2f}, {p.high:.2f}]"
        )
    replayed = ", ".join(f"{name} x{ratio:.2f}" for name, ratio in forecast.replayed.items())
    output.append(f"  the simulation of the run itself: {replayed} of what was measured; load then {forecast.load:.0%}")
    output.append(f"  {forecast.checked} earlier verifications are in the interval")
    return [*output, *(f"  note: {note}" for note in forecast.notes)]
