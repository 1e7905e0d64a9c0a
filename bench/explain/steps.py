"""Steps: the law of each step of a pipeline, and the busiest step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..observe.model_work import ModelWork


@dataclass(frozen=True, slots=True)
class StepLaw:
    """S(b) = ``fixed_ms`` + ``per_row_ms`` b of one step, fitted to the server's cost table.

    A response carries one compute time, the sum over all steps, and so gives no law of a step. ``length``: the mean
    padded length of the rows (0: no padding). The coefficients are None if the table has a single size.
    ``capacity_per_s``: rows that one instance computes per second at its best, up to ``largest`` per run.
    """

    step: str
    length: int
    largest: int
    fixed_ms: float | None
    per_row_ms: float | None
    capacity_per_s: float


def laws(works: Sequence[ModelWork]) -> tuple[StepLaw, ...]:
    """The law of every step with costs, in the order of the steps."""
    return tuple(found for one in works if one.step and (found := _law(one)) is not None)


def busiest(works: Sequence[ModelWork]) -> ModelWork | None:
    """The model or step with the highest utilisation; None if the server does not report it."""
    known = [one for one in works if one.utilisation is not None]
    return max(known, key=lambda one: one.utilisation or 0.0, default=None)


def _law(work: ModelWork) -> StepLaw | None:
    costs = work.usual_costs()
    if not costs:
        return None
    fixed_ms = per_row_ms = None
    if len(costs) > 1:
        rows, ms = (np.array([getattr(one, name) for one in costs], dtype=np.float64) for name in ("rows", "ms"))
        # The time of a run scatters in proportion to its mean, so its weight is the inverse square, as in batches.fit.
        slope, base = np.polyfit(rows, ms, 1, w=1 / ms)
        fixed_ms, per_row_ms = float(base), float(slope)
    best = max(one.rows / one.ms for one in costs) * 1e3
    return StepLaw(work.step, costs[0].length, costs[-1].rows, fixed_ms, per_row_ms, best)
