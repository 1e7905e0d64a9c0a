"""A multi-model endpoint as the platform drives it: exact bodies and status codes over real sockets."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration import sample_models
from tests.integration.conftest import Serve
from tests.integration.server_process import (
    JSON,
    ServerProcess,
    eventually,
    instances,
    post_bytes,
    read_answers,
    reset,
    server_process,
)
from tests.integration.test_scripts import folder as script_folder

MULTI = {"SAGEMAKER_MULTI_MODEL": "true"}
ROW = [1.0, 2.0, 3.0, 4.0]
PLATFORM = {"X-Amzn-SageMaker-Target-Model": "team/model.tar.gz", **JSON}


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with server_process(tmp_path_factory.mktemp("fleet"), None, environ=MULTI) as server:
        yield server.ready()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return sample_models.fake(tmp_path / "h" / "model", poison=666)


def load(server: ServerProcess, name: str, url: Path | str) -> int:
    return server.post("/models", {"model_name": name, "url": str(url)}).status


def test_the_whole_life_of_a_model(fleet: ServerProcess, folder: Path) -> None:
    assert fleet.get("/ping").status == 200
    assert fleet.get("/models").json() == {"models": []}
    loaded = fleet.post("/models", {"model_name": "h", "url": str(folder)})
    assert (loaded.status, loaded.headers["content-type"]) == (200, "application/json")
    assert loaded.body == b'{"status":"Workers scaled"}'
    row = b'{"modelName":"h","modelUrl":"%b"}' % str(folder).encode()
    assert fleet.get("/models").body == b'{"models":[%b]}' % row
    described = fleet.get("/models/h")
    assert (described.status, described.body) == (200, row)
    answer = fleet.post("/models/h/invoke", {"instances": [ROW]}, PLATFORM)
    assert (answer.status, answer.json()) == (200, {"predictions": [[2.0, 4.0, 6.0, 8.0]]})
    again = fleet.post("/models", {"model_name": "h", "url": str(folder)})
    assert (again.status, again.code) == (409, "already_loaded")
    assert fleet.post("/models/h/invoke", {"instances": [ROW]}).status == 200
    gone = fleet.request("DELETE", "/models/h")
    assert (gone.status, gone.body) == (200, b'{"status":"Model \\"h\\" unregistered"}')
    assert [
        fleet.get("/models/h").status,
        fleet.request("DELETE", "/models/h").status,
        fleet.post("/models/h/invoke", {"instances": [ROW]}).status,
    ] == [404, 404, 404]
    assert fleet.get("/models").json() == {"models": []}
    assert fleet.get("/ping").status == 200


def test_what_is_wrong_with_a_request_is_the_models_to_say(fleet: ServerProcess, folder: Path) -> None:
    assert load(fleet, "wrong", folder) == 200
    assert [
        fleet.post("/models/wrong/invoke", b"{", JSON).status,
        fleet.post("/models/wrong/invoke", b"<a/>", {"Content-Type": "text/xml"}).status,
        fleet.post("/models/wrong/invoke", b"1,2,3,4", {"Content-Type": "text/csv", "Accept": "image/png"}).status,
        fleet.post("/models/wrong/invoke", {"instances": [[666.0] * 4]}).status,
    ] == [400, 415, 406, 500]
    assert fleet.request("DELETE", "/models/wrong").status == 200


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"[]", 400),
        (b'{"model_name":"h"}', 400),
        (b'{"url":"/x"}', 400),
        (b'{"model_name":"","url":"/x"}', 400),
        (b'{"model_name":"h","url":"relative"}', 400),
        (b'{"model_name":7,"url":"/x"}', 400),
        (b'{"model_name":"h","url":"/no/such/path"}', 404),
    ],
)
def test_a_load_that_cannot_be_is_refused(fleet: ServerProcess, body: bytes, status: int) -> None:
    assert fleet.request("POST", "/models", body, JSON).status == status
    assert fleet.get("/models").json() == {"models": []}


def test_a_folder_without_a_model_is_refused_and_forgotten(fleet: ServerProcess, tmp_path: Path) -> None:
    assert load(fleet, "empty", tmp_path) == 422
    assert fleet.get("/models/empty").status == 404


def test_a_list_comes_page_by_page(fleet: ServerProcess, folder: Path) -> None:
    names = ["b", "a", "c", "d", "e"]
    assert {load(fleet, name, folder) for name in names} == {200}
    pages = []
    query = "?limit=2"
    while query:
        page = fleet.get("/models" + query).json()
        pages.append([row["modelName"] for row in page["models"]])
        query = f"?limit=2&next_page_token={page['nextPageToken']}" if "nextPageToken" in page else ""
    assert pages == [["a", "b"], ["c", "d"], ["e"]]
    assert fleet.get("/models?next_page_token=99").json() == {"models": []}
    assert {fleet.get(f"/models?{query}").status for query in ("limit=0", "limit=x", "next_page_token=-1")} == {400}
    assert {fleet.request("DELETE", f"/models/{name}").status for name in names} == {200}


def test_a_bare_onnx_file_is_a_model_too(fleet: ServerProcess, tmp_path: Path) -> None:
    sample_models.mlp(tmp_path / "model" / "model.onnx")
    assert load(fleet, "bare", tmp_path / "model") == 200
    assert fleet.post("/models/bare/invoke", {"instances": [[0.0] * 8]}).status == 200
    assert fleet.request("DELETE", "/models/bare").status == 200


def test_scripts_of_several_models_stay_apart(fleet: ServerProcess, tmp_path: Path) -> None:
    for scale in (2, 5):
        root = script_folder(tmp_path / f"s{scale}" / "model", scale=scale)
        assert load(fleet, f"s{scale}", root) == 200
    assert fleet.post("/models/s2/invoke", [1], PLATFORM).json() == [2]
    assert fleet.post("/models/s5/invoke", [1], PLATFORM).json() == [5]
    assert fleet.request("DELETE", "/models/s2").status == 200
    assert fleet.post("/models/s2/invoke", [1], PLATFORM).status == 404
    assert fleet.post("/models/s5/invoke", [1], PLATFORM).json() == [5]
    refused = fleet.post("/models/s5/invoke", "refuse", PLATFORM)
    assert (refused.status, refused.json()["error"]) == (418, "short and stout")
    failed = fleet.post("/models/s5/invoke", "fail", PLATFORM)
    assert (failed.status, failed.code) == (500, "model_failed")
    assert fleet.request("DELETE", "/models/s5").status == 200


def test_a_script_that_cannot_be_loaded_is_422_with_its_reason(fleet: ServerProcess, tmp_path: Path) -> None:
    root = script_folder(tmp_path / "model", "def model_fn(d): raise OSError('no weights')\ndef predict_fn(x, m): pass")
    answer = fleet.post("/models", {"model_name": "broken", "url": str(root)})
    assert (answer.status, answer.code) == (422, "broken_artifact")
    assert "no weights" in answer.json()["error"]
    assert fleet.get("/models/broken").status == 404


def test_a_pipeline_is_a_model_too(fleet: ServerProcess, tmp_path: Path) -> None:
    pytest.importorskip("tokenizers", reason="the extra 'text' is not installed")
    from tests.integration.test_pipelines_over_sockets import text_pipeline, vector_of

    assert load(fleet, "words", text_pipeline(tmp_path / "words" / "model")) == 200
    answer = fleet.post("/models/words/invoke", b"a cat sits", {"Content-Type": "text/plain"})
    assert (answer.status, answer.json()) == (200, {"predictions": [vector_of("a cat sits")]})
    assert fleet.request("DELETE", "/models/words").status == 200
    (tmp_path / "words" / "model" / "tokenizer.json").unlink()
    broken = fleet.post("/models", {"model_name": "words", "url": str(tmp_path / "words" / "model")})
    assert (broken.status, broken.code) == (422, "broken_artifact")


def test_a_run_that_finds_no_memory_is_507(fleet: ServerProcess, tmp_path: Path) -> None:
    assert load(fleet, "gpu", sample_models.fake(tmp_path / "model", memory=669)) == 200
    answer = fleet.post("/models/gpu/invoke", {"instances": [[669.0, 0, 0, 0]]}, PLATFORM)
    assert (answer.status, answer.code) == (507, "out_of_memory")
    assert fleet.post("/models/gpu/invoke", {"instances": [ROW]}, PLATFORM).status == 200
    assert fleet.request("DELETE", "/models/gpu").status == 200


def test_loads_and_unloads_leave_nothing_behind(serve: Serve, tmp_path: Path) -> None:
    fleet = serve(None, environ=MULTI).ready()
    bare = sample_models.mlp(tmp_path / "bare" / "model" / "model.onnx").parent
    script = script_folder(tmp_path / "script" / "model")
    asked = {bare: instances([0.0] * sample_models.MLP_FEATURES), script: b"[1]"}
    seen = []
    for turn in range(60):
        path, body = list(asked.items())[turn % 2]
        assert load(fleet, f"h{turn}", path) == 200
        assert fleet.post(f"/models/h{turn}/invoke", body, JSON).status == 200
        assert fleet.request("DELETE", f"/models/h{turn}").status == 200
        if turn in (19, 59):
            seen.append((fleet.rss_bytes(), fleet.descriptors(), threads(fleet)))
    (before, descriptors, thread_count), (after, *_) = seen
    assert after < 1.05 * before
    eventually(lambda: fleet.descriptors() <= descriptors, "no descriptor is left open")
    eventually(lambda: threads(fleet) <= thread_count, "no thread is left")


def threads(server: ServerProcess) -> int:
    return len(list(Path(f"/proc/{server.pid}/task").iterdir()))


def test_names_are_opaque(fleet: ServerProcess, folder: Path) -> None:
    name, quoted = "no such/thing?é", "no%20such%2Fthing%3F%C3%A9"
    assert load(fleet, name, folder) == 200
    assert fleet.get(f"/models/{quoted}").json()["modelName"] == name
    assert fleet.post(f"/models/{quoted}/invoke", {"instances": [ROW]}).status == 200
    assert fleet.request("DELETE", f"/models/{quoted}").status == 200


def test_there_is_no_default_model(fleet: ServerProcess, folder: Path) -> None:
    assert load(fleet, "only", folder) == 200
    assert fleet.post("/invocations", {"instances": [ROW]}).status == 404
    assert fleet.get("/execution-parameters").status == 404
    assert fleet.request("DELETE", "/models/only").status == 200


def test_a_load_survives_its_caller_and_refuses_a_second_one(fleet: ServerProcess, tmp_path: Path) -> None:
    slow = sample_models.fake(tmp_path / "slow", load_us=400_000)
    body = json.dumps({"model_name": "slow", "url": str(slow)}).encode()
    first, second = fleet.connect(), fleet.connect()
    first.sendall(post_bytes(body, "/models"))
    # One connection is read after the other, but the first request was complete before the second was sent.
    eventually(lambda: fleet.get("/models/slow").status == 404, "the server has begun with the load")
    second.sendall(post_bytes(body, "/models"))
    assert read_answers(second, 1)[0].status == 409
    reset(first)
    eventually(lambda: fleet.get("/models/slow").status == 200, "the load came to its end")
    assert fleet.request("DELETE", "/models/slow").status == 200


def test_what_does_not_fit_is_507_and_nothing_is_evicted(serve: Serve, tmp_path: Path) -> None:
    heavy = sample_models.heavy(tmp_path / "heavy" / "model.onnx", megabytes=40, layers=4)
    server = serve(None, "--memory-budget-mb", "190", environ=MULTI).ready()
    statuses: list[int] = []
    while not statuses or (statuses[-1] == 200 and len(statuses) < 8):
        statuses.append(load(server, f"m{len(statuses)}", heavy.parent))
    assert statuses[-1] == 507
    assert len(statuses) > 1
    names = [row["modelName"] for row in server.get("/models").json()["models"]]
    assert names == [f"m{index}" for index in range(len(statuses) - 1)]
    assert server.request("DELETE", "/models/m0").status == 200
    assert load(server, "again", heavy.parent) == 200


def test_without_the_mode_the_routes_are_absent(mlp_server: ServerProcess) -> None:
    answers = [
        mlp_server.get("/models"),
        mlp_server.post("/models", {"model_name": "h", "url": "/x"}),
        mlp_server.get("/models/mlp"),
        mlp_server.post("/models/mlp/invoke", {"instances": [[0.0] * 8]}),
        mlp_server.request("DELETE", "/models/mlp"),
    ]
    assert {one.status for one in answers} == {501}
    assert all("--multi-model" in one.json()["error"] for one in answers)
