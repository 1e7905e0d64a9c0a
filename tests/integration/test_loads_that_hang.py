"""Loads that never end, in a real server: their callers get an answer, and neighbours and the end do not wait."""

from __future__ import annotations

from pathlib import Path

from tests.integration import sample_models
from tests.integration.conftest import Serve
from tests.integration.server_process import ServerProcess, eventually, instances, post_bytes, read_answers

HANGS = """
import threading
def model_fn(model_dir): threading.Event().wait()
def predict_fn(x, model): return x
"""
ROW = [1.0, 2.0, 3.0, 4.0]


def repository(root: Path) -> Path:
    """A folder with one model that loads, and one that hangs in a lock, where no interrupt reaches it."""
    sample_models.fake(root / "good" / "1", name="good")
    return root


def add_one_that_hangs(root: Path) -> None:
    code = root / "hangs" / "1" / "code"
    code.mkdir(parents=True)
    (code / "inference.py").write_text(HANGS, encoding="utf-8")


def is_loading(server: ServerProcess) -> bool:
    rows = server.post("/v2/repository/index", {}).json()
    return ("hangs", "LOADING") in {(row["name"], row["state"]) for row in rows}


def test_a_load_beyond_its_limit_is_answered_counted_and_forgotten_by_its_neighbours(
    serve: Serve, tmp_path: Path
) -> None:
    root = repository(tmp_path / "models")
    server = serve(root, "--admin", "--load-timeout-s", "1").ready()
    add_one_that_hangs(root)
    answer = server.post("/v2/repository/models/hangs/load", {})
    assert (answer.status, answer.code) == (504, "load_timed_out")
    assert "raise --load-timeout-s" in answer.json()["error"]
    samples = server.samples()
    assert (samples["slipway_loads_timed_out_total"], samples["slipway_hanging_loads"]) == (1, 1)
    assert "its thread is given up model=hangs" in server.log()
    assert server.post("/v2/models/good/infer", {"inputs": []}).status == 400
    assert server.post("/v2/repository/models/good/unload", {}).status == 200
    assert server.stop() == 0


def test_the_end_of_the_server_does_not_wait_for_a_load(serve: Serve, tmp_path: Path) -> None:
    root = repository(tmp_path / "models")
    server = serve(root, "--admin", "--load-timeout-s", "0").ready()
    add_one_that_hangs(root)
    with server.connect() as client:
        client.sendall(post_bytes(b"{}", "/v2/repository/models/hangs/load"))
        eventually(lambda: is_loading(server), "the load is under way")
        assert server.post("/invocations", instances(ROW), {"Content-Type": "application/json"}).status == 200
        server.process.terminate()
        (answer,) = read_answers(client, 1)
    assert (answer.status, answer.code) == (503, "not_ready")
    assert server.exit_code() == 0
