"""Tracing and structured logs in a real process: the SDK's own exporters, and exemplars in a scrape."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from tests.integration import sample_models
from tests.integration.conftest import Serve
from tests.integration.server_process import JSON, ServerProcess, eventually, instances

pytest.importorskip("opentelemetry.sdk", reason="the extra 'tracing' is not installed")

TRACE = "0af7651916cd43dd8448eb211c80319c"
SAMPLED = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}
ROWS = instances([1.0] * 4)


class Collector(BaseHTTPRequestHandler):
    """Takes what the OTLP exporter posts."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.received.append((self.path, body))  # type: ignore[attr-defined]
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@pytest.fixture
def collector() -> Iterator[Any]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Collector) as server:
        server.received = []  # type: ignore[attr-defined]
        Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def test_spans_reach_a_collector_and_exemplars_a_scrape(serve: Serve, tmp_path: Path, collector: Any) -> None:
    environ = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.server_port}",
        "OTEL_BSP_SCHEDULE_DELAY": "100",
    }
    server = serve(sample_models.fake(tmp_path / "m", poison=666), "--tracing", environ=environ).ready()
    for path in ("/invocations", "/invocations?cold=1", "/v1/models/fake:predict"):
        assert server.post(path, ROWS, {**JSON, **SAMPLED}).status == 200
    assert server.post("/invocations", instances([666.0] * 4), {**JSON, **SAMPLED}).status == 500
    assert server.post("/invocations", b"nonsense", {**JSON, **SAMPLED}).status == 400

    def arrived() -> bytes:
        bodies = b"".join(body for path, body in collector.received if path == "/v1/traces")
        return bodies if bodies.count(b"infer fake") >= 5 else b""

    found = eventually(arrived, "the collector has all spans")
    assert bytes.fromhex(TRACE) in found
    for word in (b"slipway", b"queue_busy", b"compute", b"batch", b"malformed_input", b"model_failed"):
        assert word in found, word
    scrape = server.get("/metrics", Accept="application/openmetrics-text; version=1.0.0")
    assert scrape.headers["content-type"].startswith("application/openmetrics-text")
    samples = [one for family in text_string_to_metric_families(scrape.body.decode()) for one in family.samples]  # type: ignore[no-untyped-call]
    traces = {one.exemplar.labels["trace_id"] for one in samples if one.exemplar is not None}
    assert traces == {TRACE}
    assert server.stop() == 0


def test_what_waits_is_exported_when_the_server_stops(serve: Serve, tmp_path: Path, collector: Any) -> None:
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.server_port}"}
    server = serve(sample_models.fake(tmp_path / "m"), "--tracing", environ=environ).ready()
    assert server.post("/invocations", ROWS, JSON).status == 200
    assert server.stop() == 0
    assert any(b"infer fake" in body for _, body in collector.received)


@pytest.mark.slow
def test_a_collector_that_is_away_harms_no_request(serve: Serve, tmp_path: Path) -> None:
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_BSP_SCHEDULE_DELAY": "50"}
    server = serve(sample_models.fake(tmp_path / "m"), "--tracing", environ=environ).ready()
    for _ in range(20):
        assert server.post("/invocations", ROWS, JSON).status == 200
    assert server.stop() == 0


def test_an_exporter_that_does_not_exist_ends_the_start(serve: Serve, tmp_path: Path) -> None:
    server = serve(sample_models.fake(tmp_path / "m"), "--tracing", environ={"OTEL_TRACES_EXPORTER": "no_such"})
    assert server.exit_code() == 1
    assert "no_such" in server.log().splitlines()[-1]


def test_every_metric_is_valid_openmetrics_without_tracing(mlp_server: ServerProcess) -> None:
    scrape = mlp_server.get("/metrics", Accept="application/openmetrics-text")
    names = {family.name for family in text_string_to_metric_families(scrape.body.decode())}  # type: ignore[no-untyped-call]
    assert {"slipway_stage_seconds", "slipway_requests", "process_cpu_seconds"} <= names


def test_every_line_of_a_structured_log_is_a_json_object(serve: Serve, tmp_path: Path) -> None:
    server = serve(sample_models.fake(tmp_path / "m"), "--log-format", "json", "--access-log").ready()
    assert server.post("/invocations", b"nonsense", JSON).status == 400
    assert server.stop() == 0
    lines = [json.loads(line) for line in server.log().splitlines()]
    assert {"slipway", "slipway.access"} <= {line["logger"] for line in lines}
    draining = next(line for line in lines if line["message"].startswith("draining"))
    assert draining["fields"] == {"signal": "SIGTERM", "grace_s": 0.0}
