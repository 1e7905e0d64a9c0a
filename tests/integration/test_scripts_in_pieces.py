"""Scripts that yield, and scripts with sessions, over sockets: in threads and in processes."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.integration.conftest import Serve
from tests.integration.server_process import (
    PATIENCE_S,
    Answer,
    ServerProcess,
    eventually,
    post_bytes,
    read_to_end,
    reset,
    server_process,
)
from tests.integration.test_scripts import folder

SCRIPT = """
import json, os, time

STEPS = os.path.join(os.path.dirname(os.path.dirname(__file__)), "steps")

def model_fn(model_dir):
    return "m"

class Guard:
    def __del__(self):
        with open(STEPS, "a") as file: file.write("freed")

def predict_fn(data, model, context):
    session = context.session
    if session is not None and "n" not in data:
        session["count"] = session.get("count", 0) + 1
        session.setdefault("guard", Guard())
        return {"count": session["count"], "id": context.session_id, "pid": os.getpid()}
    return data

def output_fn(data, accept, context):
    if data.get("pid") or data.get("die now"):
        return os._exit(9) if data.get("die now") else json.dumps(data)
    return pieces(data)

def pieces(data):
    try:
        for index in range(data["n"]):
            if data.get("fail") == index: raise KeyError("a secret")
            if data.get("die") == index: os._exit(9)
            if data.get("hang") == index: time.sleep(60)
            yield data.get("text", "") + str(index) + "\\n"
            with open(STEPS, "a") as file: file.write("x")
    finally:
        with open(STEPS, "a") as file: file.write("end")
