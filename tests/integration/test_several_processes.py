"""One server as two processes behind one port: spread, merged, changed together, restarted, drained, and ended."""

from __future__ import annotations

import base64
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from server.grpc import inference_pb2 as messages
from tests.integration import sample_models
from tests.integration.conftest import Serve
from tests.integration.grpc_client import client_of, infer_request, output_of
from tests.integration.server_process import (
    ServerProcess,
    eventually,
    instances,
    post_bytes,
    read_answers,
    read_to_end,
    server_process,
)

ROW = [1.0, 2.0, 3.0, 4.0]
BODY = {"instances": [ROW]}
ANSWER = {"predictions": [[2.0, 4.0, 6.0, 8.0]]}
CLIENTS = 24
"""Connections that the kernel spreads: that all reach one of two processes does not happen in practice."""

TWO = ("--processes", "2", "--admin")
ONCE = """
import os, pathlib
(pathlib.Path(__file__).parent / "loaded").open("x").close()
def model_fn(directory): return None
def predict_fn(data, model): return data
"""
CRASH = """
import os, signal
os.kill(os.getpid(), signal.SIGKILL)
"""


LATE = """
import pathlib, time
def model_fn(directory):
    here = pathlib.Path(__file__).parent
    if (here / "loaded").exists():
        (here / "waits").touch()
        while not (here / "go").exists():
            time.sleep(0.01)
    (here / "loaded").touch()
def predict_fn(data, model): return data
"""


def replicas_of(server: ServerProcess) -> list[int]:
    """Process ids of the replicas that are ready or starting, in the order of their start."""
    return [int(pid) for pid in Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()]


def script(root: Path, code: str) -> Path:
    (root / "code").mkdir(parents=True)
    (root / "code" / "inference.py").write_text(code, encoding="utf-8")
    return root


def answers(server: ServerProcess, path: str = "/v2/models/m", count: int = CLIENTS) -> set[str]:
    """What the processes say, over many connections."""
    return {server.get(path).body.decode() for _ in range(count)}


def statuses(server: ServerProcess, path: str) -> set[int]:
    return {server.get(path).status for _ in range(CLIENTS)}


