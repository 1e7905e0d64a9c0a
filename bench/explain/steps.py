"""Steps: what a run of each step of a pipeline costs, and which of them is the narrowest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..observe.model_work import ModelWork


@dataclass(frozen=True, slots=True)
class StepLaw:
    """S(b) = ``fixed_ms`` + ``per_row_ms`` b of one step, through the server's cost table at the ``length`` that its
    rows had on average (0: nothing is padded); None where the table has one size only. ``capacity_per_s``: rows that
    one instance computes per second at its best, up to ``largest`` in a run.

    A reply tells one compute time, the sum over all steps, so no law can be had from replies.
    """

    step: str
    length: int
    largest: int
    fixed_ms: float | None
    per_row_ms: float | None
    capacity_per_s: float


def laws(works: Sequence[ModelWork]) -> tuple[StepLaw, ...]:
    """The law of every step that has costs, in the order of the steps."""
    return tuple(found for one in works if one.step and (found := _law(one)) is not None)


def narrowest(works: Sequence[ModelWork]) -> ModelWork | None:
    """The work whose instances were busiest; None where the server does not say."""
    told = [one for one in works if one.utilisation is not None]
    return max(told, key=lambda one: one.utilisation or 0.0, default=None)


def _law(work: ModelWork) -> StepLaw | None:
    costs = work.usual_costs()
    if not costs:
        return None
    fixed_ms = per_row_ms = None
    if len(costs) > 1:
        rows, ms = (np.array([getattr(one, name) for one in costs], dtype=np.float64) for name in ("rows", "ms"))
        # What a run takes scatters with its size: each point counts by the square of its inverse, as in a law of runs.
        slope, base = np.polyfit(rows, ms, 1, w=1 / ms)
        fixed_ms, per_row_ms = float(base), float(slope)
    best = max(one.rows / one.ms for one in costs) * 1e3
    return StepLaw(work.step, costs[0].length, costs[-1].rows, fixed_ms, per_row_ms, best)
