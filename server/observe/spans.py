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

LONGEST_PATH = 500
ANSWERED = "ok"


@dataclass(frozen=True, slots=True)
class Finished:
    """One request that has its response, without its tensors.

    ``stamps`` are the ends of its stages, beginning with its first byte (``perf_counter_ns``): ten of them, fewer for a
    request that ended early. ``carrier`` has the headers of the trace that it belongs to. ``batch``: the end of its
    run, which it shares with the other requests of that run; 0 where it was not in one. ``steps``: of a pipeline, name,
    nanoseconds in its queue and of its run.
    """

    metrics: ModelMetrics
    method: bytes
    path: bytes
    carrier: Mapping[str, str]
    outcome: str
    status: int
    stamps: tuple[int, ...]
    rows: int = 0
    run_rows: int = 0
    batch: int = 0
    cached: str = ""
    steps: Sequence[tuple[str, int, int]] = ()


class Spans:
    """Makes the spans of requests, and notes the sampled ones as exemplars of the histograms."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    def emit(self, group: Sequence[Finished]) -> None:
        """The spans of the requests of one run, or of one request that was in none."""
        epoch_ns = time_ns() - perf_counter_ns()
        sampled = [(one, span) for one in group if (span := self._begin(one, epoch_ns)).is_recording()]
        if sampled and sampled[0][0].batch:
            self._batch(sampled, epoch_ns)
        for one, span in sampled:
            self._stages(one, span, epoch_ns)
            span.end(one.stamps[-1] + epoch_ns)
            self._exemplars(one, span, epoch_ns)

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

    def _batch(self, sampled: Sequence[tuple[Finished, Span]], epoch_ns: int) -> None:
        """The span of a run: in the trace of its first request, linked to all of them, and they to it."""
        first, parent = sampled[0]
        picked_ns, computed_ns = first.stamps[4], first.stamps[6]
        batch = self._tracer.start_span(
            "batch",
            set_span_in_context(parent),
            SpanKind.INTERNAL,
            {"slipway.model": first.metrics.labels[0], "slipway.rows": first.run_rows},
            [Link(span.get_span_context()) for _, span in sampled],
            picked_ns + epoch_ns,
        )
        for _, span in sampled:
            span.add_link(batch.get_span_context())
        batch.end(computed_ns + epoch_ns)

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
