"""Settings that a real server must obey as they are given."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from tests.integration.conftest import Serve
from tests.integration.server_process import Answer, eventually

CALLS = 12
SCRIPT = """
import os, time

def model_fn(model_dir):
    return os.path.join(model_dir, "go")

def predict_fn(data, go):
    while not os.path.exists(go):
        time.sleep(0.005)
    return data
"""


def done(calls: list[Future[Answer]]) -> list[Future[Answer]]:
    ended = [one for one in calls if one.done()]
    return ended if len(ended) >= CALLS // 2 else []


def test_a_script_refuses_requests_above_max_queue_ms_before_its_cost_is_known(serve: Serve, tmp_path: Path) -> None:
    code = tmp_path / "model" / "code"
    code.mkdir(parents=True)
    (code / "inference.py").write_text(SCRIPT)
    server = serve(tmp_path / "model", "--max-queue-ms", "100").ready()
    with ThreadPoolExecutor(CALLS) as pool:
        calls = [pool.submit(server.post, "/invocations", [1.0]) for _ in range(CALLS)]
        refused = eventually(lambda: done(calls), "half of the calls are refused")
        assert {one.result().code for one in refused} == {"overloaded"}
        assert all(int(one.result().headers["retry-after"]) >= 1 for one in refused)
        (tmp_path / "model" / "go").touch()
        statuses = [one.result().status for one in calls]
    assert set(statuses) == {200, 429}
    assert server.post("/invocations", [1.0]).status == 200
