"""The search: every candidate is built, checked, judged and timed; one is chosen, and every loser has a reason."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np

from server.errors import SlipwayError
from server.tensors import Array

from ..errors import BadInput
from ..evaluation import gates
from ..evaluation.bootstrap import Interval
from ..evaluation.evaluate import Accuracy, Allowance, compare, sqnr_db
from ..evaluation.metrics import Metric, Outputs
from ..passes import PassRecord
from . import decide
from .benchmark import Cell, Focus, Timing, Timings
from .candidates import FLOAT32, Candidate
from .decide import Objective
from .repair import Repair, repair
from .sensitivity import Sensitivity

UNRIVALLED = "chosen: no other form got as far as being judged"
"""That nothing is faster would be saying too much."""

BEST_DB = 120.0
"""Signal to noise beyond which float32 itself is not exact."""


class Workbench(Protocol):
    """What the search has done for it, all that takes time or touches files."""

    def build(self, candidate: Candidate, keep_float: tuple[str, ...] = ()) -> PassRecord:
        """Apply the candidate's passes, with these layers left alone. Raises PassFailed."""
        ...

    def outputs(self, path: Path, limit: int | None = None) -> dict[str, Array]:
        """Run a file over the evaluation rows. Raises what the backend raises."""
        ...

    def elsewhere(self, path: Path, base: Path | None = None) -> str | None:
        """Why the file is of no use at other lengths of the free axes; None where it is, or where no axis is free.
        Compared with ``base``, or else with the reference.

        Raises PassFailed when it does not run there.
        """
        ...

    def sensitivities(self, record: PassRecord) -> Sequence[Sensitivity]:
        """The layers of a lower form, the one that adds most noise first; empty where they cannot be told apart."""
        ...

    def heat(self, paths: Mapping[str, Path], focus: Focus) -> dict[Cell, Timing]:
        """A short measurement at few cells, to see who is worth a long one."""
        ...

    def measure(self, paths: Mapping[str, Path], focus: Focus) -> dict[Cell, Timing]:
        """The long one. ``focus`` says after the rounds what is still too close, for which there are more."""
        ...

    def time_left(self) -> bool:
        """Whether another candidate may be started."""
        ...


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
    """What became of a candidate. ``reason`` says why it lost, or why it won; what was not reached is None.

    ``sensitivities`` are there when it went to repair.
    """

    name: str
    about: str
    reason: str = ""
    chosen: bool = False
    record: PassRecord | None = None
    accuracy: Accuracy | None = None
    sqnr_db: float | None = None
    cell: Cell | None = None
    speed_up: Interval | None = None
    sensitivities: tuple[Sensitivity, ...] = ()


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

    A candidate leaves at the first of: no time is left, its pass fails, the cheap gate, the metric gate (from which
    repair may bring it back), the heat, the measurement. Raises BadInput when the metric does not fit the model, and
    what the backend raises when the reference itself fails.
    """
    announce(FLOAT32)
    expected = bench.outputs(reference)
    accuracy = compare(rule.metric, expected, expected, rule.labels, rule.seed)
    first = Outcome(FLOAT32, "the exported model as it is", record=PassRecord(reference, {}), accuracy=accuracy)
    jury = _Jury(bench, rule, expected, accuracy)
    judged = [first]
    for candidate in candidates:
        announce(candidate.name)
        # What only a lower form of it could repair was already lost.
        lost = next((o for o in judged if o.name == candidate.after and o.reason), None)
        if lost is not None:
            reason = f"not tried: {lost.name}, which it is made from, is not good enough"
            judged.append(Outcome(candidate.name, candidate.about, reason))
            continue
        judged.extend(jury.judge(candidate))
    judged, heats = _heat(judged, bench, rule)
    alive = {o.name: o.record.path for o in judged if not o.reason and o.record is not None}
    timings = bench.measure(alive, partial(_too_close, rule=rule))
    return Search(_choose(judged, timings, rule), {**heats, **timings}, expected)


@dataclass(frozen=True, slots=True)
class _Jury:
    """The gates, and what they compare with."""

    bench: Workbench
    rule: Rule
    expected: Outputs
    reference: Accuracy

    def judge(self, candidate: Candidate) -> list[Outcome]:
        """The outcome of a candidate, and a second one when it could be repaired."""
        outcome = Outcome(candidate.name, candidate.about)
        if not self.bench.time_left():
            return [replace(outcome, reason="not tried: the budget was used up before its turn")]
        try:
            outcome = self._pass_gates(replace(outcome, record=self.bench.build(candidate)))
        except BadInput:
            raise
        except SlipwayError as error:
            return [replace(outcome, reason=f"failed: {error}")]
        record = outcome.record
        if not outcome.reason or record is None or record.float_graph is None or outcome.sqnr_db is None:
            return [outcome]
        return self._repaired(candidate, outcome, record)

    def _pass_gates(self, outcome: Outcome) -> Outcome:
        """The cheap gate and the metric. ``sqnr_db`` is set for everything that runs and is comparable at all."""
        if outcome.record is None:
            raise ValueError(f"{outcome.name} has no file")
        base = outcome.record.base
        few = self.bench.outputs(outcome.record.path, gates.ROWS)
        misfit = gates.misfit(few, self.expected)
        if misfit:
            return replace(outcome, reason=misfit)
        # A network that was trained again has answers of its own: what its int8 form adds is noise against those.
        wanted = gates.head(self.expected, few) if base is None else self.bench.outputs(base, gates.ROWS)
        rough = gates.too_rough(few, wanted, self.rule.metric.classifies)
        if rough:
            return replace(outcome, reason=rough, sqnr_db=sqnr_db(few, gates.head(self.expected, few)))
        elsewhere = self.bench.elsewhere(outcome.record.path, base)
        if elsewhere:
            return replace(outcome, reason=elsewhere, sqnr_db=sqnr_db(few, gates.head(self.expected, few)))
        got = self.bench.outputs(outcome.record.path)
        accuracy = compare(self.rule.metric, got, self.expected, self.rule.labels, self.rule.seed)
        reason = decide.not_accurate(self.rule.metric.name, accuracy, self.reference, self.rule.allowed)
        return replace(outcome, accuracy=accuracy, sqnr_db=sqnr_db(got, self.expected), reason=reason or "")

    def _repaired(self, candidate: Candidate, lost: Outcome, record: PassRecord) -> list[Outcome]:
        best = Outcome(f"{candidate.name}_repaired", "")

        def holds(attempt: PassRecord) -> str | None:
            nonlocal best
            best = self._pass_gates(replace(best, record=attempt, reason="", accuracy=None, sqnr_db=None))
            return best.reason or None

        try:
            result = repair(_Repairs(self, candidate, record), record, holds)
        except BadInput:
            raise
        except SlipwayError as error:
            result = Repair((), reason=str(error))
        lost = replace(lost, sensitivities=result.ranking)
        if result.record is None:
            return [replace(lost, reason=f"{lost.reason}; repair did not help: {result.reason}")]
        layers = ", ".join(result.kept)
        about = f"{candidate.name} with {len(result.kept)} of {len(result.ranking)} layers in float: {layers}"
        return [lost, replace(best, about=about)]


@dataclass(frozen=True, slots=True)
class _Repairs:
    """The workbench, as the repair of one candidate needs it."""

    jury: _Jury
    candidate: Candidate
    broken: PassRecord

    def rebuild(self, keep_float: tuple[str, ...]) -> PassRecord:
        return self.jury.bench.build(self.candidate, keep_float)

    def sensitivities(self) -> Sequence[Sensitivity]:
        return self.jury.bench.sensitivities(self.broken)

    def quality_db(self, record: PassRecord) -> float:
        bench = self.jury.bench
        few = bench.outputs(record.path, gates.ROWS)
        if gates.misfit(few, self.jury.expected):
            return -BEST_DB
        wanted = gates.head(self.jury.expected, few) if record.base is None else bench.outputs(record.base, gates.ROWS)
        return float(np.clip(sqnr_db(few, wanted), -BEST_DB, BEST_DB))

    def time_left(self) -> bool:
        return self.jury.bench.time_left()


def _heat(judged: Sequence[Outcome], bench: Workbench, rule: Rule) -> tuple[list[Outcome], dict[Cell, Timing]]:
    """Where many are left, a short measurement sends the clearly slower ones home before the long one."""
    alive = {o.name: o.record.path for o in judged if not o.reason and o.record is not None}
    if len(alive) <= decide.FINALISTS + 1:
        return list(judged), {}
    timings = bench.heat(alive, partial(_heat_open, rule=rule))
    left = decide.left_behind(timings, rule.objective, rule.seed)
    timed = [
        replace(o, reason=left[o.name], cell=decide.best_cell(timings, o.name, rule.objective)) if o.name in left else o
        for o in judged
    ]
    return timed, {cell: timing for cell, timing in timings.items() if cell.candidate in left}


def _too_close(timings: Timings, rule: Rule) -> frozenset[Cell]:
    return decide.too_close(timings, rule.objective, rule.seed)


def _heat_open(timings: Timings, rule: Rule) -> frozenset[Cell]:
    return decide.heat_open(timings, rule.objective, rule.seed)


def _choose(judged: Sequence[Outcome], timings: Mapping[Cell, Timing], rule: Rule) -> tuple[Outcome, ...]:
    home = decide.best_cell(timings, FLOAT32, rule.objective)
    timed = [_timed(outcome, timings, home, rule) for outcome in judged]
    rivals = [outcome for outcome in timed[1:] if not outcome.reason]
    fastest = max(rivals, key=lambda rival: rival.speed_up.value if rival.speed_up else 0.0, default=timed[0])
    between = {rival.name: _between(rival, fastest, timings, rule.seed) for rival in rivals}
    peers = [rival for rival in rivals if decide.relation(between[rival.name]) == "alike"]
    winner = max(peers, key=_exactness, default=timed[0])
    verdicts = [_verdict(outcome, winner, rule, between.get(outcome.name)) for outcome in timed]
    if len(timed) > 1 and not any(outcome.accuracy for outcome in timed[1:]):
        verdicts[0] = replace(verdicts[0], reason=UNRIVALLED)
    return tuple(verdicts)


def _timed(outcome: Outcome, timings: Mapping[Cell, Timing], home: Cell, rule: Rule) -> Outcome:
    if outcome.reason:
        return outcome
    cell = decide.best_cell(timings, outcome.name, rule.objective)
    ratio = decide.speed_up(timings, cell, home, rule.seed)
    reason = "" if outcome.name == FLOAT32 else decide.not_faster(ratio) or ""
    return replace(outcome, cell=cell, speed_up=ratio, reason=reason)


def _between(outcome: Outcome, fastest: Outcome, timings: Mapping[Cell, Timing], seed: int) -> Interval:
    """The speed of one as a share of the fastest's. Alike by proof, the more exact one is the better choice."""
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
