"""Spans: stages as children, batches with links, traces of clients, sampling, exemplars, and what is dropped."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("opentelemetry.sdk", reason="the extra 'tracing' is not installed")

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased, TraceIdRatioBased
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from server.errors import BadSetting
from server.observe import tracing
from server.observe.metrics import Metrics, ModelMetrics
from server.observe.runs import RequestRun
from server.observe.tracing import PATIENCE_NS, Tracing, provider_of
from server.request import STAGES, Head, InferRequest, Journey, StepTimes
from tests.fakes import FakeClock

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
MS = 1_000_000
STAGE_NS = tuple(stage * MS for stage in range(1, 10))
"""A different time for each stage."""


class Traced:
    """A tracing whose spans stay in memory."""

    def __init__(self, sampler: Any = None) -> None:
        self.exporter = InMemorySpanExporter()
        provider = TracerProvider(sampler=sampler)
        provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.clock = FakeClock()
        self.tracing = Tracing(provider, self.clock)
        self.metrics = ModelMetrics("m", "1")

    def request(
        self, *headers: tuple[bytes, bytes], begun_ns: int = 1_000, rows: int = 1, run_rows: int = 1, **more: Any
    ) -> None:
        """Record an answered request."""
        busy_ns, timer_ns = STAGE_NS[2:4]
        stamps = list(itertools.accumulate(STAGE_NS, initial=begun_ns))
        request = InferRequest((), rows, lambda _: None, decoded_ns=stamps[2])
        request.held_ns, request.run_rows = timer_ns, run_rows
        request.picked_ns, request.assembled_ns, request.computed_ns, request.scattered_ns = stamps[4:8]
        assert request.picked_ns == stamps[2] + busy_ns + timer_ns
        for key, value in more.items():
            setattr(request, key, value)
        head = Head(b"POST", b"/invocations", list(headers), stamps[0], stamps[1])
        self.tracing.record(self.metrics, head, request, "ok", 200, stamps[8], stamps[9])

    def spans(self, **how: bool) -> list[ReadableSpan]:
        self.tracing.emit(**how)
        return list(self.exporter.get_finished_spans())


@pytest.fixture
def traced() -> Iterator[Traced]:
    one = Traced()
    yield one
    one.tracing.close()


def named(spans: list[ReadableSpan], name: str) -> list[ReadableSpan]:
    return [span for span in spans if span.name == name]


def took(span: ReadableSpan) -> int:
    assert span.start_time is not None
    assert span.end_time is not None
    return span.end_time - span.start_time


def test_a_request_is_one_span_with_its_stages_as_children(traced: Traced) -> None:
    traced.request()
    spans = traced.spans()
    (whole,) = named(spans, "infer m")
    assert took(whole) == sum(STAGE_NS)
    assert whole.attributes is not None
    assert whole.attributes["slipway.model"] == "m"
    assert whole.attributes["http.response.status_code"] == 200
    children = [span for span in spans if span.name in STAGES]
    assert [span.name for span in children] == list(STAGES)
    assert [took(span) for span in children] == list(STAGE_NS)
    assert all(span.parent is not None and span.parent.span_id == whole.context.span_id for span in children)
    assert children[0].start_time == whole.start_time
    assert children[-1].end_time == whole.end_time


def test_a_client_s_trace_is_continued_and_its_decision_not_to_sample_is_kept(traced: Traced) -> None:
    traced.request((b"traceparent", f"00-{TRACE}-{PARENT}-01".encode()), (b"tracestate", b"a=1"))
    traced.request((b"traceparent", f"00-{TRACE}-{PARENT}-00".encode()))
    traced.request((b"traceparent", b"nonsense"))
    continued, fresh = named(traced.spans(), "infer m")
    assert f"{continued.context.trace_id:032x}" == TRACE
    assert continued.parent is not None
    assert f"{continued.parent.span_id:016x}" == PARENT
    assert continued.context.trace_state.to_header() == "a=1"
    assert fresh.parent is None


def test_a_batch_is_one_span_that_is_linked_to_its_requests(traced: Traced) -> None:
    for _ in range(2):
        traced.request(rows=2, run_rows=4)
        traced.request(begun_ns=5, rows=1, run_rows=1)
    spans = traced.spans()
    batches = named(spans, "batch")
    shared = next(span for span in batches if len(span.links) == 2)
    assert took(shared) == STAGE_NS[4] + STAGE_NS[5]
    whole = {span.context.span_id: span for span in named(spans, "infer m")}
    assert len(whole) == 4
    for link in shared.links:
        back = [one.context.span_id for one in whole[link.context.span_id].links]
        assert back == [shared.context.span_id]
    assert sorted(len(span.links) for span in batches) == [1, 1, 2]


def test_a_batch_waits_for_its_requests_for_a_bounded_time(traced: Traced) -> None:
    traced.request(rows=1, run_rows=2)
    assert named(traced.spans(), "batch") == []
    traced.clock.now_ns += PATIENCE_NS
    assert len(named(traced.spans(), "batch")) == 1
    traced.request(rows=1, run_rows=2)
    assert len(named(traced.spans(everything=True), "batch")) == 2
    assert len(named(traced.spans(), "infer m")) == 2


def test_each_step_of_a_pipeline_has_the_batches_that_its_requests_shared(traced: Traced) -> None:
    for alone_ns in (5_000, 6_000):
        journey = Journey((), 1, 0)
        journey.times = [
            StepTimes("tokenize", 0, 0, 1_000, 1, alone_ns, 1),
            StepTimes("encode", 2_000, 500, 3_000, 2, 20_000, 1),
        ]
        traced.request(journey=journey)
    spans = traced.spans()
    whole = named(spans, "infer m")
    shared, *alone = sorted(named(spans, "batch"), key=lambda span: -len(span.links))
    assert shared.attributes is not None
    assert (shared.attributes["slipway.step"], shared.attributes["slipway.rows"], took(shared)) == ("encode", 2, 3_500)
    assert {link.context.span_id for link in shared.links} == {span.context.span_id for span in whole}
    assert [len(span.links) for span in alone] == [1, 1]
    assert [len(span.links) for span in whole] == [2, 2]


def test_a_stream_has_the_batches_of_its_parts(traced: Traced) -> None:
    head = Head(b"POST", b"/invocations", [], 1_000, 2_000)
    runs = [RequestRun("", 3_000, 4_000, 2, 2), RequestRun("", 5_000, 6_000, 1, 1)]
    traced.tracing.record(traced.metrics, head, None, "ok", 200, 0, 9_000, runs)
    spans = traced.spans()
    (whole,) = named(spans, "infer m")
    assert {link.context.span_id for link in whole.links} == {span.context.span_id for span in named(spans, "batch")}
    assert [took(span) for span in named(spans, "batch")] == [1_000, 1_000]


def test_cached_and_cut_requests_belong_to_no_batch(traced: Traced) -> None:
    traced.request(cached="hit")
    traced.request(rows=5, run_rows=4)
    journey = Journey((), 1, 0)
    journey.times = [StepTimes("encode", 2_000, 0, 3_000, 4, 9_000, 5)]
    traced.request(journey=journey)
    spans = traced.spans()
    cached, cut, steps = named(spans, "infer m")
    assert named(spans, "batch") == []
    assert cached.attributes is not None
    assert cached.attributes["slipway.cache"] == "hit"
    assert cut.attributes is not None
    assert cut.attributes["slipway.rows"] == 5
    assert steps.attributes is not None
    assert steps.attributes["slipway.step.encode.compute_us"] == 3


def test_a_failed_request_has_the_stages_that_it_passed(traced: Traced) -> None:
    head = Head(b"POST", b"/invocations", [], 1_000, 2_000)
    early = InferRequest((), 1, lambda _: None, decoded_ns=3_000)
    traced.tracing.record(traced.metrics, head, early, "deadline_exceeded", 504, 0, 9_000)
    traced.tracing.record(traced.metrics, head, None, "malformed_input", 400, 0, 9_000)
    spans = traced.spans()
    late, malformed = named(spans, "infer m")
    assert [span.name for span in spans if span.name in STAGES] == ["receive", "decode", "queue_busy", "receive"]
    assert late.attributes is not None
    assert (late.attributes["error.type"], late.status.is_ok) == ("deadline_exceeded", False)
    assert malformed.status.is_ok
    assert took(late) == took(malformed) == 8_000


def test_nothing_is_made_of_requests_that_are_not_sampled() -> None:
    traced = Traced(ParentBased(TraceIdRatioBased(0.0)))
    traced.request()
    assert traced.spans() == []
    traced.request((b"traceparent", f"00-{TRACE}-{PARENT}-01".encode()))
    assert len(named(traced.spans(), "infer m")) == 1
    off = Traced(ALWAYS_OFF)
    off.request()
    assert off.spans() == []


def test_requests_beyond_the_bound_are_dropped_and_counted(traced: Traced, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracing, "MOST_WAITING", 2)
    for _ in range(5):
        traced.request()
    assert traced.tracing.dropped == 3
    assert len(named(traced.spans(), "infer m")) == 2


def test_sampled_requests_are_exemplars_of_the_histograms(traced: Traced) -> None:
    metrics = Metrics(lambda: True, "1")
    metrics.add(traced.metrics)
    head = Head(b"POST", b"/", [], 0, MS)
    stamps = list(itertools.accumulate(STAGE_NS, initial=0))
    request = InferRequest((), 1, lambda _: None, decoded_ns=stamps[2])
    request.held_ns = STAGE_NS[3]
    request.picked_ns, request.assembled_ns, request.computed_ns, request.scattered_ns = stamps[4:8]
    traced.metrics.stages.record(request, head.begun_ns, head.received_ns, stamps[8], stamps[9])
    traced.request()
    (whole,) = named(traced.spans(), "infer m")
    text = metrics.exposition(list(metrics.copies())).text(openmetrics=True).decode()
    found = {}
    for family in text_string_to_metric_families(text):  # type: ignore[no-untyped-call]
        for sample in family.samples:
            if sample.exemplar is not None:
                found[sample.name, sample.labels.get("stage", "")] = sample
    assert {stage for name, stage in found if name == "slipway_stage_seconds_bucket"} == set(STAGES)
    total = found["slipway_request_seconds_bucket", ""]
    assert total.exemplar.labels["trace_id"] == f"{whole.context.trace_id:032x}"
    assert total.exemplar.value == pytest.approx(sum(STAGE_NS) / 1e9)
    assert float(total.labels["le"]) >= total.exemplar.value
    assert "trace_id" not in metrics.text().decode()


@pytest.mark.parametrize(
    ("environ", "named"),
    [({"OTEL_TRACES_EXPORTER": "no_such"}, "no_such"), ({"OTEL_EXPORTER_OTLP_PROTOCOL": "x"}, "x")],
)
def test_an_exporter_that_is_not_installed_is_refused_by_name(environ: dict[str, str], named: str) -> None:
    with pytest.raises(BadSetting, match=f"{named!r}.*console"):
        provider_of(environ)


def test_the_service_has_a_name() -> None:
    provider = provider_of({"OTEL_TRACES_EXPORTER": "none"})
    assert provider.resource.attributes["service.name"] == "slipway"
