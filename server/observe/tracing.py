"""Tracing with OpenTelemetry: requests are noted on the event loop when they end, and exported by another thread.

The SDK's own environment variables choose exporter, sampler, propagators and the name of the service. Imported only
with ``--tracing``.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import entry_points
from time import perf_counter_ns
from typing import Any

from opentelemetry import propagate
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter

from ..errors import BadSetting
from ..request import Head, InferRequest
from .metrics import ModelMetrics
from .runs import RequestRun, runs_of
from .spans import ANSWERED, Finished, Spans

log = logging.getLogger("slipway.tracing")

MOST_WAITING = 4_096
"""Finished requests that wait for the thread; further ones are dropped and counted."""

POLL_S = 0.1
PATIENCE_NS = 2_000_000_000
"""How long the span of a run waits for those of its requests whose response is still being written."""

EXPORTERS = "opentelemetry_traces_exporter"
OTLP = {"http/protobuf": "otlp_proto_http", "grpc": "otlp_proto_grpc"}
SERVICE = "slipway"


class Tracing:
    """The requests of all models as spans. :meth:`record` runs on the event loop, everything else on one thread."""

    def __init__(self, provider: TracerProvider, clock: Callable[[], int] = perf_counter_ns) -> None:
        self._provider = provider
        self._spans = Spans(provider.get_tracer("slipway"))
        self._clock = clock
        self._fields = [(name.lower().encode(), name) for name in sorted(propagate.get_global_textmap().fields)]
        self._waiting: deque[Finished] = deque()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self.dropped = 0

    def record(
        self,
        metrics: ModelMetrics,
        head: Head,
        request: InferRequest | None,
        outcome: str,
        status: int,
        encoded_ns: int,
        sent_ns: int,
        runs: Sequence[RequestRun] = (),
    ) -> None:
        """Note a request that has its response. ``request``: None for a stream, and if it was refused before it had
        tensors.

        ``outcome``: ok, or the code of its error. ``encoded_ns``: 0 for an error. ``runs``: those of a stream.
        """
        if len(self._waiting) >= MOST_WAITING:
            self.dropped += 1
            return
        carrier = {}
        for field, name in self._fields:
            value = head.get(field)
            if value is not None:
                carrier[name] = value.decode("latin-1")
        common = metrics, head.method, head.path, carrier, outcome, status
        if request is None:
            self._waiting.append(Finished(*common, (head.begun_ns, sent_ns), runs=runs))
            return
        stamps = _stamps(head, request, encoded_ns, sent_ns)
        journey = request.journey
        steps = [(one.name, one.queue_ns, one.compute_ns) for one in journey.times] if journey is not None else []
        runs = runs_of(request) if outcome == ANSWERED else ()
        self._waiting.append(Finished(*common, stamps, request.rows, request.cached, steps, runs))

    def start(self) -> None:
        """Start the thread."""
        self._thread = threading.Thread(target=self._go_on, name="slipway-tracing", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Export what waits, and end the thread and the exporter. Blocks."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
        self.emit(everything=True)
        self._provider.shutdown()

    def emit(self, *, everything: bool = False) -> None:
        """Make the spans of the requests that wait, and end those of runs; ``everything``: also of incomplete ones."""
        now_ns = self._clock()
        while self._waiting:
            self._spans.emit(self._waiting.popleft(), now_ns)
        self._spans.end_batches(now_ns if everything else now_ns - PATIENCE_NS)

    def families(self) -> Iterator[Any]:
        """The metric family of dropped requests."""
        from prometheus_client.core import CounterMetricFamily

        yield CounterMetricFamily(
            "slipway_trace_requests_dropped", "Requests without a span because too many waited for one", self.dropped
        )

    def _go_on(self) -> None:
        while not self._ended.wait(POLL_S):
            try:
                self.emit()
            except Exception:
                log.exception("making spans failed")


def _stamps(head: Head, request: InferRequest, encoded_ns: int, sent_ns: int) -> tuple[int, ...]:
    """The ends of the stages that the request has passed, and the end of its response."""
    passed = (
        head.begun_ns,
        head.received_ns,
        request.decoded_ns,
        request.picked_ns and request.picked_ns - request.held_ns,
        request.picked_ns,
        request.assembled_ns,
        request.computed_ns,
        request.scattered_ns,
        encoded_ns,
    )
    known = passed.index(0) if 0 in passed else len(passed)
    return (*passed[:known], sent_ns)


def provider_of(environ: Mapping[str, str]) -> TracerProvider:
    """A provider with the exporters that OTEL_TRACES_EXPORTER names (otlp). Raises BadSetting for one that is not
    installed."""
    resource = Resource.create()
    if str(resource.attributes.get(SERVICE_NAME, "")).startswith("unknown_service"):  # no variable names it
        resource = resource.merge(Resource({SERVICE_NAME: SERVICE}))
    provider = TracerProvider(resource=resource)
    for name in (environ.get("OTEL_TRACES_EXPORTER") or "otlp").split(","):
        if name.strip() not in ("", "none"):
            provider.add_span_processor(BatchSpanProcessor(_exporter(name.strip(), environ)))
    return provider


def _exporter(name: str, environ: Mapping[str, str]) -> SpanExporter:
    if name == "otlp":
        asked = environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or environ.get("OTEL_EXPORTER_OTLP_PROTOCOL")
        name = OTLP.get(asked or "http/protobuf", asked or "")
    for found in entry_points(group=EXPORTERS, name=name):
        make: Callable[[], SpanExporter] = found.load()
        return make()
    known = ", ".join(sorted({one.name for one in entry_points(group=EXPORTERS)}))
    raise BadSetting(f"no exporter of traces named {name!r} is installed; OTEL_TRACES_EXPORTER may be otlp, or {known}")
