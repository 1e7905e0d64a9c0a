"""The metrics of one model and of the server: counted on the hot path for next to nothing, shaped when scraped.

A request leaves its ten time stamps in a flat buffer of integers; histograms are made from the buffer by numpy, a few
hundred requests at a time or at a scrape. Nothing is looked up, locked or formatted for each request.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from ..request import STAGES, InferRequest
from . import steps, work
from .histograms import Histograms, rows_buckets, seconds_buckets
from .steps import StepMetrics
from .work import Run, Work

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"
STAMPS = 10
PENDING_REQUESTS = 512


class StageClock:
    """Histograms of the nine stages and of the whole, over the requests that were answered."""

    def __init__(self) -> None:
        self._pending = array("q")
        self._histograms = Histograms(len(STAGES) + 1)
        self._last_ns = 0

    @property
    def last_ns(self) -> int:
        """When the last answer was handed over (``perf_counter_ns``); 0 before the first."""
        return self._pending[-1] if self._pending else self._last_ns

    def record(self, request: InferRequest, begun_ns: int, received_ns: int, encoded_ns: int, sent_ns: int) -> None:
        """Keep the time stamps of one answered request."""
        self._pending.extend(
            (
                begun_ns,
                received_ns,
                request.decoded_ns,
                request.held_ns,
                request.picked_ns,
                request.assembled_ns,
                request.computed_ns,
                request.scattered_ns,
                encoded_ns,
                sent_ns,
            )
        )
        if len(self._pending) >= STAMPS * PENDING_REQUESTS:
            self._fold()

    def histograms(self) -> Iterator[tuple[str, list[int], float]]:
        """(stage or ``total``, cumulative bucket counts, sum in seconds)."""
        self._fold()
        for index, stage in enumerate((*STAGES, "total")):
            yield stage, *self._histograms.cumulative(index)

    def _fold(self) -> None:
        if not self._pending:
            return
        durations = stage_durations_ns(np.frombuffer(self._pending, np.int64).reshape(-1, STAMPS))
        self._last_ns = self._pending[-1]
        self._pending = array("q")
        self._histograms.add(durations)


def stage_durations_ns(stamps: NDArray[np.int64]) -> NDArray[np.int64]:
    """Time stamps [requests, 10] to durations [requests, nine stages and their sum], in nanoseconds.

    The stages of a request add up to its total by construction: each begins where the one before it ended.
    """
    begun, received, decoded, held, picked, assembled, computed, scattered, encoded, sent = stamps.T
    return np.stack(
        (
            received - begun,
            decoded - received,
            picked - decoded - held,
            held,
            assembled - picked,
            computed - assembled,
            scattered - computed,
            encoded - scattered,
            sent - encoded,
            sent - begun,
        ),
        axis=1,
    )


class ModelMetrics:
    """The counters of one version of one model; ``waiting_rows`` is asked at each scrape."""

    def __init__(self, model: str, version: str) -> None:
        self.labels = (model, version)
        self.stages = StageClock()
        self.answers: Counter[str] = Counter()
        self.batch_rows: Counter[int] = Counter()
        self.failed_slices = 0
        self.work = Work()
        self.file_bytes = 0
        self.waiting_rows: Callable[[], int] = lambda: 0
        self.backlog_ns: Callable[[], int] = lambda: 0
        self.load_seconds = 0.0
        self.memory_bytes = 0
        self.cache_outcomes: Counter[str] = Counter()
        self.cache_bytes: Callable[[], int] = lambda: 0
        self.shadowed: Counter[str] = Counter()
        """Requests that were copied to this version as a shadow, by outcome: same, different, failed, skipped."""
        self.script: Callable[[], Mapping[str, int]] = dict
        """What had to be done about a user's script: threads given up, workers killed and restarted."""
        self.worker_bytes: Callable[[], int] | None = None
        self.costs: Callable[[], Sequence[tuple[int, int, int]]] = lambda: ()
        self.steps: Sequence[StepMetrics] = ()
        """Of a pipeline, in order."""

    def record_run(self, run: Run, failed_slices: int) -> None:
        """A batch has run, and this many of its slices failed."""
        self.batch_rows[run.rows] += 1
        self.failed_slices += failed_slices
        self.work.record(run)


