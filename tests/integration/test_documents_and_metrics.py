"""What operators and newcomers read: /docs, /openapi.json, /metrics, and the stage times of a request."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from server.request import STAGES
from tests.integration import sample_models
from tests.integration.conftest import Serve
from tests.integration.server_process import ServerProcess, eventually, instances, post_bytes, read_answers

ROW = [1.0, 2.0, 3.0, 4.0]
CUSTOM = "X-Amzn-SageMaker-Custom-Attributes"
IN_HEADERS = [stage for stage in STAGES if stage != "send"]


def test_docs_answer_with_a_page(inline_server: ServerProcess) -> None:
    answer = inline_server.get("/docs")
    assert (answer.status, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")


def test_the_page_loads_nothing_from_elsewhere(inline_server: ServerProcess) -> None:
    page = inline_server.get("/docs").body.decode()
    assert "openapi.json" in page
    assert not re.search(r"""(src|href|url|import)\s*[=(]?\s*["']?(https?:)?//""", page)


def test_the_openapi_document_lists_every_route_once(inline_server: ServerProcess) -> None:
    document = inline_server.get("/openapi.json").json()
    assert document["openapi"].startswith("3.")
    assert {"/ping", "/invocations", "/metrics", "/v2", "/v2/health/live", "/v2/health/ready"} < set(document["paths"])
    assert {
        f"/v2/models/{{name}}{version}{tail}"
        for version in ("", "/versions/{version}")
        for tail in ("", "/ready", "/infer")
    } < set(document["paths"])
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    ids = Counter(operation["operationId"] for operation in operations)
    assert set(ids.values()) == {1}
    assert set(document["paths"]["/ping"]) == {"get", "post"}
    for path, item in document["paths"].items():
        for method, operation in item.items():
            assert operation["summary"]
            if path.startswith("/admin/"):
                continue  # FastAPI writes the schema of these from their types
            assert ("requestBody" in operation) == (method in ("post", "put") and path != "/ping")
            assert {one["name"] for one in operation["parameters"]} == set(re.findall(r"{(\w+)}", path))
    assert "UserWarning" not in inline_server.log()


@pytest.mark.parametrize("inline", [True, False])
def test_metrics_count_what_was_sent_and_the_stages_add_up(serve: Serve, tmp_path: Path, inline: bool) -> None:
    limit = [] if inline else ["--inline-below-us", "0"]
    server = serve(sample_models.fake(tmp_path / "model", poison=666), *limit).ready()
    for rows in (1, 2, 20):
        server.post("/invocations", {"instances": [ROW] * rows})
        server.post("/invocations?cold=1", {"instances": [ROW] * rows})
    for _ in range(3):
        server.post("/invocations", {"instances": [[1.0]]})
    server.post("/invocations", {"instances": [[666.0] * 4]})
    server.post("/invocations", b"", {"Content-Type": "text/html"})
    server.get("/v2/models/other")

    def sent() -> dict[str, float] | None:
        samples = server.samples()
        return samples if samples.get("slipway_refused_total{code=unknown_model}") else None

    samples = eventually(sent, "all requests are counted")
    assert samples["slipway_requests_total{outcome=ok}"] == 6
    assert samples["slipway_requests_total{outcome=malformed_input}"] == 3
    assert samples["slipway_requests_total{outcome=model_failed}"] == 1
    assert samples["slipway_refused_total{code=unsupported_media_type}"] == 1
    assert samples["slipway_batch_rows_sum"] in (46, 47)  # the failed row is a run, or not one, but no answer
    assert samples["slipway_request_seconds_count"] == 6
    for stage in STAGES:
        assert samples[f"slipway_stage_seconds_count{{stage={stage}}}"] == 6
        assert samples[f"slipway_stage_seconds_sum{{stage={stage}}}"] >= 0
    total = sum(samples[f"slipway_stage_seconds_sum{{stage={stage}}}"] for stage in STAGES)
    assert total == pytest.approx(samples["slipway_request_seconds_sum"], rel=1e-6)
    assert samples["slipway_queue_rows"] == 0
    assert samples["slipway_ready"] == 1
    assert samples["process_resident_memory_bytes"] > 1e6


def stages_of(header: str) -> dict[str, float]:
    parts = [part.strip() for part in header.split(",")]
    pairs = (part.partition(";dur=") for part in parts)
    return {name: float(duration) for name, separator, duration in pairs if separator}


@pytest.mark.parametrize("path", ["/invocations", "/invocations?cold=1"])
def test_stage_times_come_in_server_timing_when_asked_for(inline_server: ServerProcess, path: str) -> None:
    answer = inline_server.post(path, {"instances": [ROW, ROW]}, {"X-Slipway-Timing": "1"})
    stages = stages_of(answer.headers["server-timing"])
    assert list(stages) == IN_HEADERS
    assert all(duration >= 0 for duration in stages.values())
    # One run of both rows, or two of one row if that was measured to be faster.
    *_, request, batch = answer.headers["server-timing"].split(", ")
    assert batch in ('batch;desc="1"', 'batch;desc="2"')
    assert request == "request;rows=2;ahead=0"
    assert CUSTOM.lower() not in answer.headers


@pytest.mark.parametrize("path", ["/invocations", "/invocations?cold=1"])
def test_stage_times_come_through_sagemaker_when_asked_for(inline_server: ServerProcess, path: str) -> None:
    answer = inline_server.post(path, {"instances": [ROW]}, {CUSTOM: "trace=7,slipway-timing"})
    pairs = dict(part.split("=") for part in answer.headers[CUSTOM.lower()].split(","))
    assert list(pairs) == [*IN_HEADERS, "rows", "ahead", "batch"]
    assert len(answer.headers[CUSTOM.lower()]) < 1_024
    assert "server-timing" not in answer.headers


@pytest.mark.parametrize("headers", [{}, {"X-Slipway-Timing": "0"}, {CUSTOM: "trace=7"}])
def test_stage_times_are_not_sent_to_who_does_not_ask(inline_server: ServerProcess, headers: dict[str, str]) -> None:
    answer = inline_server.post("/invocations", {"instances": [ROW]}, headers)
    assert not {"server-timing", CUSTOM.lower()} & set(answer.headers)


def test_waiting_behind_a_busy_model_is_queue_busy(waiting_server: ServerProcess) -> None:
    with waiting_server.connect() as first, waiting_server.connect() as second:
        first.sendall(post_bytes(instances(ROW)))
        second.sendall(post_bytes(instances(ROW), headers="Content-Type: application/json\r\nX-Slipway-Timing: 1\r\n"))
        read_answers(first, 1)
        (answer,) = read_answers(second, 1)
    stages = stages_of(answer.headers["server-timing"])
    assert stages["queue_timer"] == 0
    assert stages["compute"] > stages["assemble"]
