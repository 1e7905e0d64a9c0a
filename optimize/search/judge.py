"""The judge: builds one candidate and passes it through the gates; repairs it where that can help."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from server.errors import SlipwayError
from server.tensors import Array

from ..errors import BadInput
from ..evaluation import gates, neighbours, segments
from ..evaluation.evaluate import Accuracy, compare, sqnr_db
from ..evaluation.gates import Cover
from ..evaluation.reading import Outputs
from ..passes import PassRecord
from . import decide
from .benchmark import Focus
from .candidates import Candidate
from .outcome import Outcome, Rule
from .repair import Repair, repair
from .sensitivity import Sensitivity
from .timing import Cell, Timing

REPAIRED = "_repaired"
"""What the name of a candidate gets after its repair."""

BEST_DB = 120.0
"""Signal-to-noise ratio beyond which float32 itself is not exact."""


class Builder(Protocol):
    """Everything in a search that takes time or touches files."""

    def build(self, candidate: Candidate, keep_float: tuple[str, ...] = ()) -> PassRecord:
        """Apply the candidate's passes and keep these layers in float. Raises PassFailed."""
        ...

    def outputs(self, path: Path, limit: int | None = None) -> dict[str, Array]:
        """Run a file over the evaluation rows. Raises the backend's errors."""
        ...

    def alone(self, path: Path) -> dict[str, Array]:
        """Run a file over a few evaluation rows, each alone."""
        ...

    def served(self, path: Path, limit: int | None = None) -> dict[str, Array]:
        """Run a file over the evaluation rows among random neighbours, with one hostile row in each batch."""
        ...

    def check_lengths(self, path: Path, base: Path | None = None) -> str | None:
        """Why the file fails at other lengths of the free axes, compared with ``base`` or float32; None if it does not.

        Raises PassFailed when it does not run at one of them.
        """
        ...

    def sensitivities(self, record: PassRecord) -> Sequence[Sensitivity]:
        """The layers of a variant in lower precision, the noisiest first; empty when they cannot be told apart."""
        ...

    def first_round(self, paths: Mapping[str, Path], focus: Focus) -> dict[Cell, Timing]:
        """A short measurement at few cells, which eliminates slow candidates."""
        ...

    def measure(self, paths: Mapping[str, Path], focus: Focus) -> dict[Cell, Timing]:
        """The final measurement. ``focus`` names the cells that need further rounds."""
        ...

    def time_left(self) -> bool:
        """Whether another candidate may be started."""
        ...


