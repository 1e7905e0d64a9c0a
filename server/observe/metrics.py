"""The metrics of models and of the server: counted on the hot path, formatted at a scrape.

A request adds its ten time stamps to a flat buffer of integers. numpy counts the buffer into histograms, a few hundred
requests at a time or at a scrape. A request costs no look-up, no lock and no formatting.

Longer than 300 lines: one method for each group of families.
"""

from __future__ import annotations

import contextlib
import logging
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
from . import choices, run_counters, steps
from .choices import Choices
from .histograms import Histograms, rows_buckets, seconds_buckets
from .run_counters import Run, RunCounters
from .steps import StepMetrics

log = logging.getLogger("slipway.metrics")

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"
STAMPS = 10
PENDING_REQUESTS = 512


class StageClock:
    """Histograms of the nine stages and of their total, over successful requests."""

    def __init__(self) -> None:
        self._pending = array("q")
        self._histograms = Histograms(len(STAGES) + 1)
        self._last_ns = 0

    @property
    def last_ns(self) -> int:
        """Time of the last response (``perf_counter_ns``), 0 before the first."""
        return self._pending[-1] if self._pending else self._last_ns

    def record(self, request: InferRequest, begun_ns: int, received_ns: int, encoded_ns: int, sent_ns: int) -> None:
        """Record the time stamps of one request."""
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

    The stages of a request add up to its total: each begins at the end of the one before.
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
    """The counters of one version of one model. Its callables are called at each scrape."""

    def __init__(self, model: str, version: str) -> None:
        self.labels = (model, version)
        self.stages = StageClock()
        self.answers: Counter[str] = Counter()
        self.batch_rows: Counter[int] = Counter()
        self.failed_slices = 0
        self.work = RunCounters()
        self.choices: Choices | None = None
        """Of a model with one queue; None for a pipeline."""
        self.file_bytes = 0
        self.waiting_rows: Callable[[], int] = lambda: 0
        self.backlog_ns: Callable[[], int] = lambda: 0
        self.load_seconds = 0.0
        self.memory_bytes = 0
        self.cache_outcomes: Counter[str] = Counter()
        self.cache_bytes: Callable[[], int] = lambda: 0
        self.shadowed: Counter[str] = Counter()
        """Requests copied to this version as a shadow, by outcome: same, different, failed, skipped."""
        self.script: Callable[[], Mapping[str, int]] = dict
        """Incidents of a script by kind: threads given up, workers killed, restarted and outgrown."""
        self.worker_bytes: Callable[[], int] | None = None
        self.costs: Callable[[], Sequence[tuple[int, int, int]]] = lambda: ()
        self.steps: Sequence[StepMetrics] = ()
        """The steps of a pipeline, in order."""

    def record_run(self, run: Run, failed_slices: int) -> None:
        """Count one run of a batch, and the slices of it that failed."""
        self.batch_rows[run.rows] += 1
        self.failed_slices += failed_slices
        self.work.record(run)


@contextlib.contextmanager
def entry(what: object) -> Iterator[None]:
    """Log the failure of one entry of a scrape, which goes on with the others."""
    try:
        yield
    except Exception:
        log.exception("reading metrics failed of=%s", what)


