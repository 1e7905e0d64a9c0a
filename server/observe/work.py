"""What an instance's time goes into: runs, who may run at once, and positions that are only there as padding."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily


class Run(Protocol):
    """What is asked of a batch that has run."""

    assembled_ns: int
    computed_ns: int
    length: int
    rows: int

    def positions(self) -> tuple[int, int]:
        """Of the padded axis: of the requests' own, and added."""
        ...


class Work:
    """The work of one model, or of one step: counted once a batch.

    ``instances`` is how many batches may run at once, each with ``threads`` threads; 0 where that is not known.
    """

    __slots__ = ("instances", "padding", "positions", "run_ns", "threads")

    def __init__(self) -> None:
        self.instances = 0
        self.threads = 0
        self.run_ns = 0
        self.positions = 0
        self.padding = 0

    def size(self, instances: int, threads: int) -> None:
        self.instances, self.threads = instances, threads

    def record(self, run: Run) -> None:
        """A batch has run; where nothing is ever padded, its length is 0."""
        self.run_ns += run.computed_ns - run.assembled_ns
        if run.length:
            real, padding = run.positions()
            self.positions += real
            self.padding += padding


def families(prefix: str, labels: Sequence[str], works: Iterable[tuple[Sequence[str], Work]]) -> Iterator[Any]:
    """The metric families of models (``slipway_``) or of steps (``slipway_step_``)."""
    run = CounterMetricFamily(f"{prefix}run_seconds", "Time in which an instance computed, all added up", labels=labels)
    padded = CounterMetricFamily(
        f"{prefix}padded_positions",
        "Positions of the padded axis (rows x length) in all runs: real, and padding, which is computed for nothing",
        labels=[*labels, "kind"],
    )
    instances = GaugeMetricFamily(f"{prefix}instances", "Runs that may be under way at once", labels=labels)
    threads = GaugeMetricFamily(f"{prefix}compute_threads", "Threads that compute in all of those", labels=labels)
    for values, work in works:
        run.add_metric(values, work.run_ns / 1e9)
        if work.positions:
            padded.add_metric([*values, "real"], work.positions)
            padded.add_metric([*values, "padding"], work.padding)
        if work.instances:
            instances.add_metric(values, work.instances)
            threads.add_metric(values, work.instances * work.threads)
    yield from (run, padded, instances, threads)
