"""The metrics of GPUs: what the runs of each model did there, and the state of each GPU at a scrape."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

LABELS = ("model", "version")
Counters = Mapping[str, int]
"""Counts of one model by the names of ``backends.lanes.DeviceCounters``."""

RUNS = (("replay", "replays"), ("launch", "launches"), ("open", "open_runs"))
STEPS = (("copy_in", "copy_in_ns"), ("compute", "compute_ns"), ("copy_out", "copy_out_ns"))
COPIES = (("in", "copied_in_bytes"), ("out", "copied_out_bytes"))


class Gpu(Protocol):
    """One GPU at a scrape, as ``system.gpu.Gpu``."""

    @property
    def index(self) -> int: ...
    @property
    def name(self) -> str: ...
    @property
    def uuid(self) -> str: ...
    @property
    def total_bytes(self) -> int: ...
    @property
    def used_bytes(self) -> int: ...
    @property
    def busy(self) -> float | None: ...
    @property
    def ecc_errors(self) -> int | None: ...


def families(models: Iterable[tuple[Sequence[str], Counters]]) -> Iterator[Any]:
    """The families of all models on GPUs: (labels, counts) of each."""
    runs = CounterMetricFamily(
        "slipway_device_runs",
        "Runs on a GPU: one replay of a graph, kernels launched one by one, or a shape that was not warmed",
        labels=[*LABELS, "how"],
    )
    steps = CounterMetricFamily(
        "slipway_device_step_seconds",
        "Time of runs on a GPU by step of the stage compute, as the GPU measured it",
        labels=[*LABELS, "step"],
    )
    copied = CounterMetricFamily(
        "slipway_device_copied_bytes", "Bytes copied to a GPU and back", labels=[*LABELS, "direction"]
    )
    padded = CounterMetricFamily(
        "slipway_device_padded_rows", "Rows that were added to reach a closed shape", labels=LABELS
    )
    for labels, counts in models:
        for how, field in RUNS:
            runs.add_metric([*labels, how], counts[field])
        for step, field in STEPS:
            steps.add_metric([*labels, step], counts[field] / 1e9)
        for direction, field in COPIES:
            copied.add_metric([*labels, direction], counts[field])
        padded.add_metric(labels, counts["padded_rows"])
    yield from (runs, steps, copied, padded)


def gpu_families(read: Callable[[], Sequence[Gpu]]) -> Iterator[Any]:
    """The state of all GPUs of the host."""
    memory = GaugeMetricFamily(
        "slipway_gpu_memory_bytes", "Memory of a GPU, of all processes", labels=["gpu", "uuid", "name", "state"]
    )
    busy = GaugeMetricFamily(
        "slipway_gpu_busy_ratio", "Share of the last second in which a kernel ran", labels=["gpu", "uuid"]
    )
    errors = GaugeMetricFamily(
        "slipway_gpu_ecc_errors", "Uncorrected memory errors since the driver was loaded", labels=["gpu", "uuid"]
    )
    for one in read():
        labels = [str(one.index), one.uuid]
        memory.add_metric([*labels, one.name, "used"], one.used_bytes)
        memory.add_metric([*labels, one.name, "free"], one.total_bytes - one.used_bytes)
        if one.busy is not None:
            busy.add_metric(labels, one.busy)
        if one.ecc_errors is not None:
            errors.add_metric(labels, one.ecc_errors)
    yield from (memory, busy, errors)
