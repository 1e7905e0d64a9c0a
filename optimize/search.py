"""The search: every candidate is built, checked, judged and timed; one is chosen, and every loser has a reason."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from server.errors import SlipwayError
from server.tensors import Array

from . import decide
from .bootstrap import Interval
from .candidates import FLOAT32, Candidate
from .decide import Objective
from .errors import BadInput
from .evaluate import Accuracy, Allowance, Metric, Outputs, compare, sqnr_db
from .measure import Cell, Timing
from .passes import PassRecord

GATE_ROWS = 32
"""Rows of the cheap gate, which is passed before the whole evaluation set is run."""

LEAST_SQNR_DB = 0.0
"""Below this the error is larger than the signal: a broken conversion, whatever the metric would say of it."""


class Workbench(Protocol):
    """What the search has done for it, all that takes time or touches files."""

    def build(self, candidate: Candidate) -> PassRecord:
        """Apply the candidate's pass. Raises PassFailed."""
        ...

    def outputs(self, path: Path, limit: int | None = None) -> dict[str, Array]:
        """Run a file over the evaluation rows. Raises what the backend raises."""
        ...

    def measure(self, paths: Mapping[str, Path]) -> dict[Cell, Timing]: ...


@dataclass(frozen=True, slots=True)
class Rule:
    """What the user asked for."""

    metric: Metric
    allowed: Allowance
    objective: Objective
    labels: Array | None
    seed: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a candidate. ``reason`` says why it lost, or why it won; what was not reached is None."""

    name: str
    about: str
    reason: str = ""
    chosen: bool = False
    record: PassRecord | None = None
    accuracy: Accuracy | None = None
    sqnr_db: float | None = None
    cell: Cell | None = None
    speed_up: Interval | None = None


@dataclass(frozen=True, slots=True)
class Search:
    """The outcome of every candidate, the reference first, and all timings."""

    outcomes: tuple[Outcome, ...]
    timings: Mapping[Cell, Timing]
    reference_outputs: Outputs = field(repr=False)

    @property
    def chosen(self) -> Outcome:
        return next(outcome for outcome in self.outcomes if outcome.chosen)

    @property
    def reference(self) -> Outcome:
        return self.outcomes[0]


Announce = Callable[[str], None]


def search(
    reference: Path, candidates: Sequence[Candidate], bench: Workbench, rule: Rule, announce: Announce
) -> Search:
    """Try ``candidates`` against the float32 file ``reference``; ``announce`` hears the name of each as its turn comes.

    A candidate leaves at the first of: its pass fails, the cheap gate, the metric gate, the measurement. Raises
    BadInput when the metric does not fit the model, and what the backend raises when the reference itself fails.
    """
    announce(FLOAT32)
    expected = bench.outputs(reference)
    accuracy = compare(rule.metric, expected, expected, rule.labels, rule.seed)
    first = Outcome(FLOAT32, "the exported model as it is", record=PassRecord(reference, {}), accuracy=accuracy)
    judged = [first]
    for candidate in candidates:
        announce(candidate.name)
        judged.append(_judge(candidate, bench, rule, expected, accuracy))
    alive = {o.name: o.record.path for o in judged if not o.reason and o.record is not None}
    timings = bench.measure(alive)
    return Search(_choose(judged, timings, rule), timings, expected)


def _judge(candidate: Candidate, bench: Workbench, rule: Rule, expected: Outputs, reference: Accuracy) -> Outcome:
    """Build a candidate and pass it through the gates."""
    outcome = Outcome(candidate.name, candidate.about)
    try:
        outcome = replace(outcome, record=(record := bench.build(candidate)))
        broken = _broken(bench.outputs(record.path, GATE_ROWS), expected)
        if broken:
            return replace(outcome, reason=broken)
        got = bench.outputs(record.path)
    except BadInput:
        raise
    except SlipwayError as error:
        return replace(outcome, reason=f"failed: {error}")
    accuracy = compare(rule.metric, got, expected, rule.labels, rule.seed)
    outcome = replace(outcome, accuracy=accuracy, sqnr_db=sqnr_db(got, expected))
    return replace(outcome, reason=decide.not_accurate(rule.metric.name, accuracy, reference, rule.allowed) or "")


def _broken(got: Outputs, expected: Outputs) -> str | None:
    """The cheap gate: same outputs and shapes, finite where the reference is, the error below the signal."""
    if list(got) != list(expected):
        return f"broken: its outputs are {', '.join(got)} instead of {', '.join(expected)}"
    cut: dict[str, Array] = {}
    for name, array in expected.items():
        cut[name] = array[: len(got[name])]
        if got[name].shape != cut[name].shape or got[name].dtype != cut[name].dtype:
            return f"broken: output {name!r} is {got[name].dtype}{list(got[name].shape)}"
        if not np.isfinite(got[name][np.isfinite(cut[name])]).all():
            return f"broken: output {name!r} is not finite"
    noise = sqnr_db(got, cut)
    if noise < LEAST_SQNR_DB:
        return f"broken: its error is larger than the signal ({noise:.1f} dB)"
    return None


def _choose(judged: Sequence[Outcome], timings: Mapping[Cell, Timing], rule: Rule) -> tuple[Outcome, ...]:
    home = decide.best_cell(timings, FLOAT32, rule.objective)
    timed = [_timed(outcome, timings, home, rule) for outcome in judged]
    rivals = [outcome for outcome in timed[1:] if not outcome.reason]
    fastest = max(rivals, key=lambda rival: rival.speed_up.value if rival.speed_up else 0.0, default=timed[0])
    peers = [rival for rival in rivals if _as_fast(rival, fastest, timings, rule.seed)]
    winner = max(peers, key=_exactness, default=timed[0])
    names = {peer.name for peer in peers}
    return tuple(_verdict(outcome, winner, rule, tied=outcome.name in names) for outcome in timed)


def _timed(outcome: Outcome, timings: Mapping[Cell, Timing], home: Cell, rule: Rule) -> Outcome:
    if outcome.reason:
        return outcome
    cell = decide.best_cell(timings, outcome.name, rule.objective)
    ratio = decide.speed_up(timings, cell, home, rule.seed)
    reason = "" if outcome.name == FLOAT32 else decide.not_faster(ratio) or ""
    return replace(outcome, cell=cell, speed_up=ratio, reason=reason)


def _as_fast(outcome: Outcome, fastest: Outcome, timings: Mapping[Cell, Timing], seed: int) -> bool:
    """Whether the rounds cannot tell the two apart; then the more exact one is the better choice."""
    if outcome.cell is None or fastest.cell is None:
        return False
    return decide.speed_up(timings, outcome.cell, fastest.cell, seed).high >= 1


def _exactness(outcome: Outcome) -> float:
    return -np.inf if outcome.sqnr_db is None else outcome.sqnr_db


def _verdict(outcome: Outcome, winner: Outcome, rule: Rule, *, tied: bool) -> Outcome:
    if outcome.name == winner.name:
        if winner.name == FLOAT32:
            return replace(outcome, chosen=True, reason="chosen: nothing that is accurate enough is faster")
        return replace(outcome, chosen=True, reason=f"chosen: accurate enough, and the best {rule.objective}")
    if outcome.reason or outcome.speed_up is None or winner.speed_up is None:
        return outcome
    if outcome.name == FLOAT32:
        return replace(outcome, reason=f"the reference: {winner.name} is {winner.speed_up.value:.2f}x as fast")
    if tied:
        return replace(outcome, reason=decide.tied(_exactness(outcome), winner.name, _exactness(winner)))
    return replace(outcome, reason=decide.beaten(outcome.speed_up, winner.name, winner.speed_up))
