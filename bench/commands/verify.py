"""``bench verify``: a forecast against the observation, old and new in turn, written into a log beside the record."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from .. import arguments
from ..errors import Unusable
from ..exits import INVALID, OK
from ..experiments import abilities, forecasting, verify
from ..explain.changes import Change
from ..explain.workload import NoForecast
from ..load.payload_set import PayloadSet
from ..result import record, verifications
from ..result.verifications import Verification
from . import again, whatif

BLOCK_S = 5.0
ROUNDS = 4
EPILOG = """\
examples:
  python -m bench verify run.json --extra-us 500                       (a server with --slowdowns)
  python -m bench verify run.json --rate x1.5
  python -m bench verify run.json --set max_batch_size=8 --server http://127.0.0.1:8081

The recorded load is sent again, without and with the change in turn. A change of the server needs a second server with
it, except --extra-us and max_queue_delay_us, which a server with --slowdowns changes itself for the time of a block.
Exit status: 0 the forecast held, 1 it did not, or there is none, 2 wrong usage."""


def add(commands: arguments.Subparsers[argparse.ArgumentParser]) -> None:
    command = arguments.add_described(
        commands, "verify", "try a change, and hold its forecast against what is observed", EPILOG
    )
    command.add_argument("record", type=Path, metavar="RECORD.json")
    whatif.add_change(command)
    command.add_argument("--server", metavar="URL", help="a server with the change (default: the recorded one)")
    command.add_argument("--block", type=arguments.positive, default=BLOCK_S, metavar="S", help="seconds of a block")
    command.add_argument(
        "--rounds",
        type=arguments.count,
        default=ROUNDS,
        metavar="N",
        help="blocks of each side at least; more while the observed p99 is uncertain",
    )
    arguments.add_output(command)
    command.set_defaults(execute=run)


def run(asked: argparse.Namespace, _given: Sequence[str]) -> int:
    arguments.check_output(asked.output, asked.record)
    change = whatif.change_of(asked)
    try:
        seen = _verify(asked, change)
    except NoForecast as why:
        arguments.say(f"no forecast: {why}")
        return INVALID
    verifications.append(asked.record, seen)
    arguments.give(asked, seen, lambda: print(*lines(seen), sep="\n"))
    return OK if seen.held else INVALID


def _verify(asked: argparse.Namespace, change: Change) -> Verification:
    found, columns = record.read(asked.record)
    base = forecasting.measured(found, columns)
    others = [forecasting.measured(*record.read(one)) for one in asked.also]
    told = forecasting.of_measured(asked.record, base, change, others)
    config = again.config(found, asked.block)
    other = verify.Other(asked.server, _binary(found, asked.block) if change.binary else None)
    sides = verify.variants(config, change, other, base.layout.max_delay_ns // 1_000)
    created = datetime.now(UTC).isoformat(timespec="seconds")
    with arguments.progress(config.total_s) as watch:
        return verify.verify(told, base.workload, sides, asked.rounds, watch, created)


def _binary(found: record.RunRecord, block_s: float) -> PayloadSet:
    if not abilities.generated_rows(found):
        raise Unusable("binary bodies need a generated payload: the record's command names files")
    return again.config(found, block_s, binary=True).payload


def lines(seen: Verification) -> list[str]:
    """The verification as text."""
    text = [seen.change]
    for name, told in seen.forecast.items():
        one = seen.observed[name]
        text.append(
            f"  {name}  forecast x{told.value:.2f} [{told.low:.2f}, {told.high:.2f}], observed x{one.value:.2f} "
            f"[{one.low:.2f}, {one.high:.2f}]"
        )
    return [*text, f"  the forecast {'held' if seen.held else 'did not hold'}"]
