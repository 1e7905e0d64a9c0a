"""The metrics of models and of the server: counted on the hot path, copied at a scrape.

A request adds its rows and its ten time stamps to a flat buffer of integers. numpy counts the buffer into histograms,
a few hundred requests at a time or at a scrape. A request costs no look-up, no lock and no formatting.
"""

from __future__ import annotations

import copy
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter_ns
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..request import STAGES, InferRequest
from . import batch_times
from .batch_times import Batches
from .choices import Choices
from .exemplars import Exemplars
from .exposition import Exposition, entry
from .histograms import Histograms
from .run_counters import Run, RunCounters
from .steps import StepMetrics

T = TypeVar("T")

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = b"application/openmetrics-text; version=1.0.0; charset=utf-8"
STAMPS = 10
VALUES = 1 + STAMPS
"""Integers of a request in the buffer: its rows, then its time stamps."""

PENDING_REQUESTS = 512


@dataclass(frozen=True, slots=True)
class StageTotals:
    """Successful requests, their rows, and the nanoseconds that they spent in each stage together."""

    requests: int
    rows: int
    ns: Mapping[str, int]


@dataclass(slots=True)
class Cached:
    """Responses from the cache: requests, rows, and the nanoseconds from their submission to their outputs."""

    requests: int = 0
    rows: int = 0
    ns: int = 0

    def add(self, rows: int, ns: int) -> None:
        """Count one response."""
        self.requests += 1
        self.rows += rows
        self.ns += ns


