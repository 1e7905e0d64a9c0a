"""``bench explain``: the verdict on a recorded run, and with ``--confirm`` the experiments that prove it."""

from __future__ import annotations

import argparse
import functools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from .. import arguments
from ..errors import Unusable
from ..exits import OK
from ..experiments import abilities, confirm, forecasting
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
--confirm sends the recorded load again for 90 s at most. Blocks of three kinds alternate: the unchanged load, the load
with one change that has an effect only if the cause is true, and a placebo. A cause is proven if the confidence
interval of the effect excludes "no effect", the effect lies within its forecast, and it exceeds that of the placebo.
For changes inside of Slipway, start the server with --slowdowns. All changes are undone, also after Ctrl-C."""


def add(commands: arguments.Subparsers[argparse.ArgumentParser]) -> None:
    command = arguments.add_described(
        commands, "explain", "the causes of a run's latency, and with --confirm their proof", EPILOG
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


def run(args: argparse.Namespace, _argv: Sequence[str]) -> int:
    result, columns = record.read(args.record)
    if result.verdict is None:
        raise Unusable(f"{str(args.record)!r} has no verdict: measure again with this version of bench")
    if args.confirm:
        result = confirmed(result, columns)
        record.write(args.record, result, columns)
        page.write([args.record], args.record.with_suffix(".html"))
    found = result.verdict
    assert found is not None
    arguments.print_result(args, found, lambda: print(*lines(found), sep="\n"))
    return OK


def confirmed(result: RunRecord, columns: Columns) -> RunRecord:
    """The record with its verdict after experiments on the running server; unchanged without a verdict.

    Raises Unusable if the server cannot be reached, or if the record's command cannot be repeated.
    """
    if result.verdict is None:
        return result
    trial = _trial(result, columns)
    with arguments.progress(trial.config.total_s) as watch:
        return replace(result, verdict=confirm.confirm(result.verdict, trial, watch, arguments.say))


def _trial(result: RunRecord, columns: Columns) -> Trial:
    config = again.config(result, confirm.BLOCK_S, warmup_s=confirm.WARMUP_S)
    if config.endpoint is None:
        probe.reach(config.target)
    measured: Measured | None = None
    try:
        measured = forecasting.measured(result, columns)
    except NoForecast as error:
        arguments.say(f"this server cannot be simulated: {error}")
    changeable = abilities.of_record(result, columns)
    subject = replace(
        changeable.subject,
        rate_per_s=config.rate_per_s,
        slows=can_slow(config.target),
    )
    rows = subject.rows
    bodies = Bodies()
    if rows:
        repeat = functools.partial(again.config, result, confirm.BLOCK_S)
        bodies = Bodies(lambda: repeat(binary=True).payload, lambda: repeat(rows=max(rows // 2, 1)).payload)
    return Trial(config, subject, bodies, measured, changeable.pids)


def lines(conclusion: Verdict) -> list[str]:
    """The verdict as text."""
    output = []
    for number, cause in enumerate(conclusion.causes, 1):
        output.append(f"{number}. {verdict.TITLES[cause.name]} ({verdict.CONFIDENCE_WORDS[cause.confidence]})")
        output += [f"     {one}" for one in cause.evidence]
        output.append(f"   do     {cause.do}")
        output.append(f"   gain   {verdict.gain_in_words(cause.gain)}")
        output.append(f"   {cause.prove_label}  {cause.prove}")
    return output + ([f"ruled out: {', '.join(conclusion.ruled_out)}"] if conclusion.ruled_out else [])
