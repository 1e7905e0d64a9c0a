"""The metrics of a pipeline's steps: stage times of requests, batch sizes, costs of runs."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

from ..request import StepTimes
from . import batch_times, run_counters
from .batch_times import Batches
from .histograms import Histograms, rows_buckets, seconds_buckets
from .run_counters import Run, RunCounters

STAGES = ("queue", "assemble", "compute")
LABELS = ("model", "version", "step")


class StepMetrics:
    """The counters of one step of one version of one model."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.stages = Histograms(len(STAGES))
        self.batches: Batches = {}
        self.failed_slices = 0
        self.work = RunCounters()
        self.waiting_rows: Callable[[], int] = lambda: 0
        self.costs: Callable[[], Sequence[tuple[int, int, int]]] = lambda: ()

    def record(self, times: StepTimes) -> None:
        """Record the step's stage times of one request."""
        self.stages.record((times.queue_ns, times.assemble_ns, times.compute_ns))

    def record_run(self, run: Run, failed_slices: int) -> None:
        """Count one run of a batch, and the slices of it that failed."""
        batch_times.record(self.batches, run)
        self.failed_slices += failed_slices
        self.work.record(run)

    def copied(self) -> StepMetrics:
        """A copy of this moment, which another thread may read."""
        one = copy.copy(self)
        one.stages, one.work = self.stages.copied(), self.work.copied()
        one.batches = batch_times.copied(self.batches)
        rows, costs = self.waiting_rows(), self.costs()
        one.waiting_rows, one.costs = lambda: rows, lambda: costs
        return one


def families(steps: Iterable[tuple[tuple[str, str], StepMetrics]]) -> Iterator[Any]:
    """The metric families of all steps, each with its (model, version); none without steps."""
    steps = list(steps)
    if not steps:
        return
    stages = HistogramMetricFamily(
        "slipway_step_seconds", "Time of successful requests in each step of a pipeline", labels=[*LABELS, "stage"]
    )
    rows = HistogramMetricFamily("slipway_step_batch_rows", "Rows of each run of a step", labels=LABELS)
    failed = CounterMetricFamily(
        "slipway_step_failed_slices",
        "Requests, or parts of large requests, that failed in a run of the step",
        labels=LABELS,
    )
    waiting = GaugeMetricFamily("slipway_step_queue_rows", "Rows in the queue of the step", labels=LABELS)
    cost = GaugeMetricFamily(
        "slipway_step_cost_seconds",
        "Measured time of a run of the step, by padded length (0: no padding) and batch size",
        labels=[*LABELS, "length", "batch_size"],
    )
    for model, step in steps:
        labels = [*model, step.name]
        for index, stage in enumerate(STAGES):
            counts, total_s = step.stages.cumulative(index)
            stages.add_metric([*labels, stage], seconds_buckets(counts), total_s)
        rows.add_metric(labels, *rows_buckets(batch_times.runs_by_rows(step.batches)))
        failed.add_metric(labels, step.failed_slices)
        waiting.add_metric(labels, step.waiting_rows())
        for length, size, cost_ns in step.costs():
            cost.add_metric([*labels, str(length), str(size)], cost_ns / 1e9)
    yield from (stages, rows, failed, waiting, cost)
    yield from run_counters.families(
        "slipway_step_", LABELS, [([*model, step.name], step.work) for model, step in steps]
    )