def versions_that_answer(server: ServerProcess) -> set[str]:
    data = {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": ROW}]}
    return {server.post("/v2/models/m/infer", data).json().get("model_version") for _ in range(CLIENTS)}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    directory = tmp_path_factory.mktemp("pair")
    for version in ("1", "2"):
        sample_models.fake(directory / version, name="m", version=version)
    with server_process(directory, directory / "1", *TWO, "--slowdowns", "--grpc-port", "0") as server:
        yield server.ready()


class TestOneServer:
    def test_connections_are_spread_and_one_scrape_counts_the_requests_of_all(self, pair: ServerProcess) -> None:
        before = pair.samples()
        clients = [pair.connect() for _ in range(CLIENTS)]
        for client in clients:
            client.sendall(post_bytes(instances(ROW)))
            assert read_answers(client, 1)[0].json() == ANSWER
        samples = pair.samples()
        open_now = [samples[f"slipway_replica_connections{{replica={number}}}"] for number in (0, 1)]
        assert min(open_now) > 0
        assert sum(open_now) == samples["slipway_connections"] == CLIENTS + 1
        for counter in ("slipway_requests_total{outcome=ok}", "slipway_request_seconds_count"):
            assert samples[counter] - before.get(counter, 0) == CLIENTS
        stats = pair.get("/v2/models/m/stats").json()["model_stats"][0]
        assert stats["inference_stats"]["success"]["count"] == samples["slipway_requests_total{outcome=ok}"]
        assert stats["batch_stats"][0]["compute_infer"]["count"] == stats["execution_count"] >= CLIENTS
        assert samples["slipway_ready"] == 1
        assert samples["slipway_replica_up{replica=0}"] == samples["slipway_replica_up{replica=1}"] == 1
        for client in clients:
            client.close()

    def test_each_change_has_reached_all_when_it_is_answered(self, pair: ServerProcess, tmp_path: Path) -> None:
        second = Path(pair.get("/admin/models/m").json()["versions"][0]["path"]).parent / "2"
        assert pair.post("/admin/models", {"path": str(second), "activate": False}).status == 200
        assert versions_that_answer(pair) == {"1"}
        assert len(answers(pair, "/v2/models/m/versions/2")) == 1
        assert pair.put("/admin/models/m/labels/new", {"version": "2"}).status == 200
        assert statuses(pair, "/v2/models/m/versions/new") == {200}

        canary = {"version": "2", "percent": 50, "rules": {"error_rate": 0.5, "least": 1_000}}
        assert pair.put("/admin/models/m/canary", canary).status == 200
        assert versions_that_answer(pair) == {"1", "2"}
        comparison = pair.get("/admin/models/m").json()["comparison"]
        assert comparison["stable"]["answers"] + comparison["other"]["answers"] == CLIENTS
        assert pair.post("/admin/models/m/rollback", {}).status == 200
        assert versions_that_answer(pair) == {"1"}

        assert pair.post("/admin/models/m/promote", {"version": "2"}).status == 200
        assert versions_that_answer(pair) == {"2"}
        assert pair.put("/admin/slowdown", {"stage": "decode", "extra_us": 50, "seconds": 60}).status == 200
        assert answers(pair, "/admin/slowdown") == {'{"stage":"decode","extra_us":50}'}
        assert pair.request("DELETE", "/admin/slowdown").status == 200
        assert answers(pair, "/admin/slowdown") == {'{"stage":null,"extra_us":null}'}
        assert pair.request("DELETE", "/admin/models/m/versions/2").status == 200
        assert versions_that_answer(pair) == {"1"}
        assert statuses(pair, "/v2/models/m/versions/new") == {404}
        assert pair.post("/v2/repository/models/m/unload", {}).status == 200
        assert statuses(pair, "/v2/models/m") == {404}
        assert pair.post("/v2/repository/models/m/load", {}).status == 200
        assert versions_that_answer(pair) == {"1"}

    def test_calls_over_grpc_are_spread_counted_and_changed_together(self, pair: ServerProcess) -> None:
        own = {"options": [("grpc.use_local_subchannel_pool", 1)]}  # a connection for each channel
        before = pair.samples()
        row = np.array([ROW], np.float32)
        with ExitStack() as stack:
            clients = [stack.enter_context(client_of(pair, **own)) for _ in range(CLIENTS)]
            for client in clients:
                assert output_of(client.call("ModelInfer", infer_request(row, "m"))).tolist() == [[2.0, 4.0, 6.0, 8.0]]
            ok = "slipway_requests_total{outcome=ok}"
            assert pair.samples()[ok] - before[ok] == CLIENTS
            clients[0].call("RepositoryModelUnload", messages.RepositoryModelUnloadRequest(model_name="m"))
            assert {one.failure("ModelInfer", infer_request(row, "m"))[0] for one in clients} == {"NOT_FOUND"}
            clients[1].call("RepositoryModelLoad", messages.RepositoryModelLoadRequest(model_name="m"))
            for client in clients:
                client.call("ModelInfer", infer_request(row, "m"))

    def test_a_model_that_a_client_sends_is_in_all_processes(self, pair: ServerProcess, tmp_path: Path) -> None:
        file = base64.b64encode(sample_models.mlp(tmp_path / "mlp.onnx").read_bytes()).decode()
        sent = {"parameters": {"config": "{}", "file:1/model.onnx": file}}
        assert pair.post("/v2/repository/models/sent/load", sent).status == 200
        assert len(answers(pair, "/v2/models/sent")) == 1
        folder = Path(pair.get("/admin/models/sent").json()["versions"][0]["path"])
        assert pair.get("/v2/models/sent/ready").status == 200
        assert folder.is_dir()
        assert pair.post("/v2/repository/models/sent/unload", {}).status == 200
        assert statuses(pair, "/v2/models/sent") == {404}
        assert not folder.exists()

    def test_a_change_that_fails_changes_no_process(self, pair: ServerProcess, tmp_path: Path) -> None:
        before = answers(pair, "/v2/models/m")
        assert pair.post("/admin/models", {"path": str(tmp_path / "nothing")}).status == 404
        assert pair.post("/admin/models/m/promote", {"version": "9"}).status == 404
        assert pair.post("/admin/models/m/rollback", {}).status == 400
        # The script of this model loads once: the second process cannot follow.
        answer = pair.post("/admin/models", {"path": str(script(tmp_path / "once", ONCE)), "name": "once"})
        assert answer.status == 422
        assert "File exists" in answer.json()["error"] or "loaded" in answer.json()["error"]
        assert statuses(pair, "/v2/models/once") == {404}
        assert answers(pair, "/v2/models/m") == before


@pytest.mark.slow
def test_a_killed_process_loses_its_own_requests_and_its_successor_is_like_the_others(
    serve: Serve, tmp_path: Path
) -> None:
    first, second = (
        sample_models.fake(tmp_path / v, name="m", version=v, wait_us=100_000, batch_sizes=(1,)) for v in ("1", "2")
    )
    server = serve(first, *TWO, "--max-queue-ms", "60000").ready()
    assert server.post("/admin/models", {"path": str(second), "activate": True}).status == 200
    clients = [server.connect() for _ in range(CLIENTS)]
    samples = server.samples()
    mine = samples["slipway_replica_connections{replica=1}"]
    for client in clients:
        client.sendall(post_bytes(instances(ROW)))
    assert server.samples()["slipway_queue_rows"] > 0
    os.kill(replicas_of(server)[1], signal.SIGKILL)
    outcomes = [outcome(client) for client in clients]
    # One of its connections may have been the scrape's, and it may have answered some requests before its end.
    assert 0 < outcomes.count("lost") <= mine
    assert outcomes.count("answered") == CLIENTS - outcomes.count("lost") > 0
    assert server.get("/ping").status == 200
    eventually(lambda: server.samples()["slipway_replica_up{replica=1}"] == 1, "it was started again")
    assert statuses(server, "/ping") == {200}
    assert server.samples()["slipway_replica_restarts_total{replica=1}"] == 1
    assert "killed by signal 9" in server.log()
    assert len(answers(server)) == 1
    assert server.get("/v2/models/m").json()["versions"] == ["1", "2"]
    assert server.stop() == 0


def outcome(client: socket.socket) -> str:
    try:
        (answer,) = read_answers(client, 1)
    except ConnectionError:
        return "lost"
    return "answered" if answer.json() == ANSWER else "wrong"


def test_counters_do_not_fall_when_a_process_ends(serve: Serve, tmp_path: Path) -> None:
    server = serve(sample_models.fake(tmp_path / "model"), *TWO).ready()
    for _ in range(CLIENTS):
        assert server.post("/invocations", BODY).status == 200
    counted = "slipway_requests_total{outcome=ok}", "slipway_request_seconds_count"
    assert [server.samples()[name] for name in counted] == [CLIENTS, CLIENTS]
    pid = replicas_of(server)[0]
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: pid not in replicas_of(server), "it is gone, and its socket")
    eventually(lambda: server.samples()["slipway_replica_restarts_total{replica=0}"] == 1, "its end was noticed")
    assert [server.samples()[name] for name in counted] == [CLIENTS, CLIENTS]


