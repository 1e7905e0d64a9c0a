"""A limit means the same for a tensor model, a pipeline, and scripts in threads and in processes: one table."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.integration import sample_models
from tests.integration.server_process import (
    Answer,
    ServerProcess,
    eventually,
    instances,
    post_bytes,
    read_answers,
    server_process,
)

pytestmark = pytest.mark.slow

RUN_MS = 300
ROW = [1.0, 2.0, 3.0, 4.0]
SCRIPT = """
import json, time
def model_fn(model_dir): return None
def predict_fn(x, model):
    time.sleep(RUN_S)
    return x
"""
SCRIPT_OF_BATCHES = """
import time
def model_fn(model_dir): return None
def predict_batch_fn(inputs, model):
    time.sleep(RUN_S)
    return inputs
"""
KINDS = ("model", "pipeline", "threads", "processes")
FLAGS = (
    *("--max-queue-ms", str(2.5 * RUN_MS), "--deadline-ms", str(20 * RUN_MS)),
    *("--inline-below-us", "0", "--max-batch-size", "1", "--instances", "1", "--access-log"),
)


WIDE = 100_000
"""Numbers in a row for the limits in bytes: 0.4 MB as an array, 0.3 MB as JSON."""

WIDE_RUN_MS = 150
WIDE_FLAGS = (
    *("--max-queue-mb", "1", "--max-queue-ms", str(100 * RUN_MS), "--cache-mb", "1"),
    *("--inline-below-us", "0", "--max-batch-size", "1", "--instances", "1"),
)


def served_as(kind: str, root: Path, run_ms: int = RUN_MS, script: str = SCRIPT, **fields: Any) -> Path:
    """A model of one run at a time, each of ``run_ms``; ``fields`` are those of the fake backend."""
    if kind == "model":
        return sample_models.fake(root, wait_us=run_ms * 1_000, **fields)
    if kind == "pipeline":
        for name in ("first", "second"):
            sample_models.fake(root / name, name=name, wait_us=run_ms * 500, **fields)
        steps = [{"name": "first", "artifact": "first"}, {"name": "second", "artifact": "second", "inputs": {"x": "y"}}]
        (root / "pipeline.json").write_text(json.dumps({"steps": steps}), encoding="utf-8")
        return root
    (root / "code").mkdir(parents=True)
    (root / "code" / "inference.py").write_text(script.replace("RUN_S", str(run_ms / 1e3)), encoding="utf-8")
    return root


@pytest.fixture(scope="module", params=KINDS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    directory = tmp_path_factory.mktemp(request.param)
    workers = ("--script-workers", "1") if request.param == "processes" else ()
    with server_process(directory, served_as(request.param, directory / "model"), *FLAGS, *workers) as process:
        process.ready()
        assert process.post("/invocations", {"instances": [ROW]}).status == 200  # a script's cost is known from now on
        yield process


def busy(server: ServerProcess, stack: ExitStack, bodies: list[bytes]) -> list[Answer]:
    """Send requests at once, one after another on connections of their own, and return their answers in that order."""
    clients = [stack.enter_context(server.connect()) for _ in bodies]
    for client, body in zip(clients, bodies, strict=True):
        client.sendall(body)
    return [read_answers(client, 1)[0] for client in clients]


def test_the_predicted_wait_is_limited(server: ServerProcess) -> None:
    with ExitStack() as stack:
        answers = busy(server, stack, [post_bytes(instances(ROW))] * 12)
    statuses = [one.status for one in answers]
    assert set(statuses) == {200, 429}
    assert 2 <= statuses.count(200) <= 6, statuses
    for one in answers:
        assert one.status == 200 or (one.code, int(one.headers["retry-after"])) == ("overloaded", 1)


def test_a_default_deadline_and_a_header_mean_the_same(server: ServerProcess) -> None:
    """The deadline passes while the request runs, waits, or before an idle server could end it."""
    soon = f"X-Request-Deadline-Ms: {RUN_MS // 3}\r\nContent-Type: application/json\r\n"
    begun_s = time.monotonic()
    with ExitStack() as stack:
        answers = busy(server, stack, [post_bytes(instances(ROW)), post_bytes(instances(ROW), headers=soon)])
    assert answers[0].status == 200
    assert (answers[1].status, answers[1].code) in ((429, "overloaded"), (504, "deadline_exceeded"))
    assert time.monotonic() - begun_s < 20 * RUN_MS / 1e3
    eventually(lambda: server.samples()["slipway_queue_rows"] == 0, "nothing waits")
    assert server.post("/invocations", {"instances": [ROW]}).status == 200


def test_a_refused_request_has_its_true_time_in_the_access_log(server: ServerProcess) -> None:
    """Refused by admission, or because its head is ambiguous."""
    with server.connect() as client:
        client.sendall(b"POST /invocations HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n")
        assert read_answers(client, 1)[0].status == 400
    eventually(lambda: " 400 " in server.log(), "the refusal is logged")
    lines = [line for line in server.log().splitlines() if "slipway.access" in line]
    assert any(" 429 " in line for line in lines)
    times_ms = [float(line.split(" bytes ")[1].split(" ms")[0]) for line in lines]
    assert all(0 < time_ms < 60_000 for time_ms in times_ms), lines


@pytest.fixture(scope="module", params=KINDS)
def wide(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server of a kind, with limits in bytes; its artifacts declare batches of eight rows."""
    directory = tmp_path_factory.mktemp(request.param)
    workers = ("--script-workers", "1") if request.param == "processes" else ()
    model = served_as(request.param, directory / "model", WIDE_RUN_MS, SCRIPT_OF_BATCHES, width=WIDE)
    with server_process(directory, model, *WIDE_FLAGS, *workers) as process:
        yield process.ready()


def wide_row(value: int) -> list[int]:
    return [value] * WIDE


def test_the_bytes_that_wait_are_limited_and_batches_are_no_larger_than_told(wide: ServerProcess) -> None:
    with ExitStack() as stack:
        bodies = [post_bytes(json.dumps({"instances": [wide_row(at)]}).encode()) for at in range(8)]
        answers = busy(wide, stack, bodies)
    statuses = [one.status for one in answers]
    assert set(statuses) == {200, 429}
    assert 2 <= statuses.count(200) <= 5, statuses
    assert all(b"MB of requests wait already" in one.body for one in answers if one.status == 429)
    runs = {key: value for key, value in wide.samples().items() if "batch_rows" in key}
    alone = sum(value for key, value in runs.items() if "le=1.0" in key)
    assert alone == sum(value for key, value in runs.items() if "batch_rows_count" in key) >= 2, runs


def test_answers_are_kept_or_the_log_says_why_not(wide: ServerProcess, request: pytest.FixtureRequest) -> None:
    told = [wide.post("/invocations", {"instances": [wide_row(9)]}) for _ in range(2)]
    assert [one.status for one in told] == [200, 200]
    if request.node.callspec.params["wide"] in ("model", "pipeline"):
        assert told[1].headers.get("x-slipway-cache") == "hit"
    else:
        assert "x-slipway-cache" not in told[1].headers
        assert "setting has no effect model=model setting=cache_mb" in wide.log()
