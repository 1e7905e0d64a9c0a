"""The admin and multi-model routes against strangers, and against input that once poisoned a listing."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration import sample_models
from tests.integration.conftest import Serve
from tests.integration.server_process import ROOT, Answer, ServerProcess, eventually, server_process

ROW = [1.0, 2.0, 3.0, 4.0]
ADMIN = [
    ("GET", "/admin/models"),
    ("DELETE", "/admin/models/m"),
    ("POST", "/v2/repository/index"),
    ("POST", "/v2/repository/models/m/unload"),
]


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server with the defaults."""
    directory = tmp_path_factory.mktemp("local")
    with server_process(directory, sample_models.fake(directory / "m", name="m")) as server:
        yield server.ready()


@pytest.fixture(scope="module")
def admin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server with --admin."""
    directory = tmp_path_factory.mktemp("admin")
    with server_process(directory, sample_models.fake(directory / "m", name="m"), "--admin") as server:
        yield server.ready()


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A multi-model server outside of the platform."""
    with server_process(tmp_path_factory.mktemp("fleet"), None, "--multi-model", "--admin") as server:
        yield server.ready()


@pytest.mark.parametrize(("method", "path"), ADMIN)
def test_a_browser_without_the_token_changes_and_lists_nothing(local: ServerProcess, method: str, path: str) -> None:
    browser = {"Sec-Fetch-Site": "same-origin"}
    if path == "/v2/repository/index":
        assert local.request(method, path, headers=browser).status == 200
    else:
        assert local.request(method, path, headers=browser).code == "unauthorized"
    assert local.request(method, path, headers={"Origin": "http://evil"}).code == "forbidden"
    assert local.request(method, path, headers={"Host": "evil.example"}).code == "forbidden"
    assert local.post("/invocations", {"instances": [ROW]}).status == 200


def test_a_client_of_this_machine_needs_no_token(local: ServerProcess) -> None:
    assert [one["name"] for one in local.request("GET", "/admin/models").json()] == ["m"]


def test_the_token_that_is_logged_at_start_opens_them(local: ServerProcess) -> None:
    found = re.search(r"token=(\S+);", local.log())
    assert found is not None
    headers = {"Sec-Fetch-Site": "same-origin", "Authorization": f"Bearer {found[1]}"}
    assert [one["name"] for one in local.request("GET", "/admin/models", headers=headers).json()] == ["m"]
    assert [one["name"] for one in local.request("POST", "/v2/repository/index", headers=headers).json()] == ["m"]


@pytest.mark.parametrize(("method", "path"), ADMIN)
def test_with_admin_a_page_of_another_origin_is_still_refused(admin: ServerProcess, method: str, path: str) -> None:
    assert admin.request(method, path, headers={"Origin": "http://evil"}).code == "forbidden"


@pytest.mark.parametrize(("flags", "warned", "status"), [([], False, 404), (["--admin"], True, 200)])
def test_other_hosts_get_admin_routes_only_on_demand_and_with_a_warning(
    serve: Serve, tmp_path: Path, flags: list[str], warned: bool, status: int
) -> None:
    server = serve(sample_models.fake(tmp_path / "m", name="m"), "--host", "0.0.0.0", *flags).ready()
    assert server.get("/admin/models").status == status
    assert ("admin routes are open to every client" in server.log()) is warned


def test_a_method_that_is_not_allowed_is_405(admin: ServerProcess) -> None:
    answer = admin.request("HEAD", "/admin/models")
    assert (answer.status, answer.headers["allow"]) == (405, "GET, POST")
    assert admin.request("PATCH", "/admin/models/m").code == "method_not_allowed"


BAD_LOADS = {
    "a version of 4,301 digits": {"name": "f", "version": "9" * 4_301},
    "a version that is a lone surrogate": {"name": "f", "version": "\ud800"},
    "a name with NUL": {"name": "a\0b"},
    "a name that leaves": {"name": "../f"},
    "a name of 10,000 characters": {"name": "n" * 10_000},
    "a path of 300 characters": {"name": "f", "path": "/" + "a" * 300},
    "a path with NUL": {"name": "f", "path": "/a\0b"},
    "a path that is a lone surrogate": {"name": "f", "path": "/\ud800"},
    "a path of 100,000 characters": {"name": "f", "path": "/a" * 50_000},
}


