"""The running container: answers, ports, users, limits, drain, and what it says when it cannot start."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from container.docker import docker

if TYPE_CHECKING:
    from tests.container.conftest import Container, Perceptron, Start

pytestmark = [pytest.mark.container, pytest.mark.timeout(600)]  # the first test may have to build the image

ROWS = [[0.5, -1.0, 2.0, 0.0], [1.0, 1.0, 1.0, 1.0]]
PUBLISH = ("--publish", "127.0.0.1::8080")
HARDENED = (
    *("--user", "12345:12345", "--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL"),
    *("--security-opt", "no-new-privileges"),
)


def assert_answers(container: Container, perceptron: Perceptron) -> None:
    reply = container.request("POST", "/invocations", {"instances": ROWS})
    assert reply.status == 200, reply.body
    np.testing.assert_allclose(reply.json()["predictions"], perceptron.expected(ROWS), rtol=1e-5, atol=1e-6)


def test_serves_a_mounted_model_as_sagemaker_starts_it(server: Container, perceptron: Perceptron) -> None:
    assert server.ping() == 200
    assert_answers(server, perceptron)


def test_client_mistakes_get_small_json(server: Container) -> None:
    reply = server.request("POST", "/invocations", {"instances": [[1.0, 2.0]]})
    assert 400 <= reply.status < 500
    assert reply.headers["content-type"].startswith("application/json")
    assert len(reply.body) < 1000
    assert b"Traceback" not in reply.body
    assert "/opt/" not in json.dumps(reply.json())


def test_what_changes_the_served_models_is_not_published(server: Container) -> None:
    for method, path in (("GET", "/admin/models"), ("POST", "/v2/repository/index")):
        assert server.request(method, path, {} if method == "POST" else None).status == 404


def test_process_1_is_the_server_itself(server: Container) -> None:
    command = server.execute("cat", "/proc/1/cmdline").split("\0")
    assert command[:3] == ["python", "/opt/slipway/serve.py", "serve"]


def test_nothing_is_written_into_the_container(server: Container, perceptron: Perceptron) -> None:
    assert_answers(server, perceptron)
    changed = {line.split(" ", 1)[1] for line in docker("diff", server.identity).splitlines()}
    # The first three are the mount point of the model.
    assert changed <= {"/opt", "/opt/ml", "/opt/ml/model"}


def test_runs_as_any_user_on_a_read_only_root_without_capabilities(start: Start, perceptron: Perceptron) -> None:
    container = start(*PUBLISH, *HARDENED, model=perceptron.directory)
    container.wait_ready()
    assert container.execute("id", "-u") == "12345"
    assert_answers(container, perceptron)


def test_starts_and_answers_without_any_network(start: Start, perceptron: Perceptron) -> None:
    container = start("--network", "none", model=perceptron.directory)
    container.wait_for(container.healthy, "its own health check")
    ask = (
        "import json, urllib.request as u; "
        "r = u.Request('http://127.0.0.1:8080/invocations', json.dumps({'instances': [[1, 1, 1, 1]]}).encode(), "
        "{'Content-Type': 'application/json'}); print(u.urlopen(r, timeout=10).status)"
    )
    assert container.execute("python", "-c", ask) == "200"


def test_listens_where_sagemaker_says(start: Start, perceptron: Perceptron) -> None:
    container = start(
        *("--publish", "127.0.0.1::9090", "--env", "SAGEMAKER_BIND_TO_PORT=9090"), model=perceptron.directory, port=9090
    )
    container.wait_ready()
    assert container.healthy()
    assert_answers(container, perceptron)


def test_starts_without_a_command_and_with_flags_alone(start: Start, perceptron: Perceptron) -> None:
    plain = start(*PUBLISH, command=(), model=perceptron.directory)
    flags = start(*PUBLISH, command=("--name", "renamed"), model=perceptron.directory)
    plain.wait_ready()
    flags.wait_ready()
    assert flags.request("GET", "/v2/models/renamed").status == 200


def test_answers_within_limits_of_memory_and_processors(start: Start, perceptron: Perceptron) -> None:
    container = start(*PUBLISH, "--memory", "512m", "--cpus", "1", model=perceptron.directory)
    container.wait_ready()
    for _ in range(20):
        assert_answers(container, perceptron)
    assert container.inspect("{{.State.OOMKilled}}") == "false"
    assert " threads=1 " in container.logs()


def test_stop_ends_with_exit_code_0(start: Start, perceptron: Perceptron) -> None:
    container = start(*PUBLISH, model=perceptron.directory)
    container.wait_ready()
    # The grace is 5 s; an engine that has to kill leaves 137.
    docker("stop", "--time", "15", container.identity)
    assert container.inspect("{{.State.ExitCode}}") == "0"


def test_drain_answers_what_is_under_way_and_what_still_comes(start: Start, perceptron: Perceptron) -> None:
    container = start(*PUBLISH, model=perceptron.directory)
    container.wait_ready()
    idle = container.connect()
    assert container.request("GET", "/ping", connection=idle).status == 200
    body = json.dumps({"instances": ROWS}).encode()
    under_way = container.connect()
    under_way.putrequest("POST", "/invocations")
    under_way.putheader("Content-Type", "application/json")
    under_way.putheader("Content-Length", str(len(body)))
    under_way.endheaders(body[:10])

    docker("kill", "--signal", "TERM", container.identity)
    container.wait_for(lambda: container.ping() == 503, "/ping to say 503")

    under_way.send(body[10:])
    under_way_reply = container.read(under_way)
    for reply in (
        under_way_reply,
        container.request("POST", "/invocations", {"instances": ROWS}, connection=idle),
        container.request("POST", "/invocations", {"instances": ROWS}),
    ):
        assert reply.status == 200
        np.testing.assert_allclose(reply.json()["predictions"], perceptron.expected(ROWS), rtol=1e-5, atol=1e-6)
        assert reply.headers["connection"].lower() == "close"
    assert container.wait_exit() == 0


def test_a_mistyped_setting_stops_the_start_and_names_the_right_one(start: Start, perceptron: Perceptron) -> None:
    container = start("--env", "SLIPWAY_PORTT=1", model=perceptron.directory)
    assert container.wait_exit() != 0
    assert "SLIPWAY_PORTT" in container.logs()
    assert "SLIPWAY_PORT;" in container.logs()


def test_a_missing_model_stops_the_start_with_one_line(start: Start) -> None:
    assert_refuses_with_one_line(start())


def test_a_broken_model_stops_the_start_with_one_line(start: Start, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "model.onnx").write_bytes(b"this is no model")
    assert_refuses_with_one_line(start(model=tmp_path))


def assert_refuses_with_one_line(container: Container) -> None:
    assert container.wait_exit() != 0
    logs = container.logs()
    assert "Traceback" not in logs
    assert len([line for line in logs.splitlines() if "model" in line]) == 1, logs


def test_docker_itself_sees_the_server_healthy(server: Container) -> None:
    server.wait_for(lambda: server.inspect("{{.State.Health.Status}}") == "healthy", "docker to call it healthy")
    assert server.inspect("{{.State.Running}}") == "true"


def test_the_doctor_finds_a_mounted_model_well_within_its_limits(start: Start, perceptron: Perceptron) -> None:
    container = start(
        *(*HARDENED, "--memory", "512m", "--cpus", "1"), command=("doctor", "--json"), model=perceptron.directory
    )
    assert container.wait_exit() == 0, container.logs()
    told = json.loads(container.logs())
    by_name = {one["check"]: one["text"] for one in told["checks"]}
    assert "limit 537 MB" in by_name["memory"]
    assert by_name["cpu"].startswith("1 instances x 1 threads on 1 of ")
    assert by_name["load"].startswith("ready after ")


def test_the_doctor_and_the_server_end_with_the_same_line(start: Start, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "model.onnx").write_bytes(b"this is no model")
    doctor, server = start(command=("doctor",), model=tmp_path), start(model=tmp_path)
    assert doctor.wait_exit() == 1
    assert server.wait_exit() == 1
    last = doctor.logs().splitlines()[-1]
    assert last.startswith("cannot serve: ")
    assert server.logs().splitlines()[-1].endswith(last)


def test_the_doctor_says_when_memory_is_too_small(start: Start, perceptron: Perceptron) -> None:
    container = start("--memory", "64m", "--memory-swap", "64m", command=("doctor",), model=perceptron.directory)
    assert container.wait_exit() == 1
    assert container.logs().splitlines()[-1].startswith("cannot serve: not enough memory: ")