class StageClock:
    """Histograms of the nine stages and of their total, over successful requests."""

    def __init__(self) -> None:
        self._pending = array("q")
        self._histograms = Histograms(len(STAGES) + 1)
        self._last_ns = 0
        self._rows = 0

    @property
    def last_ns(self) -> int:
        """Time of the last response (``perf_counter_ns``), 0 before the first."""
        return self._pending[-1] if self._pending else self._last_ns

    def record(self, request: InferRequest, begun_ns: int, received_ns: int, encoded_ns: int, sent_ns: int) -> None:
        """Record the rows and the time stamps of one request."""
        self._pending.extend(
            (
                request.rows,
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
        if len(self._pending) >= VALUES * PENDING_REQUESTS:
            self._fold()

    def histograms(self) -> Iterator[tuple[str, list[int], float]]:
        """(stage or ``total``, cumulative bucket counts, sum in seconds)."""
        self._fold()
        for index, stage in enumerate((*STAGES, "total")):
            yield stage, *self._histograms.cumulative(index)

    def totals(self) -> StageTotals:
        """Requests, rows and times up to now."""
        self._fold()
        spent = {stage: self._histograms.total(index) for index, stage in enumerate(STAGES)}
        return StageTotals(spent[STAGES[0]][0], self._rows, {stage: ns for stage, (_, ns) in spent.items()})

    def copied(self) -> StageClock:
        """A copy of the counts up to now."""
        self._fold()
        clock = StageClock()
        clock._histograms, clock._rows = self._histograms.copied(), self._rows
        return clock

    def _fold(self) -> None:
        if not self._pending:
            return
        values = np.frombuffer(self._pending, np.int64).reshape(-1, VALUES)
        self._histograms.add(stage_durations_ns(values[:, 1:]))
        self._rows += int(values[:, 0].sum())
        self._last_ns = self._pending[-1]
        self._pending = array("q")


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
        self.batches: Batches = {}
        self.failed_slices = 0
        self.work = RunCounters()
        self.choices: Choices | None = None
        """Of a model with one queue; None for a pipeline."""
        self.contention: Callable[[], float] = lambda: 1.0
        self.file_bytes = 0
        self.waiting_rows: Callable[[], int] = lambda: 0
        self.backlog_ns: Callable[[], int] = lambda: 0
        self.load_seconds = 0.0
        self.memory_bytes = 0
        self.cache_outcomes: Counter[str] = Counter()
        self.cache_bytes: Callable[[], int] = lambda: 0
        self.cache_miss_ns: Callable[[], int] = lambda: 0
        """Time of look-ups that found nothing."""
        self.cached = Cached()
        self.failed_ns = 0
        """Time from the last byte of failed requests to their error."""
        self.streamed_rows = 0
        """Rows of streams behind their first part, which alone counts as a request."""
        self.shadowed: Counter[str] = Counter()
        """Requests copied to this version as a shadow, by outcome: same, different, failed, skipped."""
        self.script: Callable[[], Mapping[str, int]] = dict
        """Incidents of a script by kind: threads given up, workers killed, restarted and outgrown."""
        self.worker_bytes: Callable[[], int] | None = None
        self.costs: Callable[[], Sequence[tuple[int, int, int]]] = lambda: ()
        self.device: Callable[[], Mapping[str, int]] | None = None
        """Counts of the runs on GPUs; None on the CPU."""
        self.exemplars = Exemplars()
        """Sampled requests of the stages and of their total."""
        self.steps: Sequence[StepMetrics] = ()
        """The steps of a pipeline, in order."""

    def record_run(self, run: Run, failed_slices: int) -> None:
        """Count one run of a batch, and the slices of it that failed."""
        batch_times.record(self.batches, run)
        self.failed_slices += failed_slices
        self.work.record(run)

    def fail(self, code: str, received_ns: int) -> None:
        """Count a request, received at ``received_ns``, that ends now with the error of this code."""
        self.answers[code] += 1
        self.failed_ns += perf_counter_ns() - received_ns

    def copied(self) -> ModelMetrics:
        """A copy of this moment, which another thread may read. Its callables return what they return now."""
        one = copy.copy(self)
        one.stages = self.stages.copied()
        one.exemplars = self.exemplars.copied()
        one.answers, one.batches = self.answers.copy(), batch_times.copied(self.batches)
        one.cached = copy.copy(self.cached)
        one.cache_outcomes, one.shadowed = self.cache_outcomes.copy(), self.shadowed.copy()
        one.work = self.work.copied()
        one.waiting_rows = _constant(self.waiting_rows())
        one.contention = _constant(self.contention())
        one.backlog_ns = _constant(self.backlog_ns())
        one.cache_bytes = _constant(self.cache_bytes())
        one.cache_miss_ns = _constant(self.cache_miss_ns())
        one.costs = _constant(self.costs())
        one.script = _constant(dict(self.script()))
        one.worker_bytes = None if self.worker_bytes is None else _constant(self.worker_bytes())
        one.steps = [step.copied() for step in self.steps]
        one.device = None if self.device is None else _constant(dict(self.device()))
        return one


def _constant(value: T) -> Callable[[], T]:
    return lambda: value


class Metrics:
    """All metrics of ``/metrics``, over all models."""

    def __init__(self, ready: Callable[[], bool], version: str) -> None:
        self._ready = ready
        self._version = version
        self._models: dict[tuple[str, str], ModelMetrics] = {}
        self.refused: Counter[str] = Counter()
        """Error codes of requests that reached no model: unknown model, oversize body, ..."""
        self.further: list[Callable[[], Iterator[Any]]] = []
        """Callables that return further metric families at each scrape."""

    def add(self, model: ModelMetrics) -> None:
        """Show a model. Called on the event loop, as scrapes are."""
        self._models[model.labels] = model

    def remove(self, model: ModelMetrics) -> None:
        """Remove a model, which holds its scheduler. A newer version under the same labels stays."""
        if self._models.get(model.labels) is model:
            del self._models[model.labels]

    def copies(self) -> Iterator[ModelMetrics | None]:
        """A copy of each model's metrics, None for one that cannot be read. Models may come and go meanwhile."""
        for model in list(self._models.values()):
            one = None
            with entry(model.labels):
                one = model.copied()
            yield one

    def exposition(self, copies: Sequence[ModelMetrics | None]) -> Exposition:
        """The exposition of these models and of the server now. Called on the event loop; its text is not."""
        further: list[Any] = []
        for more in self.further:
            with entry("process"):
                further += list(more())
        models = [one for one in copies if one is not None]
        return Exposition(self._version, self._ready(), self.refused.copy(), models, further)

    def text(self) -> bytes:
        """The Prometheus text format of this moment, at once."""
        return self.exposition(list(self.copies())).text()
