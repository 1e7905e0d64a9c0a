"""Batch times: how many runs had a number of rows, and the time that the parts of these runs took."""

from __future__ import annotations

import copy
from collections import Counter

from .run_counters import Run


class BatchTimes:
    """The runs of one batch size, in nanoseconds: input is assembled, the model infers, output goes to the loop."""

    __slots__ = ("infer_ns", "input_ns", "output_ns", "runs")

    def __init__(self) -> None:
        self.runs = 0
        self.input_ns = 0
        self.infer_ns = 0
        self.output_ns = 0


Batches = dict[int, BatchTimes]
"""Times by the number of rows of a run: at most as many entries as a batch may have rows."""


def record(batches: Batches, run: Run) -> None:
    """Count one run."""
    one = batches.get(run.rows)
    if one is None:
        one = batches[run.rows] = BatchTimes()
    one.runs += 1
    one.input_ns += run.assembled_ns - run.picked_ns
    one.infer_ns += run.computed_ns - run.assembled_ns
    one.output_ns += run.finished_ns - run.computed_ns


def copied(batches: Batches) -> Batches:
    """A copy of this moment."""
    return {rows: copy.copy(one) for rows, one in batches.items()}


def runs_by_rows(batches: Batches) -> Counter[int]:
    """The number of runs by their rows."""
    return Counter({rows: one.runs for rows, one in batches.items()})