@dataclass(frozen=True, slots=True)
class Judge:
    """The gates, and the float32 outputs and score that candidates are compared with."""

    builder: Builder
    rule: Rule
    expected: Outputs
    reference: Accuracy
    cover: Cover

    def judge(self, candidate: Candidate) -> list[Outcome]:
        """The outcome of a candidate, and a second one when repair was successful."""
        outcome = Outcome(candidate.name, candidate.about)
        if not self.builder.time_left():
            return [replace(outcome, reason="not tried: the budget was used up before its turn")]
        try:
            outcome = self._pass_gates(replace(outcome, record=self.builder.build(candidate)))
        except BadInput:
            raise
        except SlipwayError as error:
            return [replace(outcome, reason=f"failed: {error}")]
        record = outcome.record
        broken = outcome.reason and outcome.repairable and outcome.sqnr_db is not None
        if not broken or record is None or record.float_graph is None:
            return [outcome]
        return self._repaired(candidate, outcome, record)

    def _pass_gates(self, outcome: Outcome) -> Outcome:
        """Apply the cheap gate and the metric. ``sqnr_db`` is set for every candidate with comparable outputs."""
        if outcome.record is None:
            raise ValueError(f"{outcome.name} has no file")
        path, base = outcome.record.judged, outcome.record.base
        if path != outcome.record.path:
            # The twin gives the answers, but the file itself is what is served.
            incomparable = gates.incomparable(self.builder.outputs(outcome.record.path, gates.ROWS), self.expected)
            if incomparable:
                return replace(outcome, reason=incomparable)
        few = self.builder.outputs(path, gates.ROWS)
        incomparable = gates.incomparable(few, self.expected)
        if incomparable:
            return replace(outcome, reason=incomparable)
        # The outputs of a retrained network differ from float32's: the noise of its int8 form is measured against them.
        wanted = gates.head(self.expected, few) if base is None else self.builder.outputs(base, gates.ROWS)
        reason = gates.too_noisy(few, wanted, self.cover)
        reason = reason or self.builder.check_lengths(outcome.record.on_processor, base)
        if reason:
            return replace(outcome, reason=reason, sqnr_db=sqnr_db(few, gates.head(self.expected, few)))
        got = self.builder.outputs(path)
        accuracy = compare(self.rule.metric, got, self.expected, self.rule.labels, self.rule.seed)
        reason = decide.not_accurate(self.rule.metric.name, accuracy, self.reference, self.rule.allowed)
        outcome = replace(
            outcome,
            forecast_db=self._forecast_db(outcome.record.forecast),
            accuracy=accuracy,
            sqnr_db=sqnr_db(got, self.expected),
            worst_segment=segments.worst(got, self.expected),
            reason=reason or "",
        )
        return outcome if reason or not self.rule.independent else self._among_neighbours(outcome, path)

    def _forecast_db(self, twin: Path | None) -> float | None:
        """The signal-to-noise ratio that the twin of a GPU's candidate shows; None without one, or if it fails."""
        if twin is None:
            return None
        try:
            few = self.builder.outputs(twin, gates.ROWS)
        except SlipwayError:
            return None
        return sqnr_db(few, gates.head(self.expected, few))

    def _among_neighbours(self, outcome: Outcome, path: Path) -> Outcome:
        """Judge the candidate as it is served: other rows in the batch, one of them hostile, may change its scales."""
        single = self.builder.alone(path)
        influence = neighbours.influence(single, self.builder.served(path, len(next(iter(single.values())))))
        outcome = replace(outcome, influence=influence)
        if not influence.dependent:
            return outcome
        rule = self.rule
        got = self.builder.served(path)
        accuracy = compare(rule.metric, got, self.expected, rule.labels, rule.seed)
        reason = decide.not_accurate(rule.metric.name, accuracy, self.reference, rule.allowed)
        reason = reason or gates.too_noisy(got, self.expected, self.cover)
        if reason:
            reason = f"its outputs depend on other rows of the batch, one of them with large values: {reason}"
        return replace(outcome, served=accuracy, reason=reason or "", repairable=False)

    def _repaired(self, candidate: Candidate, lost: Outcome, record: PassRecord) -> list[Outcome]:
        best = Outcome(f"{candidate.name}{REPAIRED}", "")

        def holds(attempt: PassRecord) -> str | None:
            nonlocal best
            best = self._pass_gates(replace(best, record=attempt, reason="", accuracy=None, sqnr_db=None))
            return best.reason or None

        try:
            result = repair(_CandidateRepair(self, candidate, record), record, holds)
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
class _CandidateRepair:
    """The builder, limited to the repair of one candidate."""

    judge: Judge
    candidate: Candidate
    broken: PassRecord

    def rebuild(self, keep_float: tuple[str, ...]) -> PassRecord:
        return self.judge.builder.build(self.candidate, keep_float)

    def sensitivities(self) -> Sequence[Sensitivity]:
        return self.judge.builder.sensitivities(self.broken)

    def quality_db(self, record: PassRecord) -> float:
        builder = self.judge.builder
        few = builder.outputs(record.judged, gates.ROWS)
        if gates.incomparable(few, self.judge.expected):
            return -BEST_DB
        expected = self.judge.expected
        wanted = gates.head(expected, few) if record.base is None else builder.outputs(record.base, gates.ROWS)
        # The noisiest part counts: a large output would hide the noise of a small one.
        overall = float(np.clip(sqnr_db(few, wanted), -BEST_DB, BEST_DB))
        return min(overall, segments.worst(few, wanted)[1])

    def time_left(self) -> bool:
        return self.judge.builder.time_left()
