"""Models and versions that change while a real server answers: nobody's request fails, and memory comes back."""

from __future__ import annotations

import os
import shutil
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.integration import sample_models
from tests.integration.conftest import Serve
from tests.integration.server_process import (
    ServerProcess,
    eventually,
    instances,
    post_bytes,
    read_answers,
    server_process,
)

ROW = [1.0, 2.0, 3.0, 4.0]
BODY = {"instances": [ROW]}
MEGABYTES = 64


def versions_of(server: ServerProcess, name: str = "m") -> dict[str, str]:
    rows = server.post("/v2/repository/index", {}).json()
    return {row["version"]: row["state"] for row in rows if row["name"] == name}


def infer(rows: int = 1) -> dict[str, object]:
    return {"inputs": [{"name": "x", "shape": [rows, 4], "datatype": "FP32", "data": ROW * rows}]}


def version_of(server: ServerProcess, path: str = "/v2/models/m/infer", **headers: str) -> str:
    answer = server.post(path, infer(), headers)
    assert answer.status == 200, answer.body
    return str(answer.json()["model_version"])


@contextmanager
def load_on(server: ServerProcess, path: str = "/invocations", clients: int = 3) -> Iterator[Counter[int]]:
    """Closed-loop clients that ask until the block ends; the counts are by status, 0 for a broken connection."""
    seen: Counter[int] = Counter()
    stop = threading.Event()
    request = post_bytes(instances(ROW), path)
    sockets = [server.connect() for _ in range(clients)]

    def ask(client: socket.socket) -> None:
        try:
            while not stop.is_set():
                client.sendall(request)
                seen[read_answers(client, 1)[0].status] += 1
        except (OSError, ValueError):
            seen[0] += 1

    threads = [threading.Thread(target=ask, args=(client,)) for client in sockets]
    for thread in threads:
        thread.start()
    eventually(lambda: seen[200] > 20, "load is on the server")
    yield seen
    enough = seen[200] + 20
    eventually(lambda: seen[200] > enough or seen.keys() - {200}, "it went on afterwards")
    stop.set()
    for thread in threads:
        thread.join()


class TestRepository:
    def test_a_folder_of_models_is_served_by_name_version_and_label(self, serve: Serve, tmp_path: Path) -> None:
        for name, version in (("m", "9"), ("m", "10"), ("n", "1")):
            sample_models.fake(tmp_path / "repo" / name / version)
        server = serve(tmp_path / "repo", "--keep-versions", "0", "--default-model", "m", "--admin").ready()
        assert server.get("/v2/models/m").json()["versions"] == ["9", "10"]
        assert version_of(server) == "10"
        assert version_of(server, "/v2/models/m/versions/9/infer") == "9"
        assert server.put("/admin/models/m/labels/stable", {"version": "9"}).json()["labels"] == {"stable": "9"}
        assert version_of(server, "/v2/models/m/versions/stable/infer") == "9"
        assert server.get("/v2/models/m/versions/stable").json()["versions"] == ["9"]
        assert server.get("/v2/models/n/ready").status == 200
        missing = server.get("/v2/models/m/versions/canary")
        assert (missing.status, missing.code) == (404, "unknown_model")
        assert "model_repository" in server.get("/v2").json()["extensions"]

    def test_load_and_unload_by_name(self, serve: Serve, tmp_path: Path) -> None:
        root = tmp_path / "repo"
        sample_models.fake(root / "m" / "1")
        server = serve(root, "--admin").ready()
        sample_models.fake(root / "m" / "2")
        assert server.post("/v2/repository/models/m/load", {}).status == 200
        assert versions_of(server) == {"1": "UNAVAILABLE", "2": "READY"}
        assert server.request("POST", "/v2/repository/models/m/load").status == 200
        assert server.post("/v2/repository/models/m/unload", {}).status == 200
        gone = server.post("/v2/models/m/infer", infer())
        assert (gone.status, "it was unloaded" in gone.json()["error"]) == (404, False)
        assert server.post("/invocations", BODY).status == 404
        assert server.post("/v2/repository/index", {"ready": True}).json() == []
        assert server.post("/v2/repository/models/m/load", {}).status == 200
        assert version_of(server) == "2"
        assert server.post("/v2/repository/models/other/load", {}).status == 404
        refused = server.post("/v2/repository/models/m/load", {"parameters": {"config": "{"}})
        assert (refused.status, refused.code) == (400, "malformed_input")

    def test_the_folder_is_followed(self, serve: Serve, tmp_path: Path) -> None:
        root = tmp_path / "repo"
        sample_models.fake(root / "m" / "1")
        server = serve(root, "--poll-s", "0.02", "--admin").ready()
        with load_on(server) as seen:
            sample_models.fake(tmp_path / "coming")
            os.rename(tmp_path / "coming", root / "m" / "2")
            eventually(lambda: versions_of(server) == {"1": "UNAVAILABLE", "2": "READY"}, "version 2 took over")
            shutil.rmtree(root / "m" / "2")
            eventually(lambda: versions_of(server)["1"] == "READY", "version 1 is back")
        assert set(seen) == {200}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """One model, with the admin routes."""
    directory = tmp_path_factory.mktemp("admin")
    with server_process(directory, sample_models.fake(directory / "m", name="m"), "--admin") as process:
        yield process.ready()


