"""``bench whatif``: the forecast for a change of a recorded run, without any load."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from .. import arguments
from ..errors import Unusable
from ..exits import INVALID, OK
from ..experiments import forecasting, sweep
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

The server's own queue is simulated on the recorded arrivals. A forecast is refused, with the reason, where the
simulation does not reproduce the run itself, or where the change leads to what was not measured. Exit status: 0 a
forecast, 1 no forecast, 2 wrong usage."""


def add(commands: arguments.Subparsers[argparse.ArgumentParser]) -> None:
    command = commands.add_parser(
        "whatif",
        help="forecast the latency after a change, from a result of run",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
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
    """Add the flags that name what else was measured: the artifact's candidates, and other runs."""
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


def change_of(asked: argparse.Namespace) -> Change:
    """The change that the flags describe. Raises Unusable."""
    if (asked.candidate is None) != (asked.artifact is None):
        raise Unusable("--candidate NAME and --artifact FOLDER need each other")
    if asked.candidate is not None and asked.compute is not None:
        raise Unusable("a candidate has its own time: leave out --compute, or --candidate")
    try:
        found = changes.parse(
            asked.set,
            rate=asked.rate,
            compute=asked.compute,
            extra_us=asked.extra_us or 0,
            cache=asked.cache,
            binary=asked.payload == "binary",
        )
    except ValueError as error:
        raise Unusable(str(error)) from error
    if asked.candidate is not None:
        found = forecasting.candidate(asked.artifact, asked.candidate).joined(found)
    if found == Change():
        raise Unusable("a forecast needs a change: pass --set NAME=VALUE, --rate x2, or another of whatif --help")
    return found


def run(asked: argparse.Namespace, _given: Sequence[str]) -> int:
    arguments.check_output(asked.output, asked.record)
    change = change_of(asked)
    try:
        found = forecasting.of_file(asked.record, change, asked.also)
    except NoForecast as why:
        if arguments.prints_json(asked):
            sys.stdout.write(sweep.to_json({"change": change.words, "no_forecast": str(why)}).decode())
        arguments.say(f"no forecast: {why}")
        return INVALID
    if asked.output is not None:
        sweep.write_json(asked.output, found)
    if arguments.prints_json(asked):
        sys.stdout.write(sweep.to_json(found).decode())
    else:
        for line in lines(found):
            print(line)
    return OK


def lines(found: Forecast) -> list[str]:
    """The forecast as text."""
    text = [found.words]
    for name, one in found.predictions.items():
        text.append(
            f"  {name}  {one.base_ms:,.2f} -> {one.ms:,.2f} ms [{one.low_ms:,.2f}, {one.high_ms:,.2f}], "
            f"x{one.ratio:.2f} [{one.low:.2f}, {one.high:.2f}]"
        )
    replayed = ", ".join(f"{name} x{ratio:.2f}" for name, ratio in found.replayed.items())
    text.append(f"  the simulation of the run itself: {replayed} of what was measured; load then {found.load:.0%}")
    text.append(f"  {found.checked} earlier verifications are in the interval")
    return [*text, *(f"  note: {one}" for one in found.notes)]
