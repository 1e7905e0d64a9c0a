"""Probation: a version that took over is compared with the version before it, and rolled back if it is worse."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter_ns

from .served import ServedModel
from .traffic import Arm, Figures, Rules, judge

OWN_FAULTS = frozenset(("internal", "model_failed", "out_of_memory"))
"""Outcomes that count against a version on probation. Overload and missed deadlines do not: the load may have grown
since the version before it answered."""


class Probation:
    """One version after it took over, for ``lasts_s``.

    The version before it has no traffic any more. It is represented by its figures: answers since it was loaded, and
    latencies if the two were compared just before.
    """

    def __init__(
        self,
        model: ServedModel,
        before: ServedModel,
        rules: Rules,
        lasts_s: float,
        remembered: Figures | None = None,
        clock: Callable[[], int] = perf_counter_ns,
    ) -> None:
        """``remembered``: figures of ``before`` from a comparison; None: those of its counters."""
        self.before: ServedModel | None = before
        """None when it has been unloaded: then a rollback is impossible."""
        self.before_version = before.version
        self.rules = rules
        self._arm = Arm(model, clock, OWN_FAULTS)
        self._theirs = remembered or _lifetime(before)
        self._clock = clock
        self._until_ns = clock() + int(lasts_s * 1e9)

    @property
    def model(self) -> ServedModel:
        return self._arm.model

    @property
    def over(self) -> bool:
        return self._clock() >= self._until_ns

    @property
    def left_s(self) -> float:
        return max(self._until_ns - self._clock(), 0) / 1e9

    @property
    def answers(self) -> int:
        """Of the version since it took over."""
        return self._arm.answers

    def attach(self) -> None:
        """Measure latencies, where a rule needs them and the version before has some to compare with."""
        if self.rules.latency and self._theirs.p95_ns:
            self.model.watch = self._arm.watch

    def detach(self) -> None:
        self.model.watch = None

    def verdict(self) -> str | None:
        """The reason to roll the version back; None while there is none."""
        if self._arm.answers < self.rules.least:
            return None
        return judge(self._arm.figures(), self._theirs, self.rules)


def _lifetime(model: ServedModel) -> Figures:
    """The figures of a version since it was loaded."""
    answers = model.metrics.answers
    faults = sum(count for outcome, count in answers.items() if outcome in OWN_FAULTS)
    return Figures(answers.total(), faults, 0)
