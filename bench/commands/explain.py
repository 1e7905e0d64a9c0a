"""``bench explain``: the verdict on a recorded run, and with ``--confirm`` the experiments that prove it."""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from .. import arguments
from ..errors import Unusable
from ..exits import OK
from ..experiments import abilities, confirm, forecasting, sweep
from ..experiments.confirm import Bodies, Trial
from ..experiments.slowdown import can_slow
from ..explain import verdict
from ..explain.forecast import Measured
from ..explain.verdict import Verdict
from ..explain.workload import NoForecast
from ..load import probe
from ..report import page
from ..result import record
from ..result.record import RunRecord
from ..result.repeats import Columns
from . import again

EPILOG = """\
--confirm sends the recorded load again for 90 s at most, in blocks that take turns: as it was, with one change that
matters only if the cause is true, and with a placebo. A cause is proven if the effect excludes none, lies within its
forecast, and is larger than that of the placebo. For changes inside of Slipway, start the server with --slowdowns. All
changes are put back, also after Ctrl-C."""


def add(commands: arguments.Subparsers[argparse.ArgumentParser]) -> None:
    command = commands.add_parser(
        "explain",
        help="the causes of a run's latency, and with --confirm their proof",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("record", type=Path, metavar="RECORD.json")
    add_confirm(command)
    command.add_argument("--json", action="store_true", help="print the verdict as JSON (the default in a pipe)")
    command.set_defaults(execute=run)


def add_confirm(command: argparse.ArgumentParser) -> None:
    """Add ``--confirm``."""
    command.add_argument(
        "--confirm", action="store_true", help="try the experiment that proves the cause (90 s at most)"
    )


def run(asked: argparse.Namespace, _given: Sequence[str]) -> int:
    found, columns = record.read(asked.record)
    if found.verdict is None:
        raise Unusable(f"{str(asked.record)!r} has no verdict: measure again with this version of bench")
    if asked.confirm:
        found = confirmed(found, columns)
        record.write(asked.record, found, columns)
        page.write([asked.record], asked.record.with_suffix(".html"))
    assert found.verdict is not None
    if arguments.prints_json(asked):
        sys.stdout.write(sweep.to_json(found.verdict).decode())
    else:
        for line in lines(found.verdict):
            print(line)
    return OK


def confirmed(found: RunRecord, columns: Columns) -> RunRecord:
    """The record with its verdict after experiments on the running server. Raises Unusable if it cannot be loaded."""
    if found.verdict is None:
        return found
    trial = _trial(found, columns)
    with arguments.progress(trial.config.total_s) as watch:
        return replace(found, verdict=confirm.confirm(found.verdict, trial, watch, arguments.say))


def _trial(found: RunRecord, columns: Columns) -> Trial:
    config = again.config(found, confirm.BLOCK_S, warmup_s=confirm.WARMUP_S)
    if config.endpoint is None:
        probe.reach(config.target)
    measured: Measured | None = None
    try:
        measured = forecasting.measured(found, columns)
    except NoForecast as why:
        arguments.say(f"no simulation of this server: {why}")
    able = abilities.of_record(found, columns)
    subject = replace(
        able.subject,
        rate_per_s=config.rate_per_s,
        slows=can_slow(config.target),
    )
    rows = subject.rows
    bodies = Bodies()
    if rows:
        other = functools.partial(again.config, found, confirm.BLOCK_S)
        bodies = Bodies(lambda: other(binary=True).payload, lambda: other(rows=max(rows // 2, 1)).payload)
    return Trial(config, subject, bodies, measured, able.pids)


def lines(found: Verdict) -> list[str]:
    """The verdict as text."""
    text = []
    for number, cause in enumerate(found.causes, 1):
        text.append(f"{number}. {verdict.TITLES[cause.name]} ({verdict.CONFIDENCE_WORDS[cause.confidence]})")
        text += [f"     {one}" for one in cause.evidence]
        text.append(f"   do     {cause.do}")
        text.append(f"   gain   {verdict.gain_in_words(cause.gain)}")
        text.append(f"   {cause.prove_label}  {cause.prove}")
    return text + ([f"ruled out: {', '.join(found.ruled_out)}"] if found.ruled_out else [])
