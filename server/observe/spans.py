"""Spans: a finished request is one with its stages as children; a batch is one that is linked to its requests.

Everything here runs on the tracing thread, after the response has been sent. Imported only with ``--tracing``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from time import perf_counter_ns, time_ns
from typing import Any

from opentelemetry import propagate
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode, Tracer, set_span_in_context

from ..request import STAGES
from .metrics import ModelMetrics
from .runs import RequestRun

LONGEST_PATH = 500
ANSWERED = "ok"

Key = tuple[tuple[str, str], str, int]
"""Model and version, step, and the end of a run."""


@dataclass(frozen=True, slots=True)
class Finished:
    """One request that has its response, without its tensors.

    ``stamps`` are the ends of its stages, beginning with its first byte (``perf_counter_ns``): ten of them, fewer for a
    request that ended early. ``carrier`` has the headers of the trace that it belongs to. ``runs``: those that it was
    in, which it shares with other requests. ``steps``: of a pipeline, name, nanoseconds in its queue and of its run.
    """

    metrics: ModelMetrics
    method: bytes
    path: bytes
    carrier: Mapping[str, str]
    outcome: str
    status: int
    stamps: tuple[int, ...]
    rows: int = 0
    cached: str = ""
    steps: Sequence[tuple[str, int, int]] = ()
    runs: Sequence[RequestRun] = ()


@dataclass(slots=True)
class Batch:
    """A run of which requests are still expected: ``left`` rows of them, since ``since_ns``. ``span``: None until one
    of its requests is sampled. ``end_ns``: of the run, since the Unix epoch."""

    left: int
    since_ns: int
    end_ns: int
    span: Span | None = None


class Spans:
    """Makes the spans of requests and of runs, and notes the sampled requests as exemplars of the histograms."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer
        self._batches: dict[Key, Batch] = {}

    def emit(self, one: Finished, now_ns: int) -> None:
        """The spans of one request; those of its runs begin with the first of their requests that is sampled."""
        epoch_ns = time_ns() - perf_counter_ns()
        span = self._begin(one, epoch_ns)
        for run in one.runs:
            self._join(one, run, span, now_ns, epoch_ns)
        if span.is_recording():
            self._stages(one, span, epoch_ns)
            span.end(one.stamps[-1] + epoch_ns)
            self._exemplars(one, span, epoch_ns)

    def end_batches(self, since_ns: int) -> None:
        """End the spans of the runs that have waited for their requests since then or longer."""
        for key in [key for key, batch in self._batches.items() if batch.since_ns <= since_ns]:
            self._end(key)

    def _end(self, key: Key) -> None:
        batch = self._batches.pop(key)
        if batch.span is not None:
            batch.span.end(batch.end_ns)

    def _begin(self, one: Finished, epoch_ns: int) -> Span:
        model, version = one.metrics.labels
        attributes: dict[str, Any] = {
            "http.request.method": one.method.decode("latin-1"),
            "url.path": one.path.decode("latin-1")[:LONGEST_PATH],
            "http.response.status_code": one.status,
            "slipway.model": model,
            "slipway.version": version,
            "slipway.outcome": one.outcome,
        }
        if one.rows:
            attributes["slipway.rows"] = one.rows
        if one.cached:
            attributes["slipway.cache"] = one.cached
        for name, queue_ns, compute_ns in one.steps:
            attributes[f"slipway.step.{name}.queue_us"] = queue_ns // 1_000
            attributes[f"slipway.step.{name}.compute_us"] = compute_ns // 1_000
        span = self._tracer.start_span(
            f"infer {model}",
            propagate.extract(one.carrier),
            SpanKind.SERVER,
            attributes,
            start_time=one.stamps[0] + epoch_ns,
        )
        if one.outcome != ANSWERED:
            span.set_attribute("error.type", one.outcome)
            if one.status >= 500:
                span.set_status(Status(StatusCode.ERROR))
        return span

    def _join(self, one: Finished, run: RequestRun, span: Span, now_ns: int, epoch_ns: int) -> None:
        """Count the rows of a request in the span of its run: that lies in the trace of the first sampled request, has
        links to all of them, and they to it."""
        key = one.metrics.labels, run.step, run.computed_ns
        batch = self._batches.get(key)
        if batch is None:
            batch = self._batches[key] = Batch(run.run_rows, now_ns, run.computed_ns + epoch_ns)
        batch.left -= run.rows
        if span.is_recording():
            self._link(one, run, span, batch, epoch_ns)
        if batch.left <= 0:
            self._end(key)

    def _link(self, one: Finished, run: RequestRun, span: Span, batch: Batch, epoch_ns: int) -> None:
        if batch.span is not None:
            batch.span.add_link(span.get_span_context())
        else:
            attributes: dict[str, Any] = {"slipway.model": one.metrics.labels[0], "slipway.rows": run.run_rows}
            if run.step:
                attributes["slipway.step"] = run.step
            batch.span = self._tracer.start_span(
                "batch",
                set_span_in_context(span),
                SpanKind.INTERNAL,
                attributes,
                [Link(span.get_span_context())],
                run.picked_ns + epoch_ns,
            )
        span.add_link(batch.span.get_span_context())

    def _stages(self, one: Finished, span: Span, epoch_ns: int) -> None:
        context = set_span_in_context(span)
        for stage, (begin_ns, end_ns) in zip(STAGES, pairwise(one.stamps), strict=False):
            child = self._tracer.start_span(stage, context, SpanKind.INTERNAL, start_time=begin_ns + epoch_ns)
            child.end(end_ns + epoch_ns)

    def _exemplars(self, one: Finished, span: Span, epoch_ns: int) -> None:
        if one.outcome != ANSWERED or len(one.stamps) != len(STAGES) + 1:
            return
        context = span.get_span_context()
        durations_ns = [end - begin for begin, end in pairwise(one.stamps)]
        one.metrics.exemplars.note(
            [*durations_ns, one.stamps[-1] - one.stamps[0]],
            f"{context.trace_id:032x}",
            f"{context.span_id:016x}",
            (one.stamps[-1] + epoch_ns) / 1e9,
        )
