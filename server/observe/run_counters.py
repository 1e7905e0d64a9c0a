"""Counters of a model's or a step's runs: time in runs, instances and threads, real and padded positions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily


class Run(Protocol):
    """The facts of a finished batch that are counted."""

    picked_ns: int
    assembled_ns: int
    computed_ns: int
    finished_ns: int
    length: int
    rows: int

    def positions(self) -> tuple[int, int]:
        """Positions of the padded axis: the requests' own, and padding."""
        ...


class RunCounters:
    """The counters of one model or step, updated once for each batch.

    ``instances`` batches may run at once, each with ``threads`` threads; both are 0 if they are not known.
    """

    __slots__ = ("instances", "padding", "positions", "run_ns", "threads")

    def __init__(self) -> None:
        self.instances = 0
        self.threads = 0
        self.run_ns = 0
        self.positions = 0
        self.padding = 0

    def size(self, instances: int, threads: int) -> None:
        """Set the number of instances and of threads of each."""
        self.instances, self.threads = instances, threads

    def record(self, run: Run) -> None:
        """Count one batch. Its length is 0 for a model without padding."""
        self.run_ns += run.computed_ns - run.assembled_ns
        if run.length:
            real, padding = run.positions()
            self.positions += real
            self.padding += padding


def families(
    prefix: str, labels: Sequence[str], counters: Iterable[tuple[Sequence[str], RunCounters]]
) -> Iterator[Any]:
    """The metric families of models (``slipway_``) or of steps (``slipway_step_``)."""
    run = CounterMetricFamily(f"{prefix}run_seconds", "Total time in runs, over all instances", labels=labels)
    padded = CounterMetricFamily(
        f"{prefix}padded_positions",
        "Positions of the padded axis (rows x length) in all runs, by kind: real or padding",
        labels=[*labels, "kind"],
    )
    instances = GaugeMetricFamily(f"{prefix}instances", "Runs that may be active at once", labels=labels)
    threads = GaugeMetricFamily(f"{prefix}compute_threads", "Compute threads of all instances together", labels=labels)
    for values, one in counters:
        run.add_metric(values, one.run_ns / 1e9)
        if one.positions:
            padded.add_metric([*values, "real"], one.positions)
            padded.add_metric([*values, "padding"], one.padding)
        if one.instances:
            instances.add_metric(values, one.instances)
            threads.add_metric(values, one.instances * one.threads)
    yield from (run, padded, instances, threads)