class Metrics(Collector):
    """All metrics of ``/metrics``, over all models."""

    def __init__(self, ready: Callable[[], bool], version: str) -> None:
        self._ready = ready
        self._version = version
        self._models: dict[tuple[str, str], ModelMetrics] = {}
        self.refused: Counter[str] = Counter()
        """Error codes of requests that reached no model: unknown model, oversize body, ..."""
        self.further: list[Callable[[], Iterator[Any]]] = []
        """Callables that return further metric families at each scrape."""
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def add(self, model: ModelMetrics) -> None:
        """Show a model. Called on the event loop, as scrapes are."""
        self._models[model.labels] = model

    def remove(self, model: ModelMetrics) -> None:
        """Remove a model, which holds its scheduler. A newer version under the same labels stays."""
        if self._models.get(model.labels) is model:
            del self._models[model.labels]

    def exposition(self) -> bytes:
        """The Prometheus text format."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Any]:
        info = GaugeMetricFamily("slipway_build_info", "Always 1; the label is the version", labels=["version"])
        info.add_metric([self._version], 1)
        yield info
        yield GaugeMetricFamily("slipway_ready", "1 while /ping responds 200, else 0", value=float(self._ready()))
        refused = CounterMetricFamily(
            "slipway_refused", "Requests refused before they reached a model", labels=["code"]
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
        yield from run_counters.families("slipway_", ("model", "version"), plain)
        yield from choices.families(
            (one.labels, one.choices) for one in self._models.values() if one.choices is not None
        )
        yield from self._scripts()
        for more in self.further:
            with entry("process"):
                yield from list(more())

    def _requests(self) -> Iterator[Any]:
        family = CounterMetricFamily(
            "slipway_requests",
            "Requests by outcome: ok, or the code of the error",
            labels=["model", "version", "outcome"],
        )
        for one in self._models.values():
            with entry(one.labels):
                for outcome, count in one.answers.items():
                    family.add_metric([*one.labels, outcome], count)
        yield family

    def _stages(self) -> Iterator[Any]:
        stages = HistogramMetricFamily(
            "slipway_stage_seconds", "Time of successful requests in each stage", labels=["model", "version", "stage"]
        )
        totals = HistogramMetricFamily(
            "slipway_request_seconds",
            "Time of successful requests, from their first byte to the last byte of the response",
            labels=["model", "version"],
        )
        for one in self._models.values():
            with entry(one.labels):
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
            with entry(one.labels):
                sizes.add_metric(one.labels, *rows_buckets(one.batch_rows))
        yield sizes
        failed = CounterMetricFamily(
            "slipway_failed_slices",
            "Requests, or parts of large requests, that failed in a run of the model",
            labels=["model", "version"],
        )
        for one in self._models.values():
            with entry(one.labels):
                failed.add_metric(one.labels, one.failed_slices)
        yield failed

    def _queues(self) -> Iterator[Any]:
        rows = GaugeMetricFamily("slipway_queue_rows", "Rows in the queue", labels=["model", "version"])
        backlog = GaugeMetricFamily(
            "slipway_backlog_seconds", "Predicted wait of a request that arrives now", labels=["model", "version"]
        )
        load = GaugeMetricFamily("slipway_load_seconds", "Time of loading and warm-up", labels=["model", "version"])
        cost = GaugeMetricFamily(
            "slipway_cost_seconds",
            "Measured time of a run, by padded length (0: no padding) and batch size",
            labels=["model", "version", "length", "batch_size"],
        )
        for one in self._models.values():
            with entry(one.labels):
                rows.add_metric(one.labels, one.waiting_rows())
                backlog.add_metric(one.labels, one.backlog_ns() / 1e9)
                load.add_metric(one.labels, one.load_seconds)
                for length, size, cost_ns in one.costs():
                    cost.add_metric([*one.labels, str(length), str(size)], cost_ns / 1e9)
        yield from (rows, backlog, load, cost)

    def _versions(self) -> Iterator[Any]:
        memory = GaugeMetricFamily(
            "slipway_model_memory_bytes", "Resident memory added by loading the model", labels=["model", "version"]
        )
        files = GaugeMetricFamily("slipway_model_file_bytes", "Size of the model's files", labels=["model", "version"])
        shadowed = CounterMetricFamily(
            "slipway_shadow_requests",
            "Requests copied to a shadow, by outcome: same, different, failed, or skipped (the shadow was behind)",
            labels=["model", "version", "outcome"],
        )
        for one in self._models.values():
            with entry(one.labels):
                memory.add_metric(one.labels, one.memory_bytes)
                files.add_metric(one.labels, one.file_bytes)
                for outcome, count in one.shadowed.items():
                    shadowed.add_metric([*one.labels, outcome], count)
        yield from (memory, files, shadowed)

    def _caches(self) -> Iterator[Any]:
        outcomes = CounterMetricFamily(
            "slipway_cache_requests",
            "Requests by outcome of the response cache: hit, shared with a running request, or miss",
            labels=["model", "version", "outcome"],
        )
        size = GaugeMetricFamily("slipway_cache_bytes", "Bytes of cached outputs", labels=["model", "version"])
        for one in self._models.values():
            with entry(one.labels):
                size.add_metric(one.labels, one.cache_bytes())
                for outcome, count in one.cache_outcomes.items():
                    outcomes.add_metric([*one.labels, outcome], count)
        yield from (outcomes, size)

    def _scripts(self) -> Iterator[Any]:
        incidents = CounterMetricFamily(
            "slipway_script_incidents",
            "Threads of a script that were given up, and worker processes that were killed, restarted or outgrown",
            labels=["model", "version", "what"],
        )
        memory = GaugeMetricFamily(
            "slipway_script_worker_memory_bytes",
            "Resident memory of a script's worker processes",
            labels=["model", "version"],
        )
        for one in self._models.values():
            with entry(one.labels):
                for what, count in one.script().items():
                    incidents.add_metric([*one.labels, what], count)
                if one.worker_bytes is not None:
                    memory.add_metric(one.labels, one.worker_bytes())
        yield from (incidents, memory)