"""


@pytest.fixture(scope="module", params=[0, 2], ids=["threads", "processes"])
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    directory = tmp_path_factory.mktemp("pieces")
    root = folder(directory / "model", SCRIPT)
    flags = ["--script-workers", str(request.param), "--script-timeout-s", "2", "--sessions", "--session-s", "3600"]
    with server_process(directory, root, *flags) as server:
        server.steps = root / "steps"  # type: ignore[attr-defined]
        yield server.ready()


@pytest.fixture
def steps(served: ServerProcess) -> Path:
    path: Path = served.steps  # type: ignore[attr-defined]
    path.write_text("")
    return path


def ask(server: ServerProcess, body: dict[str, object], **headers: str) -> tuple[http.client.HTTPResponse, bytes]:
    client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE_S)
    kinds = {"Content-Type": "application/json", "Accept": "a/b"}
    try:
        client.request("POST", "/invocations", json.dumps(body), {**kinds, **headers})
        response = client.getresponse()
        return response, response.read()
    finally:
        client.close()


def outcome(server: ServerProcess, code: str) -> float:
    return server.samples().get(f"slipway_requests_total{{outcome={code}}}", 0.0)


def test_what_a_script_yields_leaves_in_pieces(served: ServerProcess, steps: Path) -> None:
    before = outcome(served, "ok")
    response, body = ask(served, {"n": 20})
    assert (response.status, response.getheader("Transfer-Encoding")) == (200, "chunked")
    assert response.getheader("Content-Type") == "a/b"
    assert body == b"".join(b"%d\n" % index for index in range(20))
    eventually(lambda: outcome(served, "ok") == before + 1, "it is counted")
    assert steps.read_text() == "x" * 20 + "end"


def test_pieces_come_in_order_to_everybody(served: ServerProcess) -> None:
    wanted = b"".join(b"%d\n" % index for index in range(50))
    with ThreadPoolExecutor(6) as clients:
        assert all(body == wanted for _, body in clients.map(lambda _: ask(served, {"n": 50}), range(18)))


def test_http_1_0_gets_the_whole(served: ServerProcess) -> None:
    with served.connect() as client:
        client.sendall(post_bytes(b'{"n": 3}').replace(b"HTTP/1.1", b"HTTP/1.0"))
        head, _, body = read_to_end(client).partition(b"\r\n\r\n")
    assert b"chunked" not in head
    assert b"content-length: 6" in head
    assert body == b"0\n1\n2\n"


def test_a_request_with_a_query_gets_the_whole(served: ServerProcess) -> None:
    assert served.post("/invocations?cold=1", {"n": 3}).body == b"0\n1\n2\n"


def test_a_failure_before_the_first_piece_is_an_ordinary_one(served: ServerProcess) -> None:
    response, body = ask(served, {"n": 3, "fail": 0})
    assert (response.status, json.loads(body)["code"]) == (500, "model_failed")


@pytest.mark.parametrize(("deed", "code"), [("fail", "model_failed"), ("hang", "deadline_exceeded")])
def test_a_failure_after_it_closes_the_connection_and_is_counted(served: ServerProcess, deed: str, code: str) -> None:
    before = outcome(served, code)
    with pytest.raises(http.client.IncompleteRead) as seen:
        ask(served, {"n": 3, deed: 2})
    assert seen.value.partial == b"0\n1\n"
    eventually(lambda: outcome(served, code) == before + 1, "it is counted")
    assert "secret" not in seen.value.partial.decode()
    assert ask(served, {"n": 1})[1] == b"0\n"


def test_a_client_that_leaves_stops_the_generator(served: ServerProcess, steps: Path) -> None:
    before = outcome(served, "client_gone")
    client = served.connect()
    client.sendall(post_bytes(json.dumps({"n": 1_000_000_000}).encode()))
    client.recv(100)
    reset(client)
    eventually(lambda: steps.read_text().endswith("end"), "the generator is closed")
    eventually(lambda: outcome(served, "client_gone") == before + 1, "the client is missed")


def test_a_script_waits_for_a_client_that_does_not_read(served: ServerProcess, steps: Path) -> None:
    client = served.connect()
    client.sendall(post_bytes(json.dumps({"n": 100_000, "text": "y" * 100_000}).encode()))
    eventually(lambda: "does not read" in served.log() or "did not read" in served.log(), "it is given up")
    assert 0 < steps.read_text().count("x") < 2_000  # of 10 GB in all
    eventually(lambda: steps.read_text().endswith("end"), "the generator is closed")


def test_a_worker_that_dies_in_the_middle_breaks_its_answer_off(serve: Serve, tmp_path: Path) -> None:
    server = serve(folder(tmp_path / "model", SCRIPT), "--script-workers", "1").ready()
    with pytest.raises(http.client.IncompleteRead) as seen:
        ask(server, {"n": 3, "die": 2})
    assert seen.value.partial == b"0\n1\n"
    assert ask(server, {"n": 1})[1] == b"0\n"
    assert "exit code 9" in server.log()


NAME = "X-Amzn-SageMaker-Session-Id"


def within(server: ServerProcess, session: str, body: object) -> Answer:
    return server.post("/invocations", body, {NAME: session})


def opened(server: ServerProcess) -> str:
    answer = within(server, "NEW_SESSION", {"requestType": "NEW_SESSION"})
    return answer.headers["x-amzn-sagemaker-new-session-id"].partition(";")[0]


def test_a_session_keeps_what_the_handler_puts_there(served: ServerProcess) -> None:
    sessions = [opened(served) for _ in range(4)]
    with ThreadPoolExecutor(8) as clients:
        answers = list(clients.map(lambda n: within(served, sessions[n % 4], {}).json(), range(40)))
    for number, session in enumerate(sessions):
        mine = answers[number::4]
        assert sorted(one["count"] for one in mine) == list(range(1, 11))
        assert {one["id"] for one in mine} == {session}
        assert len({one["pid"] for one in mine}) == 1
    if served.process.pid != answers[0]["pid"]:
        assert len({one["pid"] for one in answers}) == 2, "sessions spread over the workers"


def test_the_first_response_of_a_new_session_is_streamed(served: ServerProcess) -> None:
    response, body = ask(served, {"n": 3}, **{NAME: "NEW_SESSION"})
    assert (response.status, response.getheader("Transfer-Encoding")) == (200, "chunked")
    assert body == b"0\n1\n2\n"
    session = (response.getheader("X-Amzn-SageMaker-New-Session-Id") or "").partition(";")[0]
    assert within(served, session, {}).json()["id"] == session


def test_a_new_session_ends_when_its_first_response_fails(served: ServerProcess) -> None:
    response, body = ask(served, {"n": 3, "fail": 0}, **{NAME: "NEW_SESSION"})
    assert (response.status, json.loads(body)["code"]) == (500, "model_failed")
    assert response.getheader("X-Amzn-SageMaker-New-Session-Id") is None


def test_an_ended_session_is_refused_and_what_it_kept_is_freed(served: ServerProcess, steps: Path) -> None:
    session = opened(served)
    assert within(served, session, {}).json()["count"] == 1
    assert within(served, session, {"requestType": "CLOSE"}).status == 200
    assert within(served, session, {}).status == 400
    eventually(lambda: steps.read_text() == "freed", "the handler's state is freed")
    assert ask(served, {"n": 1})[1] == b"0\n"


def test_a_session_whose_process_has_ended_is_refused_and_another_one_serves(serve: Serve, tmp_path: Path) -> None:
    script = SCRIPT.replace(
        "if session is not None:", 'if data.get("die now"): os._exit(9)\n    if session is not None:'
    )
    server = serve(folder(tmp_path / "model", script), "--script-workers", "1", "--sessions").ready()
    session = opened(server)
    assert within(server, session, {}).json()["count"] == 1
    assert server.post("/invocations", {"die now": 1}).status == 500
    lost = within(server, session, {})
    assert (lost.status, lost.code) == (400, "malformed_input")
    assert within(server, opened(server), {}).json()["count"] == 1
