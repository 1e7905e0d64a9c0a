"""The choice: the winner among the timed candidates, and the reason of every other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from ..evaluation.bootstrap import Interval
from . import decide
from .candidates import FLOAT32
from .outcome import Outcome, Rule
from .timing import Cell, Timing

UNRIVALLED = "chosen: no other candidate got as far as being judged"
"""The reason of float32 when no candidate was judged: then nothing is known about speed."""


def choose(judged: Sequence[Outcome], timings: Mapping[Cell, Timing], rule: Rule) -> tuple[Outcome, ...]:
    """Choose the fastest accurate candidate; among those shown to be as fast, the one closest to float32's outputs."""
    reference = decide.best_cell(timings, FLOAT32, rule.objective)
    timed = [_timed(outcome, timings, reference, rule) for outcome in judged]
    faster = [outcome for outcome in timed[1:] if not outcome.reason]
    fastest = max(faster, key=lambda one: one.speed_up.value if one.speed_up else 0.0, default=timed[0])
    between = {one.name: _between(one, fastest, timings, rule.seed) for one in faster}
    alike = [one for one in faster if decide.relation(between[one.name]) == "alike"]
    winner = max(alike, key=_exactness, default=timed[0])
    verdicts = [_verdict(outcome, winner, rule, between.get(outcome.name)) for outcome in timed]
    if len(timed) > 1 and not any(outcome.accuracy for outcome in timed[1:]):
        verdicts[0] = replace(verdicts[0], reason=UNRIVALLED)
    return tuple(verdicts)


def _timed(outcome: Outcome, timings: Mapping[Cell, Timing], reference: Cell, rule: Rule) -> Outcome:
    if outcome.reason:
        return outcome
    cell = decide.best_cell(timings, outcome.name, rule.objective)
    ratio = decide.speed_up(timings, cell, reference, rule.seed)
    reason = "" if outcome.name == FLOAT32 else decide.not_faster(ratio) or ""
    return replace(outcome, cell=cell, speed_up=ratio, reason=reason)


def _between(outcome: Outcome, fastest: Outcome, timings: Mapping[Cell, Timing], seed: int) -> Interval:
    """The speed of a candidate as a share of the fastest one's."""
    if outcome.cell is None or fastest.cell is None:
        raise ValueError(f"{outcome.name} was not timed")
    return decide.speed_up(timings, outcome.cell, fastest.cell, seed)


def _exactness(outcome: Outcome) -> float:
    return -np.inf if outcome.sqnr_db is None else outcome.sqnr_db


def _verdict(outcome: Outcome, winner: Outcome, rule: Rule, between: Interval | None) -> Outcome:
    if outcome.name == winner.name:
        if winner.name == FLOAT32:
            return replace(outcome, chosen=True, reason="chosen: nothing that is accurate enough is faster")
        return replace(outcome, chosen=True, reason=f"chosen: accurate enough, and the best {rule.objective}")
    if outcome.reason or outcome.speed_up is None or winner.speed_up is None:
        return outcome
    if outcome.name == FLOAT32:
        return replace(outcome, reason=f"the reference: {winner.name} is {winner.speed_up.value:.2f}x as fast")
    shown = "open" if between is None else decide.relation(between)
    if between is not None and shown == "open":
        sentence = decide.unsettled(outcome.speed_up, winner.name, winner.speed_up, between)
        return replace(outcome, reason=sentence)
    if shown == "alike":
        return replace(outcome, reason=decide.tied(_exactness(outcome), winner.name, _exactness(winner)))
    return replace(outcome, reason=decide.beaten(outcome.speed_up, winner.name, winner.speed_up))
