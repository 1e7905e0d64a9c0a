"""The search: every candidate is built, judged and timed; one is chosen, and every other gets a reason."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from ..evaluation import gates
from ..evaluation.evaluate import compare
from ..passes import PassRecord
from . import decide
from .candidates import FLOAT32, Candidate
from .choose import choose
from .judge import Builder, Judge
from .outcome import Outcome, Rule, Search
from .timing import Cell, Timing, Timings

Announce = Callable[[str], None]
"""Called with the name of each candidate when its turn comes."""


def search(
    reference: Path, candidates: Sequence[Candidate], builder: Builder, rule: Rule, announce: Announce
) -> Search:
    """Compare ``candidates`` with the float32 file ``reference``.

    A candidate leaves at the first of: no time is left, its pass fails, the cheap gate, the metric gate (from which
    repair may bring it back), the first round, the final round. Raises BadInput when the metric does not fit the
    model, and the backend's errors when the reference itself fails.
    """
    announce(FLOAT32)
    expected = builder.outputs(reference)
    accuracy = compare(rule.metric, expected, expected, rule.labels, rule.seed)
    first = Outcome(FLOAT32, "the exported model as it is", record=PassRecord(reference, {}), accuracy=accuracy)
    judge = Judge(builder, rule, expected, accuracy, gates.cover(rule.metric, expected, rule.labels))
    judged = [first]
    for candidate in candidates:
        announce(candidate.name)
        # A candidate that is made from one that lost cannot be better than it.
        lost = next((o for o in judged if o.name == candidate.after and o.reason), None)
        if lost is not None:
            reason = f"not tried: {lost.name}, which it is made from, is not good enough"
            judged.append(Outcome(candidate.name, candidate.about, reason))
            continue
        judged.extend(judge.judge(candidate))
    judged, eliminated = _first_round(judged, builder, rule)
    alive = {o.name: o.record.path for o in judged if not o.reason and o.record is not None}
    timings = builder.measure(alive, partial(_too_close, rule=rule))
    return Search(choose(judged, timings, rule), {**eliminated, **timings}, expected)


def _first_round(judged: Sequence[Outcome], builder: Builder, rule: Rule) -> tuple[list[Outcome], dict[Cell, Timing]]:
    """Eliminate the clearly slower candidates by a short measurement, where many are left."""
    alive = {o.name: o.record.path for o in judged if not o.reason and o.record is not None}
    if len(alive) <= decide.FINALISTS + 1:
        return list(judged), {}
    timings = builder.first_round(alive, partial(_first_round_open, rule=rule))
    left = decide.left_behind(timings, rule.objective, rule.seed)
    timed = [
        replace(o, reason=left[o.name], cell=decide.best_cell(timings, o.name, rule.objective)) if o.name in left else o
        for o in judged
    ]
    return timed, {cell: timing for cell, timing in timings.items() if cell.candidate in left}


def _too_close(timings: Timings, rule: Rule) -> frozenset[Cell]:
    return decide.too_close(timings, rule.objective, rule.seed)


def _first_round_open(timings: Timings, rule: Rule) -> frozenset[Cell]:
    return decide.first_round_open(timings, rule.objective, rule.seed)