class TestAdmin:
    def test_codes_of_loads_that_are_refused(self, server: ServerProcess, tmp_path: Path) -> None:
        model = sample_models.fake(tmp_path / "m", name="m")
        (tmp_path / "broken.onnx").write_bytes(b"no model")
        for body, status, code in (
            ({"path": str(model)}, 409, "already_loaded"),
            ({"path": str(tmp_path / "nothing")}, 404, "no_such_artifact"),
            ({"path": str(tmp_path / "broken.onnx")}, 422, "broken_artifact"),
            ({"path": str(model), "pined": True}, 400, "malformed_input"),
            ({}, 400, "malformed_input"),
        ):
            answer = server.post("/admin/models", body, {"X-Request-Id": "mine"})
            assert (answer.status, answer.code, answer.json()["request_id"]) == (status, code, "mine")
        assert server.request("DELETE", "/admin/models/other").code == "unknown_model"
        assert server.post("/admin/models/m/rollback", {}).code == "malformed_input"
        assert server.post("/admin/models/m/promote", {"version": "7"}).status == 404

    def test_it_can_be_switched_off(self, serve: Serve, tmp_path: Path) -> None:
        server = serve(sample_models.fake(tmp_path / "m", name="m"), "--no-admin").ready()
        assert server.get("/admin/models").code == "unknown_route"
        assert server.post("/v2/repository/models/m/unload", {}).status == 404
        assert "model_repository" not in server.get("/v2").json()["extensions"]
        assert server.post("/invocations", BODY).status == 200

    def test_its_document_has_a_schema(self, server: ServerProcess) -> None:
        assert "LoadBody" in server.get("/openapi.json").json()["components"]["schemas"]
        model = server.get("/admin/models/m").json()
        assert (model["name"], model["answers"], model["comparison"]) == ("m", "1", None)


@pytest.mark.parametrize("inline", [True, False])
def test_versions_are_swapped_and_swapped_back_under_load_and_nobody_fails(
    serve: Serve, tmp_path: Path, inline: bool
) -> None:
    for version in ("1", "2"):
        sample_models.fake(tmp_path / version, name="m", version=version, wait_us=0 if inline else 2_000)
    server = serve(tmp_path / "1", *([] if inline else ["--inline-below-us", "0"]), "--admin").ready()
    with load_on(server) as first, load_on(server, "/invocations?cold=1", 1) as cold:
        for version in ("2", "1", "2"):
            answer = server.post("/admin/models", {"path": str(tmp_path / version), "activate": True, "retire": True})
            assert (answer.status, answer.json()["answers"]) == (200, version)
            states = {row["version"]: row["state"] for row in answer.json()["versions"]}
            assert states.pop(version) == "READY"
            assert set(states.values()) <= {"UNAVAILABLE"}
    assert set(first) == set(cold) == {200}