class Metrics(Collector):
    """Everything that ``/metrics`` shows, over all models."""

    def __init__(self, ready: Callable[[], bool], version: str) -> None:
        self._ready = ready
        self._version = version
        self._models: dict[tuple[str, str], ModelMetrics] = {}
        self.refused: Counter[str] = Counter()
        """Error codes of requests that no model saw: unknown model, oversize body, ..."""
        self.further: list[Callable[[], Iterator[Any]]] = []
        """Families of whatever is no model's; asked at each scrape."""
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def add(self, model: ModelMetrics) -> None:
        """Show a model from now on. On the event loop only, as scrapes are."""
        self._models[model.labels] = model

    def remove(self, model: ModelMetrics) -> None:
        """Show a model no longer, and forget it: it holds on to its scheduler. Its successor stays, if there is one."""
        if self._models.get(model.labels) is model:
            del self._models[model.labels]

    def exposition(self) -> bytes:
        """The Prometheus text format."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Any]:
        info = GaugeMetricFamily("slipway_build_info", "Always 1; the label tells the version", labels=["version"])
        info.add_metric([self._version], 1)
        yield info
        yield GaugeMetricFamily("slipway_ready", "1 when /ping answers 200", value=float(self._ready()))
        refused = CounterMetricFamily(
            "slipway_refused", "Requests that were refused before any model saw them", labels=["code"]
        )
        for code, count in self.refused.items():
            refused.add_metric([code], count)
        yield refused
        yield from self._requests()
        yield from self._stages()
        yield from self._batches()
        yield from self._queues()
        yield from self._versions()
        yield from self._caches()
        yield from steps.families((one.labels, step) for one in self._models.values() for step in one.steps)
        plain = [(one.labels, one.work) for one in self._models.values() if not one.steps]
        yield from work.families("slipway_", ("model", "version"), plain)
        yield from self._scripts()
        for more in self.further:
            yield from more()

    def _requests(self) -> Iterator[Any]:
        family = CounterMetricFamily(
            "slipway_requests",
            "Requests by outcome: ok, or the code of the error",
            labels=["model", "version", "outcome"],
        )
        for one in self._models.values():
            for outcome, count in one.answers.items():
                family.add_metric([*one.labels, outcome], count)
        yield family

    def _stages(self) -> Iterator[Any]:
        stages = HistogramMetricFamily(
            "slipway_stage_seconds", "Time of answered requests in each stage", labels=["model", "version", "stage"]
        )
        totals = HistogramMetricFamily(
            "slipway_request_seconds",
            "Time of answered requests from their first byte to the last of the answer handed over",
            labels=["model", "version"],
        )
        for one in self._models.values():
            for stage, counts, total_s in one.stages.histograms():
                buckets = seconds_buckets(counts)
                if stage == "total":
                    totals.add_metric(one.labels, buckets, total_s)
                else:
                    stages.add_metric([*one.labels, stage], buckets, total_s)
        yield stages
        yield totals

    def _batches(self) -> Iterator[Any]:
        sizes = HistogramMetricFamily(
            "slipway_batch_rows", "Rows of each run of the model", labels=["model", "version"]
        )
        for one in self._models.values():
            sizes.add_metric(one.labels, *rows_buckets(one.batch_rows))
        yield sizes
        failed = CounterMetricFamily(
            "slipway_failed_slices",
            "Requests, or parts of large ones, that a run of the model failed on",
            labels=["model", "version"],
        )
        for one in self._models.values():
            failed.add_metric(one.labels, one.failed_slices)
        yield failed

    def _queues(self) -> Iterator[Any]:
        rows = GaugeMetricFamily("slipway_queue_rows", "Rows that wait", labels=["model", "version"])
        backlog = GaugeMetricFamily(
            "slipway_backlog_seconds", "Predicted wait of a request that arrives now", labels=["model", "version"]
        )
        load = GaugeMetricFamily(
            "slipway_load_seconds", "Time that loading and warming up took", labels=["model", "version"]
        )
        cost = GaugeMetricFamily(
            "slipway_cost_seconds",
            "Measured time of a run, by padded length (0: none) and batch size, as the scheduler has learnt it",
            labels=["model", "version", "length", "batch_size"],
        )
        for one in self._models.values():
            rows.add_metric(one.labels, one.waiting_rows())
            backlog.add_metric(one.labels, one.backlog_ns() / 1e9)
            load.add_metric(one.labels, one.load_seconds)
            for length, size, cost_ns in one.costs():
                cost.add_metric([*one.labels, str(length), str(size)], cost_ns / 1e9)
        yield from (rows, backlog, load, cost)

    def _versions(self) -> Iterator[Any]:
        memory = GaugeMetricFamily(
            "slipway_model_memory_bytes", "Memory that loading took, as the kernel counts", labels=["model", "version"]
        )
        files = GaugeMetricFamily("slipway_model_file_bytes", "Size of its files on disk", labels=["model", "version"])
        shadowed = CounterMetricFamily(
            "slipway_shadow_requests",
            "Requests copied to a shadow: same, different, failed, or skipped because it was behind",
            labels=["model", "version", "outcome"],
        )
        for one in self._models.values():
            memory.add_metric(one.labels, one.memory_bytes)
            files.add_metric(one.labels, one.file_bytes)
            for outcome, count in one.shadowed.items():
                shadowed.add_metric([*one.labels, outcome], count)
        yield from (memory, files, shadowed)

    def _caches(self) -> Iterator[Any]:
        outcomes = CounterMetricFamily(
            "slipway_cache_requests",
            "Requests by how the response cache answered: hit, shared with one under way, or miss",
            labels=["model", "version", "outcome"],
        )
        size = GaugeMetricFamily("slipway_cache_bytes", "Bytes of kept outputs", labels=["model", "version"])
        for one in self._models.values():
            size.add_metric(one.labels, one.cache_bytes())
            for outcome, count in one.cache_outcomes.items():
                outcomes.add_metric([*one.labels, outcome], count)
        yield from (outcomes, size)

    def _scripts(self) -> Iterator[Any]:
        incidents = CounterMetricFamily(
            "slipway_script_incidents",
            "Threads of a script given up, and processes of it killed or restarted",
            labels=["model", "version", "what"],
        )
        memory = GaugeMetricFamily(
            "slipway_script_worker_memory_bytes",
            "Resident memory of a script's processes, as the kernel counts",
            labels=["model", "version"],
        )
        for one in self._models.values():
            for what, count in one.script().items():
                incidents.add_metric([*one.labels, what], count)
            if one.worker_bytes is not None:
                memory.add_metric(one.labels, one.worker_bytes())
        yield from (incidents, memory)