def wait_for_successor(server: ServerProcess, pid: int, number: int) -> None:
    eventually(lambda: pid not in replicas_of(server), "it is gone, and its socket")
    eventually(lambda: server.samples()[f"slipway_replica_up{{replica={number}}}"] == 1, "it was started again")


def test_a_process_that_was_started_again_is_ready_as_the_others_are(serve: Serve, tmp_path: Path) -> None:
    server = serve(sample_models.fake(tmp_path / "model", name="m"), *TWO, "--grpc-port", "0").ready()
    for number in (0, 1):
        pid = replicas_of(server)[0]  # the oldest
        os.kill(pid, signal.SIGKILL)
        wait_for_successor(server, pid, number)
        for path in ("/ping", "/v2/health/ready", "/v2/models/m/ready"):
            assert statuses(server, path) == {200}
        with ExitStack() as stack:
            clients = [stack.enter_context(client_of(server)) for _ in range(CLIENTS)]
            ready = {one.call("ServerReady", messages.ServerReadyRequest()).ready for one in clients}
        assert ready == {True}


@pytest.mark.slow
def test_a_process_that_hangs_is_replaced(serve: Serve, tmp_path: Path) -> None:
    server = serve(sample_models.fake(tmp_path / "model", name="m"), *TWO, "--stall-s", "1").ready()
    pid = replicas_of(server)[1]
    os.kill(pid, signal.SIGSTOP)
    eventually(lambda: "process does not respond; it is replaced process=1" in server.log(), "it is noticed")
    wait_for_successor(server, pid, 1)
    assert statuses(server, "/ping") == {200}
    assert server.put("/admin/models/m/labels/one", {"version": "1"}).status == 200
    assert statuses(server, "/v2/models/m/versions/one") == {200}


