"""Probation: a version that has just taken over is judged against the one before it, and goes back if it is worse."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter_ns

from .served import ServedModel
from .traffic import Arm, Figures, Rules, judge

OWN_FAULTS = frozenset(("internal", "model_failed", "out_of_memory"))
"""What is held against a version here. A canary shares its hour with the stable version; this one does not: it may be
overloaded, or late, because more is asked than before."""


class Probation:
    """One version after it took over, for ``lasts_s``.

    The one before it has no traffic any more: what it is remembered by (answers since it was loaded; latencies if the
    two were compared just before) is what the new one is judged against.
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
        """``remembered``: the figures of ``before`` from a comparison; its counters are taken where there was none."""
        self.before: ServedModel | None = before
        """None when it has been unloaded: then there is nothing to go back to."""
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
        """Latencies are only taken where a rule asks for them, and where there is something to compare them with."""
        if self.rules.latency and self._theirs.p95_ns:
            self.model.watch = self._arm.watch

    def detach(self) -> None:
        self.model.watch = None

    def verdict(self) -> str | None:
        """Why the version should go, or None while there is no reason."""
        if self._arm.answers < self.rules.least:
            return None
        return judge(self._arm.figures(), self._theirs, self.rules)


def _lifetime(model: ServedModel) -> Figures:
    """What a version did since it was loaded."""
    answers = model.metrics.answers
    faults = sum(count for outcome, count in answers.items() if outcome in OWN_FAULTS)
    return Figures(answers.total(), faults, 0)
