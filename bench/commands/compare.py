"""``bench compare``: two servers in turn, or two records of runs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .. import arguments
from ..errors import Unusable
from ..exits import INTERRUPTED, INVALID, OK
from ..experiments import compare, sweep
from ..experiments.ladder import ATTEMPTS
from ..experiments.run import Plan, execute
from ..load.measurements import Outcome
from ..report import junit
from ..result import objective, record

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
    command.add_argument("--junit", type=Path, metavar="FILE.xml", help="write what the gate said here, for CI")
    arguments.add_arrivals(command)
    arguments.add_conditions(command, BLOCK_S, 1.0)
    arguments.add_output(command)
    command.set_defaults(execute=run)


def run(asked: argparse.Namespace, given: Sequence[str]) -> int:
    arguments.check_output(asked.output)
    arguments.check_directory(asked.junit)
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
    if asked.junit is not None:
        junit.write(asked.junit, f"bench compare {asked.url} {asked.other}", [_check(found, gate, asked.gate)])
    if found.partial:
        return INTERRUPTED
    if gate is not None and compare.failed(found, gate):
        arguments.say(f"gate {asked.gate} failed: {compare.summary(found)}")
        return INVALID
    return OK


def _check(found: compare.Comparison, gate: compare.Gate | None, text: str | None) -> junit.Check:
    told = compare.summary(found)
    if gate is None or found.partial:
        return junit.Check("B against A", skipped=f"{'no gate was given' if gate is None else 'interrupted'}; {told}")
    return junit.Check(f"gate {text}", told if compare.failed(found, gate) else None)


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
        place = argparse.Namespace(**{**vars(asked), "url": url})
        one = replace(arguments.plan(place, given, BLOCK_S), calibrate=False, look=False)
        plans[side] = replace(one, objective=objective.Objective(q, one.timeout_s * 1e3))
    found: list[dict[str, float]] = []
    partial = False
    with arguments.progress(plans["A"].total_s) as watch:
        try:
            for number, sides in enumerate(compare.order(asked.pairs)):
                # Both blocks of a pair see the same arrivals.
                pair = {side: _block_ms(replace(plans[side], seed=asked.seed + number), q, watch) for side in sides}
                known = {side: ms for side, ms in pair.items() if ms is not None}
                shown = ", ".join(
                    f"{side} {ms:,.2f} ms" if ms is not None else f"{side} -" for side, ms in pair.items()
                )
                arguments.say(f"pair {number + 1} of {asked.pairs}: {shown}")
                if len(known) == len(pair):
                    found.append(known)
        except (KeyboardInterrupt, Unusable) as why:
            if not found:
                raise
            partial = True
            arguments.ended_early(why, "only the pairs until then are compared")
    if not found:
        raise Unusable("the load generator was the limit in every pair: give it a core of its own, or lower --rate")
    a_ms, b_ms = ([pair[side] for pair in found] for side in "AB")
    return replace(compare.of_pairs(q, a_ms, b_ms, asked.margin), partial=partial)


def _block_ms(plan: Plan, q: float, watch: arguments.Watches) -> float | None:
    """The percentile of one block; None where the load generator was the limit as often as it was tried: what that
    would say of the server is nothing, and it is no reason to throw the other pairs away."""
    for _ in range(ATTEMPTS):
        result, _columns = execute(plan, watch())
        if result.partial:
            raise KeyboardInterrupt
        if result.latency.corrected is not None:
            found = result.latency.corrected[objective.percentile_name(q)]
            if found.value_ms is None:
                raise Unusable(f"{found.samples} answers a block are too few for this percentile: raise --duration")
            return found.value_ms
    if result.validity.generator_bound:
        return None
    raise Unusable(f"a block was invalid {ATTEMPTS} times: {result.validity.reasons[0]}")
