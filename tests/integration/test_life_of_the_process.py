"""Start, readiness, signals and the end of a real server process."""

from __future__ import annotations

import json
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration import sample_models
from tests.integration.conftest import Serve
from tests.integration.server_process import ServerProcess, eventually, instances, post_bytes, read_answers, read_to_end

ROW = [1.0, 2.0, 3.0, 4.0]
ANSWER = {"predictions": [[2.0, 4.0, 6.0, 8.0]]}
STALL = 668.0


def test_nothing_is_ready_while_the_model_loads(serve: Serve, tmp_path: Path) -> None:
    server = serve(sample_models.fake(tmp_path / "model", load_us=60e6)).listen()
    for answer in (
        server.get("/ping"),
        server.get("/v2/health/ready"),
        server.post("/invocations", {"instances": [ROW]}),
        server.post("/invocations", b"", {"Content-Type": "text/html"}),
        server.post("/v2/models/fake/infer", {}),
        server.get("/v2/models/fake"),
    ):
        assert (answer.status, answer.code, answer.headers["retry-after"]) == (503, "not_ready", "1")
    assert server.get("/v2/health/live").status == 200
    assert server.samples()["slipway_ready"] == 0


def test_ping_is_503_until_the_model_is_loaded_and_200_after(serve: Serve, tmp_path: Path) -> None:
    server = serve(sample_models.fake(tmp_path / "model", load_us=300_000)).listen()
    statuses = [server.get("/ping").status]
    while statuses[-1] != 200:
        statuses.append(server.get("/ping").status)
    assert set(statuses[:-1]) == {503}
    assert server.get("/v2/health/ready").status == 200
    assert server.samples()["slipway_ready"] == 1
    assert server.post("/invocations", {"instances": [ROW]}).json() == ANSWER


def missing(root: Path) -> Path:
    return root / "nowhere"


def not_onnx(root: Path) -> Path:
    (root / "model.onnx").write_bytes(b"this is no model")
    return root / "model.onnx"


def changed_manifest(root: Path, **fields: object) -> Path:
    model = sample_models.fake(root / "changed")
    manifest = json.loads((model / "manifest.json").read_text(encoding="utf-8"))
    (model / "manifest.json").write_text(json.dumps({**manifest, **fields}), encoding="utf-8")
    return model


def other_inputs(root: Path) -> Path:
    return changed_manifest(root, inputs=[{"name": "z", "datatype": "FP32", "shape": [-1, 4]}])


@pytest.mark.parametrize(
    ("write", "cause"),
    [
        (missing, "there is no model at"),
        (not_onnx, "cannot load model.onnx"),
        (other_inputs, "other inputs or outputs than the manifest says"),
    ],
)
def test_a_model_that_cannot_be_served_ends_the_process_with_one_line_that_says_why(
    serve: Serve, tmp_path: Path, write: Callable[[Path], Path], cause: str
) -> None:
    server = serve(write(tmp_path))
    assert server.exit_code() == 1
    critical = [line for line in server.log().splitlines() if " CRITICAL " in line]
    assert len(critical) == 1
    assert cause in critical[0]
    assert server.log().splitlines()[-1] == critical[0]


def test_a_model_that_calls_exit_while_it_loads_is_a_failed_start(serve: Serve, tmp_path: Path) -> None:
    server = serve(sample_models.fake(tmp_path / "model", exit=0))
    assert server.exit_code() == 1
    assert "cannot serve" in server.log()


@pytest.mark.parametrize(
    ("arguments", "environ", "nearest"),
    [(["--prot", "1"], {}, "--port"), ([], {"SLIPWAY_MAX_QUEUE_MSS": "1"}, "SLIPWAY_MAX_QUEUE_MS")],
)
def test_an_unknown_option_refuses_to_start_and_names_the_nearest(
    serve: Serve, tmp_path: Path, arguments: list[str], environ: dict[str, str], nearest: str
) -> None:
    server = serve(sample_models.fake(tmp_path / "model"), *arguments, environ=environ)
    assert server.exit_code() == 2
    (line,) = server.log().splitlines()
    assert f"the nearest is {nearest}" in line


def test_two_servers_on_one_port_do_not_share_it(serve: Serve, tmp_path: Path) -> None:
    model = sample_models.fake(tmp_path / "model")
    first = serve(model).ready()
    second = serve(model, "--port", str(first.port))
    assert second.exit_code() == 1
    (line,) = second.log().splitlines()
    assert f":{first.port}" in line
    assert "--port" in line
    assert first.get("/ping").status == 200