@pytest.mark.slow
def test_keys_that_are_renewed_while_a_process_loads_are_those_of_all(serve: Serve, tmp_path: Path) -> None:
    keys, code = tmp_path / "keys", tmp_path / "model" / "code"
    keys.write_text("old", encoding="ascii")
    server = serve(script(tmp_path / "model", LATE), *TWO, "--api-keys-file", str(keys)).listen()
    eventually((code / "waits").exists, "the second process loads")
    keys.write_text("renewed", encoding="ascii")
    (code / "go").touch()
    server.ready()
    eventually(lambda: server.log().count("files read again") == 2, "both have read the keys")
    models = {server.get("/v2/models/model", **{"X-API-Key": "renewed"}).status for _ in range(CLIENTS)}
    assert 401 not in models


def test_a_signal_drains_all_processes(serve: Serve, tmp_path: Path) -> None:
    model = sample_models.fake(tmp_path / "model", wait_us=20_000, batch_sizes=(1,))
    server = serve(model, *TWO, "--max-queue-ms", "60000").ready()
    for pid in replicas_of(server):
        assert os.getpgid(pid) != os.getpgid(server.pid)  # the terminal sends Ctrl-C to the supervisor alone
    clients = [server.connect() for _ in range(CLIENTS)]
    for client in clients:
        client.sendall(post_bytes(instances(ROW)))
    eventually(lambda: server.samples()["slipway_queue_rows"] > 0, "requests wait")
    server.process.send_signal(signal.SIGTERM)
    for client in clients:
        assert read_answers(client, 1)[0].json() == ANSWER
        assert read_to_end(client) == b""
    assert server.exit_code() == 0
    assert server.log().splitlines()[-1].endswith("stopped")
    assert "Traceback" not in server.log()


def test_all_processes_end_with_the_supervisor(serve: Serve, tmp_path: Path) -> None:
    server = serve(sample_models.fake(tmp_path / "model"), *TWO).ready()
    pids = replicas_of(server)
    server.process.kill()
    server.exit_code()
    eventually(lambda: not any(Path(f"/proc/{pid}/exe").exists() for pid in pids), "they are gone")


def test_a_port_that_is_taken_is_one_clear_error(serve: Serve, tmp_path: Path) -> None:
    model = sample_models.fake(tmp_path / "model")
    several, alone = serve(model, *TWO).listen(), serve(model).listen()
    for flags in (
        ("--port", str(several.port), *TWO),
        ("--port", str(several.port)),
        ("--port", str(alone.port), *TWO),
    ):
        late = serve(model, *flags)
        assert late.exit_code() == 1
        (line,) = late.log().splitlines()
        assert "cannot listen on" in line
        assert "--port" in line


def test_a_model_that_cannot_be_served_ends_all_with_one_line_that_says_why(serve: Serve, tmp_path: Path) -> None:
    server = serve(tmp_path / "nothing", *TWO)
    assert server.exit_code() == 1
    (line,) = [line for line in server.log().splitlines() if " CRITICAL " in line]
    assert "there is no model at" in line


def test_processes_that_crash_while_they_start_end_the_server(serve: Serve, tmp_path: Path) -> None:
    server = serve(script(tmp_path / "crash", CRASH), *TWO)
    assert server.exit_code() == 1
    last = server.log().splitlines()[-1]
    assert "cannot serve: the processes of the server end while they start: killed by signal 9" in last


def test_sessions_need_one_process(serve: Serve, tmp_path: Path) -> None:
    server = serve(sample_models.fake(tmp_path / "model"), *TWO, "--sessions")
    assert server.exit_code() == 1
    assert "--processes 1" in server.log()
