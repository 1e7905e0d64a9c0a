"""The outcomes of a search: for every candidate its files, figures and the reason why it lost or won."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from server.tensors import Array

from ..evaluation.bootstrap import Interval
from ..evaluation.evaluate import Accuracy, Allowance
from ..evaluation.metrics import Metric
from ..evaluation.neighbours import Influence
from ..evaluation.reading import Outputs
from ..passes import PassRecord
from .decide import Objective
from .sensitivity import Sensitivity
from .timing import Cell, Timing


@dataclass(frozen=True, slots=True)
class Rule:
    """The user's choice: the metric, the allowed drop and the objective; ``labels`` of the evaluation rows.

    ``independent``: the rows of float32 are independent, so that candidates are also judged among neighbours.
    """

    metric: Metric
    allowed: Allowance
    objective: Objective
    labels: Array | None
    seed: int
    independent: bool = True


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of one candidate. ``reason`` says why it lost or won; figures of steps that it did not reach are None.

    ``sensitivities`` are set when repair was tried. ``influence``: of neighbours in the batch; ``served``: the accuracy
    among random neighbours with one hostile row a batch, measured when they have an influence. ``worst_segment``: the
    noisiest output, or part of one, and its signal-to-noise ratio in decibel. ``repairable``: layers in float may help.
    ``forecast_db``: the ratio that the twin shows for a candidate of a GPU, over a few rows.
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
    influence: Influence | None = None
    served: Accuracy | None = None
    worst_segment: tuple[str, float] | None = None
    repairable: bool = True
    forecast_db: float | None = None


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
