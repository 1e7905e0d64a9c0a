"""``bench compare``: two servers in turn, or two records of runs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .. import arguments, compare, objective, record, sweep
from ..errors import Unusable
from ..exits import INVALID, OK
from ..ladder import ATTEMPTS
from ..load.measurements import Outcome
from ..run import Plan, execute

BLOCK_S = 5.0


def add(commands: arguments.Subparsers[argparse.ArgumentParser]) -> None:
    command = commands.add_parser(
        "compare", help="is B faster or slower than A? two URLs (loaded in turn), or two results of bench run"
    )
    command.add_argument("url", metavar="A")
    command.add_argument("other", metavar="B")
    arguments.add_body(command)
    load = command.add_mutually_exclusive_group()
    load.add_argument("--rate", type=arguments.positive, metavar="R", help="requests/s, whatever the server does")
    load.add_argument("--users", type=arguments.count, metavar="N", help="callers that wait for each answer")
    command.add_argument("--pairs", type=arguments.count, default=10, metavar="N", help="of blocks (default: 10)")
    command.add_argument("--percentile", default="p99", help="compared (default: p99, or the gate's)")
    command.add_argument("--margin", type=arguments.percent, default=0.02, help="too small to matter (default: 2%%)")
    command.add_argument("--gate", metavar="p99:+5%", help="exit with 1 when B is slower than that")
    arguments.add_arrivals(command)
    arguments.add_conditions(command, BLOCK_S, 1.0)
    arguments.add_output(command)
    command.set_defaults(execute=run)


def run(asked: argparse.Namespace, given: Sequence[str]) -> int:
    arguments.check_output(asked.output)
    gate = compare.gate(asked.gate) if asked.gate is not None else None
    q = gate.quantile if gate is not None else objective.quantile(asked.percentile)
    files = [Path(one) for one in (asked.url, asked.other) if one.endswith(".json")]
    if len(files) == 1:
        raise Unusable("compare two URLs or two results, not one of each: what was measured then is not measured now")
    found = _of_files(files, q, asked.margin) if files else _of_servers(asked, given, q)
    if asked.output is not None:
        sweep.write_json(asked.output, found)
    if asked.json or not sys.stdout.isatty():
        sys.stdout.write(sweep.to_json(found).decode())
    else:
        print(compare.summary(found))
    if gate is not None and compare.failed(found, gate):
        arguments.say(f"gate {asked.gate} failed: {compare.summary(found)}")
        return INVALID
    return OK


def _of_files(files: Sequence[Path], q: float, margin: float) -> compare.Comparison:
    a_ns, b_ns = (_latency_ns(path) for path in files)
    return compare.of_records(q, a_ns, b_ns, margin)


def _latency_ns(path: Path) -> NDArray[np.int64]:
    found, columns = record.read(path)
    if not found["validity"]["ok"]:
        raise Unusable(
            f"{str(path)!r} is an invalid run ({found['validity']['reasons'][0]}): there is nothing to compare"
        )
    counted = record.measured(columns, record.repeats_of(found)) & np.isin(
        columns["outcome"], (Outcome.OK, Outcome.TIMEOUT)
    )
    return (columns["last_byte_ns"] - columns["due_ns"])[counted]


def _of_servers(asked: argparse.Namespace, given: Sequence[str], q: float) -> compare.Comparison:
    if asked.rate is None and asked.users is None and asked.arrivals is None:
        raise Unusable("two servers are compared under a load: give --rate or --users")
    plans = {}
    for side, url in (("A", asked.url), ("B", asked.other)):
        asked.url = url
        one = replace(arguments.plan(asked, given, BLOCK_S), calibrate=False)
        plans[side] = replace(one, objective=objective.Objective(q, one.timeout_s * 1e3))
    values: dict[str, list[float]] = {"A": [], "B": []}
    with arguments.progress(plans["A"].total_s) as watch:
        for number, side in enumerate(compare.order(asked.pairs)):
            plan = replace(plans[side], seed=asked.seed + number // 2)  # both blocks of a pair see the same arrivals
            values[side].append(_block_ms(plan, q, watch))
            arguments.say(f"block {number + 1} of {2 * asked.pairs}: {side}, {values[side][-1]:,.2f} ms")
    return compare.of_pairs(q, values["A"], values["B"], asked.margin)


def _block_ms(plan: Plan, q: float, watch: arguments.Watches) -> float:
    for _ in range(ATTEMPTS):
        result, _columns = execute(plan, watch())
        if result.partial:
            raise KeyboardInterrupt
        if result.latency.corrected is not None:
            found = result.latency.corrected[objective.percentile_name(q)]
            if found.value_ms is None:
                raise Unusable(f"{found.samples} answers a block are too few for this percentile: raise --duration")
            return found.value_ms
    raise Unusable(f"a block was invalid {ATTEMPTS} times: {result.validity.reasons[0]}")
