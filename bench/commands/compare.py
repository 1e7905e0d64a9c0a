"""``bench compare``: two servers loaded in turn, or the records of two runs."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .. import arguments
from ..errors import Unusable
from ..exits import INTERRUPTED, INVALID, OK
from ..experiments import compare
from ..experiments.config import RunConfig
from ..experiments.ladder import ATTEMPTS
from ..experiments.run import execute
from ..load.measurements import Outcome
from ..report import checks, junit
from ..result import objective, record
from ..result.statistics import percentile_name

BLOCK_S = 5.0
SAME_RATE = 0.02
"""Two records whose rates differ by more than this share get a note that their loads differ."""


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


def run(args: argparse.Namespace, argv: Sequence[str]) -> int:
    arguments.check_output(args.output)
    arguments.check_directory(args.junit)
    gate = compare.gate(args.gate) if args.gate is not None else None
    q = gate.quantile if gate is not None else objective.quantile(args.percentile)
    files = [Path(name) for name in (args.url, args.other) if name.endswith(".json")]
    if len(files) == 1:
        raise Unusable("compare got a URL and a result (.json): pass two URLs or two results")
    comparison = _of_files(files, q, args.margin) if files else _of_servers(args, argv, q)
    arguments.give(args, comparison, lambda: print(compare.summary(comparison)))
    if args.junit is not None:
        junit.write(args.junit, f"bench compare {args.url} {args.other}", [_check(comparison, gate, args.gate)])
    if comparison.partial:
        return INTERRUPTED
    for note in comparison.notes:
        arguments.say(note)
    if gate is not None and not compare.holds(comparison, gate):
        state = "failed" if compare.failed(comparison, gate) else "undecided: more or longer blocks are needed"
        arguments.say(f"gate {args.gate} {state}: {compare.summary(comparison)}")
        return INVALID
    return OK


def _check(comparison: compare.Comparison, gate: compare.Gate | None, gate_text: str | None) -> checks.Check:
    summary = compare.summary(comparison)
    if gate is None or comparison.partial:
        return checks.Check("B against A", skipped=f"{'no gate' if gate is None else 'interrupted'}; {summary}")
    state = "" if compare.failed(comparison, gate) else "undecided; "
    return checks.Check(f"gate {gate_text}", None if compare.holds(comparison, gate) else f"{state}{summary}")


def _of_files(files: Sequence[Path], q: float, margin: float) -> compare.Comparison:
    (a, a_ns), (b, b_ns) = (_latency_ns(path, q) for path in files)
    return replace(compare.of_records(q, a_ns, b_ns, margin), notes=_differences(a, b))


def _differences(a: record.RunRecord, b: record.RunRecord) -> tuple[str, ...]:
    """Notes on differences between two loads, which make their latencies hard to compare."""
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
    """A record, and the latencies in ns of its successful and timed-out requests, int64 [n].

    Raises Unusable for an invalid run, for a refused percentile ``q`` and for too many failed requests.
    """
    result, columns = record.read(path)
    if result.latency.corrected is None or percentile_name(q) in (result.latency.untrusted or {}):
        raise Unusable(
            f"{str(path)!r} is an invalid run ({result.validity.reasons[0]}): measure it again before you compare it"
        )
    failed = sum(one.share for one in result.errors)
    if failed > objective.MAX_ERROR_SHARE:
        kinds = ", ".join(f"{one.kind}: {one.count}" for one in result.errors)
        raise Unusable(
            f"{failed:.1%} of the requests in {str(path)!r} failed ({kinds}): mend the failures, and measure again"
        )
    counted = record.measured(columns, result.window.repeats) & np.isin(
        columns["outcome"], (Outcome.OK, Outcome.TIMEOUT)
    )
    return result, (columns["last_byte_ns"] - columns["due_ns"])[counted]


def _of_servers(args: argparse.Namespace, argv: Sequence[str], q: float) -> compare.Comparison:
    if args.rate is None and args.users is None and args.arrivals is None:
        raise Unusable("a comparison of two servers needs a load: pass --rate or --users")
    configs = {}
    for side, url in (("A", args.url), ("B", args.other)):
        side_args = argparse.Namespace(**{**vars(args), "url": url})
        config = replace(arguments.run_config(side_args, argv, BLOCK_S), calibrate=False, observe=False)
        configs[side] = replace(config, objective=objective.Objective(q, config.timeout_s * 1e3))
    pairs_ms: list[dict[str, float]] = []
    partial = False
    with arguments.progress(configs["A"].total_s) as watch:
        try:
            for index, order in enumerate(compare.order(args.pairs)):
                # Both blocks of a pair get the same arrivals.
                by_side = {side: _block_ms(replace(configs[side], seed=args.seed + index), q, watch) for side in order}
                valid = {side: ms for side, ms in by_side.items() if ms is not None}
                shown_ms = ", ".join(
                    f"{side} {ms:,.2f} ms" if ms is not None else f"{side} -" for side, ms in by_side.items()
                )
                arguments.say(f"pair {index + 1} of {args.pairs}: {shown_ms}")
                if len(valid) == len(by_side):
                    pairs_ms.append(valid)
        except (KeyboardInterrupt, Unusable) as error:
            if not pairs_ms:
                raise
            partial = True
            arguments.ended_early(error, "the comparison covers only the pairs measured so far")
    if not pairs_ms:
        raise Unusable("the load generator was the limit in every pair: lower --rate, or give it a core of its own")
    a_ms, b_ms = ([by_side[side] for by_side in pairs_ms] for side in "AB")
    return replace(compare.of_pairs(q, a_ms, b_ms, args.margin), partial=partial)


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
            percentile = result.latency.corrected.get(percentile_name(q))
            if percentile is None:
                continue  # the generator was late at this percentile
            failed = sum(one.share for one in result.errors)
            if failed > objective.MAX_ERROR_SHARE:
                first = result.errors[0]
                raise Unusable(
                    f"{failed:.1%} of the requests to {config.target.url} failed ({first.kind}: {first.message})"
                )
            if percentile.value_ms is None:
                raise Unusable(
                    f"{percentile.samples} responses a block are too few for {percentile_name(q)}: raise --duration"
                )
            return percentile.value_ms
    if result.validity.generator_bound:
        return None
    raise Unusable(f"a block was invalid {ATTEMPTS} times: {result.validity.reasons[0]}")
