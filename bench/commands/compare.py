"""``bench compare``: two servers loaded in turn, or the records of two runs."""

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
from ..experiments.config import RunConfig
from ..experiments.ladder import ATTEMPTS
from ..experiments.run import execute
from ..load.measurements import Outcome
from ..report import checks, junit
from ..result import objective, record
from ..result.statistics import percentile_name

BLOCK_S = 5.0
SAME_RATE = 0.02
"""Loads whose rates differ by more are not the same load."""


def add(commands: arguments.Subparsers[argparse.ArgumentParser]) -> None:
    command = commands.add_parser(
        "compare", help="whether B is faster or slower than A: two URLs (loaded in turn), or two results of bench run"
    )
    command.add_argument("url", metavar="A")
    command.add_argument("other", metavar="B")
    arguments.add_body(command)
    load = command.add_mutually_exclusive_group()
    load.add_argument("--rate", type=arguments.positive, metavar="R", help="requests/s of an open loop")
    load.add_argument("--users", type=arguments.count, metavar="N", help="callers of a closed loop")
    command.add_argument("--pairs", type=arguments.count, default=10, metavar="N", help="pairs of blocks (default: 10)")
    command.add_argument("--percentile", default="p99", help="compared percentile (default: p99, or the gate's)")
    command.add_argument(
        "--margin", type=arguments.percent, default=0.02, help="a difference below it does not matter (default: 2%%)"
    )
    command.add_argument("--gate", metavar="p99:+5%", help="exit with 1 if B is slower than that")
    command.add_argument("--junit", type=Path, metavar="FILE.xml", help="write the outcome of the gate here, for CI")
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
        raise Unusable("compare needs two URLs or two results, not one of each")
    found = _of_files(files, q, asked.margin) if files else _of_servers(asked, given, q)
    if asked.output is not None:
        sweep.write_json(asked.output, found)
    if arguments.prints_json(asked):
        sys.stdout.write(sweep.to_json(found).decode())
    else:
        print(compare.summary(found))
    if asked.junit is not None:
        junit.write(asked.junit, f"bench compare {asked.url} {asked.other}", [_check(found, gate, asked.gate)])
    if found.partial:
        return INTERRUPTED
    for note in found.notes:
        arguments.say(note)
    if gate is not None and not compare.holds(found, gate):
        state = "failed" if compare.failed(found, gate) else "undecided: more or longer blocks are needed"
        arguments.say(f"gate {asked.gate} {state}: {compare.summary(found)}")
        return INVALID
    return OK


def _check(found: compare.Comparison, gate: compare.Gate | None, text: str | None) -> checks.Check:
    summary = compare.summary(found)
    if gate is None or found.partial:
        return checks.Check("B against A", skipped=f"{'no gate' if gate is None else 'interrupted'}; {summary}")
    state = "" if compare.failed(found, gate) else "undecided; "
    return checks.Check(f"gate {text}", None if compare.holds(found, gate) else f"{state}{summary}")


def _of_files(files: Sequence[Path], q: float, margin: float) -> compare.Comparison:
    (a, a_ns), (b, b_ns) = (_latency_ns(path, q) for path in files)
    return replace(compare.of_records(q, a_ns, b_ns, margin), notes=_differences(a, b))


def _differences(a: record.RunRecord, b: record.RunRecord) -> tuple[str, ...]:
    """The differences between two loads that make their latency hard to compare."""
    notes = []
    rates = [one.load.rate_per_s or one.throughput.sent_per_s for one in (a, b)]
    if max(rates) > (1 + SAME_RATE) * min(rates):
        notes.append(f"the loads differ: A got {rates[0]:,.1f}/s, B {rates[1]:,.1f}/s")
    if a.load.mode != b.load.mode:
        notes.append(f"the loads differ: A is {a.load.mode} loop, B is {b.load.mode} loop")
    if a.load.payload.sha256 != b.load.payload.sha256:
        notes.append("the payloads of A and B differ")
    return tuple(notes)


def _latency_ns(path: Path, q: float) -> tuple[record.RunRecord, NDArray[np.int64]]:
    found, columns = record.read(path)
    if found.latency.corrected is None or percentile_name(q) in (found.latency.untrusted or {}):
        raise Unusable(
            f"{str(path)!r} is an invalid run ({found.validity.reasons[0]}): measure it again before you compare it"
        )
    failed = sum(one.share for one in found.errors)
    if failed > objective.MAX_ERROR_SHARE:
        kinds = ", ".join(f"{one.kind}: {one.count}" for one in found.errors)
        raise Unusable(
            f"{failed:.1%} of the requests in {str(path)!r} failed ({kinds}): its latency compares to nothing"
        )
    counted = record.measured(columns, found.window.repeats) & np.isin(
        columns["outcome"], (Outcome.OK, Outcome.TIMEOUT)
    )
    return found, (columns["last_byte_ns"] - columns["due_ns"])[counted]


def _of_servers(asked: argparse.Namespace, given: Sequence[str], q: float) -> compare.Comparison:
    if asked.rate is None and asked.users is None and asked.arrivals is None:
        raise Unusable("a comparison of two servers needs a load: pass --rate or --users")
    configs = {}
    for side, url in (("A", asked.url), ("B", asked.other)):
        place = argparse.Namespace(**{**vars(asked), "url": url})
        one = replace(arguments.run_config(place, given, BLOCK_S), calibrate=False, observe=False)
        configs[side] = replace(one, objective=objective.Objective(q, one.timeout_s * 1e3))
    found: list[dict[str, float]] = []
    partial = False
    with arguments.progress(configs["A"].total_s) as watch:
        try:
            for number, sides in enumerate(compare.order(asked.pairs)):
                # Both blocks of a pair get the same arrivals.
                pair = {side: _block_ms(replace(configs[side], seed=asked.seed + number), q, watch) for side in sides}
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
            arguments.ended_early(why, "the comparison is of the pairs until then")
    if not found:
        raise Unusable("the load generator was the limit in every pair: lower --rate, or give it a core of its own")
    a_ms, b_ms = ([pair[side] for pair in found] for side in "AB")
    return replace(compare.of_pairs(q, a_ms, b_ms, asked.margin), partial=partial)


def _block_ms(config: RunConfig, q: float, watch: arguments.Watches) -> float | None:
    """The percentile of one block, in ms; None if the load generator was the limit in all ``ATTEMPTS``.

    Such a block says nothing about the server, and the other pairs stay usable. Raises Unusable for a block that is
    invalid for another reason, or too short for the percentile.
    """
    for _ in range(ATTEMPTS):
        result, _columns = execute(config, watch())
        if result.partial:
            raise KeyboardInterrupt
        if result.latency.corrected is not None:
            found = result.latency.corrected.get(percentile_name(q))
            if found is None:
                continue  # the generator was late at this percentile
            failed = sum(one.share for one in result.errors)
            if failed > objective.MAX_ERROR_SHARE:
                first = result.errors[0]
                raise Unusable(
                    f"{failed:.1%} of the requests to {config.target.url} failed ({first.kind}: {first.message})"
                )
            if found.value_ms is None:
                raise Unusable(f"{found.samples} responses per block are too few for this percentile: raise --duration")
            return found.value_ms
    if result.validity.generator_bound:
        return None
    raise Unusable(f"a block was invalid {ATTEMPTS} times: {result.validity.reasons[0]}")
