"""Counters of a model's or a step's runs: time in runs, instances and threads, real and padded positions."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol, Self, TypeVar

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from .run_cpu import RunCpu

A = TypeVar("A")
R = TypeVar("R")


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

    __slots__ = ("cpu", "cpu_ns", "cpu_wall_ns", "instances", "padding", "positions", "run_ns", "threads")

    def __init__(self) -> None:
        self.instances = 0
        self.threads = 0
        self.run_ns = 0
        self.positions = 0
        self.padding = 0
        self.cpu: RunCpu | None = None
        """None where a run takes place in another process or on a device."""
        self.cpu_ns = 0
        self.cpu_wall_ns = 0

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

    def measured(self, run: Callable[[A], R]) -> Callable[[A], R]:
        """``run``, whose CPU time is counted from now on."""
        self.cpu = RunCpu()
        return self.cpu.around(run)

    def copied(self) -> Self:
        """A copy of this moment, which another thread may read."""
        if self.cpu is not None:
            self.cpu.fold()
            self.cpu_ns, self.cpu_wall_ns = self.cpu.cpu_ns, self.cpu.wall_ns
        return copy.copy(self)


def families(
    prefix: str, labels: Sequence[str], counters: Iterable[tuple[Sequence[str], RunCounters]]
) -> Iterator[Any]:
    """The metric families of models (``slipway_``) or of steps (``slipway_step_``)."""
    run = CounterMetricFamily(f"{prefix}run_seconds", "Total time in runs, over all instances", labels=labels)
    cpu = CounterMetricFamily(
        f"{prefix}run_cpu_seconds", "CPU time of the thread of a run, over the runs that were measured", labels=labels
    )
    wall = CounterMetricFamily(f"{prefix}run_cpu_wall_seconds", "Time of the runs that were measured", labels=labels)
    padded = CounterMetricFamily(
        f"{prefix}padded_positions",
        "Positions of the padded axis (rows x length) in all runs, by kind: real or padding",
        labels=[*labels, "kind"],
    )
    instances = GaugeMetricFamily(f"{prefix}instances", "Runs that may be active at once", labels=labels)
    threads = GaugeMetricFamily(f"{prefix}compute_threads", "Compute threads of all instances together", labels=labels)
    for values, one in counters:
        run.add_metric(values, one.run_ns / 1e9)
        if one.cpu_wall_ns:
            cpu.add_metric(values, one.cpu_ns / 1e9)
            wall.add_metric(values, one.cpu_wall_ns / 1e9)
        if one.positions:
            padded.add_metric([*values, "real"], one.positions)
            padded.add_metric([*values, "padding"], one.padding)
        if one.instances:
            instances.add_metric(values, one.instances)
            threads.add_metric(values, one.instances * one.threads)
    yield from (run, cpu, wall, padded, instances, threads)
