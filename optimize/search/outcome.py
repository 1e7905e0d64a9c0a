"""The outcomes of a search: for every candidate its files, figures and the reason why it lost or won."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from server.tensors import Array

from ..evaluation.bootstrap import Interval
from ..evaluation.evaluate import Accuracy, Allowance
from ..evaluation.metrics import Metric, Outputs
from ..passes import PassRecord
from .decide import Objective
from .sensitivity import Sensitivity
from .timing import Cell, Timing


@dataclass(frozen=True, slots=True)
class Rule:
    """The user's choice: the metric, the allowed drop and the objective; ``labels`` of the evaluation rows."""

    metric: Metric
    allowed: Allowance
    objective: Objective
    labels: Array | None
    seed: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of one candidate. ``reason`` says why it lost or won; figures of steps that it did not reach are None.

    ``sensitivities`` are set when repair was tried.
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
    """The outcome of every candidate, float32 first, and all timings. ``reference_outputs`` are float32's."""

    outcomes: tuple[Outcome, ...]
    timings: Mapping[Cell, Timing]
    reference_outputs: Outputs = field(repr=False)

    @property
    def chosen(self) -> Outcome:
        return next(outcome for outcome in self.outcomes if outcome.chosen)

    @property
    def reference(self) -> Outcome:
        return self.outcomes[0]