@pytest.mark.slow
def test_memory_comes_back_after_a_swap_and_a_model_that_is_too_large_is_refused_with_507(
    serve: Serve, tmp_path: Path
) -> None:
    small = sample_models.mlp(tmp_path / "small.onnx")
    large = sample_models.heavy(tmp_path / "large.onnx", MEGABYTES, 4)
    server = serve(small, "--admin").ready()
    server.get("/admin/models")  # FastAPI is in memory from here on
    body = {"path": str(large)}
    server.post("/admin/models", body)
    server.request("DELETE", "/admin/models/large")
    before = server.rss_bytes()
    assert server.post("/admin/models", body).status == 200
    loaded = server.rss_bytes()
    (document,) = [one for one in server.get("/admin/models").json() if one["name"] == "large"]
    assert loaded - before > 0.8 * MEGABYTES * 1e6
    assert document["versions"][0]["memory_bytes"] > 0.8 * MEGABYTES * 1e6
    assert server.post("/admin/models", {**body, "reload": True}).status == 200
    assert server.rss_bytes() - loaded < 0.25 * MEGABYTES * 1e6
    server.request("DELETE", "/admin/models/large")
    assert server.rss_bytes() - before < 0.25 * MEGABYTES * 1e6

    budget = str(int(before / 1e6 + MEGABYTES / 2))
    tight = serve(small, "--memory-budget-mb", budget, "--admin").ready()
    refused = tight.post("/admin/models", body)
    assert (refused.status, refused.code) == (507, "out_of_memory")
    assert "raise --memory-budget-mb" in refused.json()["error"]
    assert tight.post("/invocations", {"instances": [[0.0] * 8]}).status == 200


def test_a_canary_answers_its_part_and_is_promoted_or_goes_by_one_call(serve: Serve, tmp_path: Path) -> None:
    for version in ("1", "2"):
        sample_models.fake(tmp_path / "repo" / "m" / version)
    server = serve(tmp_path / "repo", "--keep-versions", "0", "--admin").ready()
    server.post("/admin/models/m/promote", {"version": "1"})
    assert server.put("/admin/models/m/canary", {"version": "2", "percent": 25}).status == 200
    assert Counter(version_of(server) for _ in range(40)) == {"1": 30, "2": 10}
    by_id = {version_of(server, **{"X-Request-Id": "somebody"}) for _ in range(10)}
    assert len(by_id) == 1
    assert version_of(server, "/v2/models/m/versions/1/infer") == "1"
    document = server.post("/admin/models/m/rollback", {}).json()
    assert (document["answers"], document["comparison"]) == ("1", None)
    assert document["switches"][-1]["reason"] == "rolled back by a call"
    server.put("/admin/models/m/canary", {"version": "2", "percent": 25})
    promoted = server.post("/admin/models/m/promote", {"version": "2"}).json()
    assert promoted["answers"] == "2"
    assert {"version": "2", "before": "1", "can_go_back": True}.items() <= promoted["probation"].items()
    assert 0 < promoted["probation"]["left_s"] <= 300
    assert {version_of(server) for _ in range(5)} == {"2"}
    assert server.post("/admin/models/m/rollback", {}).json()["answers"] == "1"


def test_a_version_that_fails_after_it_was_swapped_in_goes_back_by_itself(serve: Serve, tmp_path: Path) -> None:
    sample_models.fake(tmp_path / "repo" / "m" / "1")
    server = serve(tmp_path / "repo", "--keep-versions", "0", "--admin").ready()
    worse = sample_models.fake(tmp_path / "repo" / "m" / "2", poison=4.0)
    assert server.post("/admin/models", {"path": str(worse), "name": "m", "version": "2"}).json()["answers"] == "2"

    def back() -> str | None:
        for _ in range(10):
            server.post("/v2/models/m/infer", infer())
        document = server.get("/admin/models/m").json()
        return document["switches"][-1]["reason"] if document["answers"] == "1" else None

    assert "version 2 was rolled back on probation: error rate" in eventually(back, "version 1 answers again")
    assert {version_of(server) for _ in range(10)} == {"1"}


def test_a_shadow_is_compared_and_seen_by_nobody(serve: Serve, tmp_path: Path) -> None:
    sample_models.fake(tmp_path / "repo" / "m" / "1")
    sample_models.fake(tmp_path / "repo" / "m" / "2", poison=666.0)
    server = serve(tmp_path / "repo", "--keep-versions", "0", "--admin").ready()
    server.post("/admin/models/m/promote", {"version": "1"})
    server.put("/admin/models/m/shadow", {"version": "2"})
    for value in (1.0, 2.0, 666.0):
        assert server.post("/invocations", {"instances": [[value] * 4]}).json() == {"predictions": [[2 * value] * 4]}

    def compared() -> dict[str, int] | None:
        outcomes: dict[str, int] = server.get("/admin/models/m").json()["comparison"]["outcomes"]
        return outcomes if sum(outcomes.values()) == 3 else None

    assert eventually(compared, "all are compared") == {"same": 2, "failed": 1}
    assert server.samples()["slipway_shadow_requests_total{outcome=same}"] == 2