def test_a_signal_while_the_model_loads_ends_the_process_without_waiting_for_it(serve: Serve, tmp_path: Path) -> None:
    server = serve(sample_models.fake(tmp_path / "model", load_us=60e6)).listen()
    assert server.stop() == 0
    assert "Traceback" not in server.log()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_server_ends_with_code_0(serve: Serve, tmp_path: Path, number: signal.Signals) -> None:
    server = serve(sample_models.fake(tmp_path / "model")).ready()
    with server.connect() as idle:
        assert server.stop(number) == 0
        assert read_to_end(idle) == b""
    assert server.log().splitlines()[-1].endswith("stopped")


def waits_for(server: ServerProcess, rows: int) -> None:
    eventually(lambda: server.samples()["slipway_queue_rows"] == rows, f"{rows} rows wait")


def test_requests_under_way_are_answered_before_the_end(serve: Serve, tmp_path: Path) -> None:
    server = serve(sample_models.fake(tmp_path / "model", wait_us=150_000, batch_sizes=(1,))).ready()
    assert server.get("/ping?cold=1").status == 200  # imports what such requests need
    clients = [server.connect() for _ in range(4)]
    for client, path in zip(clients, ["/invocations", "/invocations?cold=1"] * 2, strict=True):
        client.sendall(post_bytes(instances(ROW), path))
    waits_for(server, 3)
    upload = server.connect()
    data = post_bytes(instances(ROW))
    upload.sendall(data[:-5])
    assert server.get("/ping").status == 200
    server.process.send_signal(signal.SIGTERM)
    eventually(lambda: "draining" in server.log(), "the server drains")
    upload.sendall(data[-5:])
    for client in (*clients, upload):
        (answer,) = read_answers(client, 1)
        assert answer.json() == ANSWER
        client.close()
    assert server.exit_code() == 0


def test_during_the_grace_ping_is_503_and_new_requests_are_answered_and_their_connections_closed(
    serve: Serve, tmp_path: Path
) -> None:
    server = serve(sample_models.fake(tmp_path / "model"), "--drain-grace-s", "2").ready()
    assert server.get("/ping?cold=1").status == 200  # imports what such requests need
    kept = server.connect()
    server.process.send_signal(signal.SIGTERM)
    eventually(lambda: server.get("/ping").status == 503, "/ping says 503")
    assert server.get("/v2/health/ready").status == 503
    assert server.get("/v2/health/live").status == 200
    for path in ("/invocations", "/invocations?cold=1"):
        answer = server.post(path, {"instances": [ROW]})
        assert (answer.json(), answer.headers.get("connection")) == (ANSWER, "close")
    kept.sendall(post_bytes(instances(ROW)))
    assert read_to_end(kept).endswith(json.dumps(ANSWER, separators=(",", ":")).encode())
    kept.close()
    assert server.exit_code() == 0


def test_a_second_signal_ends_the_process_at_once(serve: Serve, tmp_path: Path) -> None:
    server = serve(sample_models.fake(tmp_path / "model", stall=STALL), "--inline-below-us", "0").ready()
    with server.connect() as client:
        client.sendall(post_bytes(instances([STALL] * 4)))
        eventually(lambda: server.samples()["slipway_backlog_seconds"] >= 0, "it answers beside the stalled run")
        server.process.send_signal(signal.SIGTERM)
        eventually(lambda: "draining" in server.log(), "the server drains")
        server.process.send_signal(signal.SIGTERM)
        assert server.exit_code() == 1


def test_a_run_that_never_ends_does_not_hold_up_the_end_beyond_the_drain(serve: Serve, tmp_path: Path) -> None:
    model = sample_models.fake(tmp_path / "model", stall=STALL)
    server = serve(model, "--inline-below-us", "0", "--drain-timeout-s", "1").ready()
    with server.connect() as client:
        client.sendall(post_bytes(instances([STALL] * 4)))
        assert server.get("/ping").status == 200
        assert server.stop() == 0


def test_sagemaker_starts_it_with_the_word_serve_and_a_port_of_its_own(serve: Serve, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    model = sample_models.fake(tmp_path / "model")
    server = serve(None, "serve", "--port", str(port), environ={"SLIPWAY_MODEL": str(model)}).ready()
    assert server.port == port