def load(server: ServerProcess, path: str, body: object) -> Answer:
    return server.request("POST", path, json.dumps(body).encode(), {"Content-Type": "application/json"})


@pytest.mark.parametrize("name", BAD_LOADS)
def test_a_load_with_a_bad_name_or_path_is_refused_and_poisons_nothing(
    admin: ServerProcess, fleet: ServerProcess, tmp_path: Path, name: str
) -> None:
    body = {"path": str(sample_models.fake(tmp_path / "f", name="f")), **BAD_LOADS[name]}
    assert load(admin, "/admin/models", body).status in (400, 404, 422)
    if "version" not in body:
        assert load(fleet, "/models", {"model_name": body["name"], "url": body["path"]}).status in (400, 404, 422)
    for server in (admin, fleet):
        assert server.get("/metrics").status == 200
        assert server.get("/admin/models").status == 200
        assert server.post("/v2/repository/index", {}).status == 200
    assert fleet.get("/models").json() == {"models": []}


def test_a_404_says_nothing_of_other_models_and_of_the_disk(admin: ServerProcess, tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    load(admin, "/admin/models", {"path": str(tmp_path / "broken.onnx"), "name": "secret", "version": "1"})
    for path in ("/v2/models/secret", "/v2/models/secret/versions/1", "/v2/models/other", "/v2/models/m/versions/7"):
        answer = admin.get(path)
        assert answer.status == 404
        assert str(tmp_path).encode() not in answer.body
        assert b"Traceback" not in answer.body
        assert b"ONNX" not in answer.body
        if "secret" not in path:
            assert b"secret" not in answer.body


def test_pages_of_other_origins_cannot_load_or_unload_models_of_a_fleet(fleet: ServerProcess) -> None:
    assert fleet.request("DELETE", "/models/m", headers={"Origin": "http://evil"}).code == "forbidden"
    assert fleet.request("POST", "/models", b"{}", {"Host": "evil.example"}).code == "forbidden"


@pytest.mark.parametrize("value", ["1" * 5_000, "9" * 200, "-1", "1e3", "\xb2"])
def test_a_strange_priority_is_400(local: ServerProcess, value: str) -> None:
    assert local.post("/invocations", {"instances": [ROW]}, {"X-Request-Priority": value}).status == 400


def test_sighup_drains(serve: Serve, tmp_path: Path) -> None:
    server = serve(sample_models.fake(tmp_path / "m", name="m")).ready()
    assert server.stop(signal.SIGHUP) == 0
    assert "draining signal=SIGHUP" in server.log()


@pytest.mark.slow
def test_a_log_reader_that_stops_does_not_stop_the_server(tmp_path: Path) -> None:
    model = sample_models.fake(tmp_path / "m", name="m")
    arguments = ["serve.py", "--port", "0", "--model", str(model), "--access-log"]
    process = subprocess.Popen([sys.executable, *arguments], cwd=ROOT, stderr=subprocess.PIPE)
    server = ServerProcess.__new__(ServerProcess)
    server.process, server._clients = process, []
    assert process.stderr is not None
    try:
        for line in process.stderr:  # and no further
            found = re.search(rb"listening on http://\S+:(\d+)", line)
            if found:
                server.port = int(found[1])
                break
        eventually(lambda: server.get("/ping").status == 200, "/ping says 200")
        for index in range(200):
            headers = {"X-Request-Id": "i" * 128}
            path = f"/v2/models/m/ready?{index}" if index % 2 else "/invocations"
            server.request("POST", path, b"x" * 10, headers)
        client = server.connect()
        request = b"POST /invocations HTTP/1.1\r\nHost: x\r\nX-Request-Id: %b\r\nContent-Length: 0\r\n\r\n" % (
            b"i" * 128
        )
        for _ in range(100):
            client.sendall(request * 100)
            answered = 0
            while answered < 100:
                received = client.recv(65_536)
                assert received
                answered += received.count(b"content-length")
            if server.samples()["slipway_log_lines_dropped_total"] > 0:
                return
        pytest.fail("no line of the log was dropped")
    finally:
        for client in server._clients:
            client.close()
        process.kill()
        process.wait()
        process.stderr.close()
