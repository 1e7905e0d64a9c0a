"""The slowdown of a stage, in a real server: it is refused unless switched on, reaches each stage, and is put back."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from server.slowdown import STAGES, TIMER
from tests.integration import sample_models
from tests.integration.server_process import ServerProcess, server_process

BODY = {"instances": [[1.0, 2.0, 3.0, 4.0]]}
OPEN_BODY = {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}]}
OFF = {"stage": None, "extra_us": None}
EXTRA_MS = 30.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    directory = tmp_path_factory.mktemp("slowed")
    model = sample_models.fake(directory / "m", wait_us=1_000)
    with server_process(directory, model, "--slowdowns", "--max-queue-delay-us", "1000") as server:
        yield server.ready()


def stages_ms(server: ServerProcess, path: str = "/invocations") -> dict[str, float]:
    answer = server.post(path, BODY if path == "/invocations" else OPEN_BODY, {"X-Slipway-Timing": "1"})
    assert answer.status == 200
    pairs = (part.strip().split(";dur=") for part in answer.headers["server-timing"].split(","))
    return {pair[0]: float(pair[1]) for pair in pairs if len(pair) == 2}


@pytest.mark.parametrize("path", ["/invocations", "/v2/models/fake/infer"])
@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_takes_longer_by_what_was_asked_for(server: ServerProcess, stage: str, path: str) -> None:
    assert server.put("/admin/slowdown", {"stage": stage, "extra_us": EXTRA_MS * 1e3}).status == 200
    try:
        slow = stages_ms(server, path)
    finally:
        assert server.request("DELETE", "/admin/slowdown").json() == OFF
    # An instance that wakes late counts the first part of a hold as busy.
    found_ms = slow[stage] + (slow["queue_busy"] if stage == TIMER else 0.0)
    assert found_ms >= EXTRA_MS


def test_a_wrong_stage_is_refused(server: ServerProcess) -> None:
    assert server.put("/admin/slowdown", {"stage": "send", "extra_us": 5}).status == 422
    assert server.get("/admin/slowdown").json() == OFF


def test_it_is_refused_unless_switched_on(mlp_server: ServerProcess) -> None:
    for answer in (
        mlp_server.put("/admin/slowdown", {"stage": "compute", "extra_us": 5}),
        mlp_server.get("/admin/slowdown"),
        mlp_server.request("DELETE", "/admin/slowdown"),
    ):
        assert (answer.status, answer.code) == (403, "forbidden")


def test_the_choices_of_a_model_are_metrics(server: ServerProcess) -> None:
    found = server.samples()
    assert found["slipway_max_batch_size"] == 8
    assert found["slipway_max_queue_delay_seconds"] == 0.001
    assert found["slipway_max_queue_seconds"] == 1.0
    assert found["slipway_inline"] == 0
    assert found["slipway_contention_ratio"] >= 1
