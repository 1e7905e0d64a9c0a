"""Users' scripts in a real server: whatever they do, the server answers, and goes on."""

from __future__ import annotations

import gc
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tests.integration import sample_models
from tests.integration.conftest import Serve
from tests.integration.server_process import Answer, ServerProcess, eventually, post_bytes, read_answers, server_process

SCRIPT = """
import gc, json, os, sys, threading, time
import numpy as np
import tables
from sagemaker_inference import errors

def model_fn(model_dir):
    print("loaded from", os.path.basename(model_dir))
    return {"scale": tables.SCALE}

def input_fn(body, content_type, context):
    if content_type == "application/octet-stream":
        return len(body)
    return json.loads(body)

def predict_fn(data, model):
    if isinstance(data, str):
        return DEEDS[data]()
    return np.array(data) * model["scale"]

def output_fn(prediction, accept, context):
    attributes = context.get_request_header(0, "X-Amzn-SageMaker-Custom-Attributes")
    if attributes:
        context.set_response_header(0, "X-Amzn-SageMaker-Custom-Attributes", attributes + "/back")
    if isinstance(prediction, str) and prediction == "no content":
        context.set_response_status(204)
    if isinstance(prediction, (bytes, set)):
        return prediction
    return json.dumps(prediction.tolist() if hasattr(prediction, "tolist") else prediction), accept

def fail():
    raise KeyError("a secret")

def spin():
    while True:
        pass

def fork():
    pid = os.fork()
    if pid == 0:
        return "the child must not answer"
    os.waitpid(pid, 0)
    return "the parent"

def refuse():
    raise errors.GenericInferenceToolkitError(418, "short and stout")

def linger():
    threading.Thread(target=time.sleep, args=(60,)).start()
    return "lingering"

DEEDS = {"fail": fail, "exit": lambda: sys.exit(3), "spin": spin, "hang": lambda: time.sleep(60), "fork": fork,
         "refuse": refuse, "wrong": set,
         "nothing": lambda: "no content", "big": lambda: b"x" * 3_000_000, "pid": os.getpid,
         "die": lambda: os._exit(9),
         "nap": lambda: time.sleep(0.5) or "slept",
         "thresholds": lambda: list(gc.get_threshold()),
         "linger": linger, "shout": lambda: print("a line of the script") or 1}
"""


def folder(root: Path, text: str = SCRIPT, scale: int = 3) -> Path:
    code = root / "code"
    code.mkdir(parents=True)
    (code / "inference.py").write_text(text)
    (code / "tables.py").write_text(f"SCALE = {scale}\n")
    return root


@pytest.fixture(scope="module", params=[0, 2], ids=["threads", "processes"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """The script in threads and in processes: one contract."""
    directory = tmp_path_factory.mktemp("scripted")
    flags = ["--script-workers", str(request.param), "--script-timeout-s", "20"]
    with server_process(directory, folder(directory / "model"), *flags) as process:
        yield process.ready()


def test_a_script_answers(server: ServerProcess) -> None:
    answer = server.post("/invocations", [[1, 2]], {"Content-Type": "Application/JSON; charset=utf-8"})
    assert (answer.status, answer.headers["content-type"], answer.json()) == (200, "application/json", [[3, 6]])
    assert "slipway.script.model: loaded from model" in server.log()


def test_garbage_of_a_script_is_collected_as_often_as_python_does(server: ServerProcess) -> None:
    assert server.post("/invocations", "thresholds").json() == list(gc.get_threshold())


def test_custom_attributes_go_in_and_out(server: ServerProcess) -> None:
    name = "X-Amzn-SageMaker-Custom-Attributes"
    assert server.post("/invocations", [1], {name: "trace"}).headers[name.lower()] == "trace/back"
    assert name.lower() not in server.post("/invocations", [1]).headers


@pytest.mark.parametrize(
    ("deed", "status", "words"),
    [
        ("fail", 500, "predict_fn raised KeyError"),
        ("exit", 500, "predict_fn called sys.exit"),
        ("wrong", 500, "output_fn must return"),
        ("refuse", 418, "short and stout"),
    ],
)
def test_what_a_script_does_wrong_is_an_answer_with_a_reason(
    server: ServerProcess, deed: str, status: int, words: str
) -> None:
    answer = server.post("/invocations", deed, {"X-Request-Id": f"my-{deed}"})
    assert answer.status == status
    assert words in answer.json()["error"]
    assert answer.json()["request_id"] == f"my-{deed}"
    assert "secret" not in answer.body.decode()
    eventually(lambda: f"my-{deed}" in server.log(), "the log names the request")
    assert server.post("/invocations", [1]).json() == [3]


def test_the_id_in_the_body_of_an_error_is_the_one_in_the_log(server: ServerProcess) -> None:
    identity = server.post("/invocations", "fail").json()["request_id"]
    eventually(lambda: f"request={identity} function=predict_fn" in server.log(), "the log has the request's id")


def test_a_status_without_a_body_does_not_confuse_the_connection(server: ServerProcess) -> None:
    client = server.connect()
    client.sendall(post_bytes(b'"nothing"') + post_bytes(b"[1]"))
    first, second = read_answers(client, 2)
    assert (first.status, first.body) == (204, b"")
    assert (second.status, second.json()) == (200, [3])


def test_a_fork_and_a_print_change_nothing(server: ServerProcess) -> None:
    assert server.post("/invocations", "fork").json() == "the parent"
    assert server.post("/invocations", "shout").status == 200
    eventually(lambda: "INFO slipway.script.model: a line of the script" in server.log(), "the line is in the log")


def test_large_bodies_go_both_ways(server: ServerProcess) -> None:
    body = os.urandom(2_000_000)
    answer = server.post("/invocations", body, {"Content-Type": "application/octet-stream"})
    assert answer.json() == 3 * len(body)
    assert server.post("/invocations", "big").body == b"x" * 3_000_000


def incidents(server: ServerProcess) -> float:
    return sum(value for name, value in server.samples().items() if name.startswith("slipway_script_incidents"))


def test_a_deadline_ends_the_wait_of_its_client_and_neither_the_thread_nor_the_process(server: ServerProcess) -> None:
    """The worker finishes its work, and then serves the next request."""
    pids = {server.post("/invocations", "pid").json() for _ in range(4)}
    before = incidents(server)
    codes = [server.post("/invocations", "nap", {"X-Request-Deadline-Ms": "100"}).code for _ in range(3)]
    assert codes[0] == "deadline_exceeded"
    assert set(codes) <= {"deadline_exceeded", "overloaded"}, "the next ones know that it is busy"
    answered: set[int] = set()

    def all_answered() -> bool:
        answered.add(server.post("/invocations", "pid").json())
        return answered >= pids

    eventually(all_answered, "all serve again")
    assert answered == pids
    assert incidents(server) == before


@pytest.mark.parametrize(("workers", "deed"), [("0", "spin"), ("1", "hang")])
def test_a_script_that_hangs_costs_one_request_its_answer(
    serve: Serve, tmp_path: Path, workers: str, deed: str
) -> None:
    server = serve(folder(tmp_path / "model"), "--script-workers", workers, "--script-timeout-s", "1").ready()
    answer = server.post("/invocations", deed)
    assert (answer.status, answer.code) == (504, "deadline_exceeded")
    eventually(lambda: server.post("/invocations", [1]).json() == [3], "a new one serves")
    assert incidents(server) >= 1


def test_tensors_of_a_script_cannot_be_asked_for(server: ServerProcess) -> None:
    answer = server.post("/v2/models/model/infer", {"inputs": []})
    assert (answer.status, answer.code) == (400, "malformed_input")
    assert server.get("/v2/models/model").json()["platform"] == "script"


def test_stage_times_add_up_and_know_the_scripts_functions(server: ServerProcess) -> None:
    answer = server.post("/invocations", [1], {"X-Slipway-Timing": "1"})
    stages = dict(part.split(";dur=") for part in answer.headers["server-timing"].split(", ")[:-2])
    assert all(float(value) >= 0 for value in stages.values())
    assert float(stages["decode"]) > 0


def test_a_worker_that_is_killed_fails_its_own_request_only(serve: Serve, tmp_path: Path) -> None:
    server = serve(folder(tmp_path / "model"), "--script-workers", "2", "--script-timeout-s", "20").ready()
    pids = {server.post("/invocations", "pid").json() for _ in range(4)}
    assert len(pids) == 2
    (victim,) = list(pids)[:1]
    answers: list[Answer] = []
    with ThreadPoolExecutor(4) as clients:
        going = threading.Event()

        def ask(index: int) -> Answer:
            if index == 20:
                going.set()
            return server.post("/invocations", [index])

        futures = [clients.submit(ask, index) for index in range(200)]
        going.wait(20)
        os.kill(victim, signal.SIGKILL)
        answers = [future.result() for future in futures]
    failed = [answer for answer in answers if answer.status != 200]
    assert len(failed) <= 1
    assert all("killed by signal 9" in answer.json()["error"] for answer in failed)
    died = server.post("/invocations", "die")
    assert (died.status, died.code) == (500, "model_failed")
    assert "exit code 9" in died.json()["error"]
    eventually(lambda: len({server.post("/invocations", "pid").json() for _ in range(4)}) == 2, "both serve again")
    samples = server.samples()
    assert samples["slipway_script_incidents_total{what=restarted}"] == 2
    assert samples["slipway_script_worker_memory_bytes"] > 10_000_000


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_workers_end_with_the_server(serve: Serve, tmp_path: Path, number: int) -> None:
    server = serve(folder(tmp_path / "model"), "--script-workers", "2").ready()
    pids = {server.post("/invocations", "pid").json() for _ in range(4)}
    code = server.stop(number)
    assert code == (0 if number == signal.SIGTERM else -signal.SIGKILL)
    for pid in pids:
        eventually(lambda pid=pid: not alive(pid), "the worker is gone")  # type: ignore[misc]


def alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False


def test_threads_that_a_script_leaves_behind_do_not_hold_up_the_end(serve: Serve, tmp_path: Path) -> None:
    server = serve(folder(tmp_path / "model")).ready()
    assert server.post("/invocations", "linger").json() == "lingering"
    assert server.stop() == 0


NETWORK = """
import json
def input_fn(body, content_type):
    return json.loads(body)["rows"]
"""


def test_the_network_beside_a_script_is_its_default_model(serve: Serve, tmp_path: Path) -> None:
    root = folder(tmp_path / "model", NETWORK)
    sample_models.mlp(root / "model.onnx")
    server = serve(root).ready()
    rows = np.arange(16, dtype=np.float32).reshape(2, 8)
    with ThreadPoolExecutor(8) as clients:
        answers = list(clients.map(lambda _: server.post("/invocations", {"rows": rows.tolist()}), range(40)))
    assert [answer.status for answer in answers] == [200] * 40, (answers[0].body, server.log())
    for answer in answers:
        np.testing.assert_allclose(answer.json(), sample_models.mlp_answer(rows), rtol=1e-4)
    wrong = server.post("/invocations", {"rows": [[1]]})
    assert (wrong.status, wrong.code) == (400, "malformed_input")


BATCHED = """
import time
def model_fn(model_dir): return None
def predict_fn(x, model): return x
def predict_batch_fn(xs, model):
    time.sleep(0.02)
    if any(x[0] == 13 for x in xs): raise ValueError(xs)
    return [[len(xs), int(x[0])] for x in xs]
"""


def test_a_batched_predict_fn_shares_runs_and_a_poisonous_request_fails_alone(serve: Serve, tmp_path: Path) -> None:
    server = serve(folder(tmp_path / "model", BATCHED)).ready()
    with ThreadPoolExecutor(16) as clients:
        answers = list(clients.map(lambda n: server.post("/invocations", [n]), range(32)))
    assert [answer.status for answer in answers] == [500 if n == 13 else 200 for n in range(32)]
    assert [answer.json()[1] for answer in answers if answer.status == 200] == [n for n in range(32) if n != 13]
    assert max(answer.json()[0] for answer in answers if answer.status == 200) > 1


@pytest.mark.parametrize(
    ("text", "reason", "flags"),
    [
        ("def model_fn(d): raise OSError('no weights')\ndef predict_fn(x, m): pass", "model_fn failed: OSError", ()),
        ("import sys; sys.exit(1)", "cannot be imported: SystemExit", ("--script-workers", "1")),
        ("import os; os._exit(5)", "ended while it loaded: exit code 5", ("--script-workers", "1")),
        (SCRIPT, "--no-scripts forbids", ("--no-scripts",)),
    ],
)
def test_a_script_that_cannot_be_loaded_ends_the_start_with_its_reason(
    serve: Serve, tmp_path: Path, text: str, reason: str, flags: tuple[str, ...]
) -> None:
    server = serve(folder(tmp_path / "model", text), *flags)
    assert server.exit_code() == 1
    assert reason in server.log().strip().splitlines()[-1]


def test_sagemakers_variables_say_where_the_script_is(serve: Serve, tmp_path: Path) -> None:
    code = folder(tmp_path / "elsewhere") / "code"
    (code / "inference.py").rename(code / "mine.py")
    model = tmp_path / "model"
    model.mkdir()
    environ = {"SAGEMAKER_PROGRAM": "mine", "SAGEMAKER_SUBMIT_DIRECTORY": f"file://{code}"}
    server = serve(model, environ=environ).ready()
    assert server.post("/invocations", [1]).json() == [3]


LEAKY = """
import os
kept = []
def model_fn(model_dir): return None
def predict_fn(x, model):
    if x[0]: kept.append(bytes(bytearray(os.urandom(1)) * int(x[0])))
    return [os.getpid(), len(kept)]
"""


def test_a_worker_that_has_grown_too_large_is_replaced_between_two_requests(serve: Serve, tmp_path: Path) -> None:
    flags = ("--script-workers", "1", "--script-worker-mb", "200")
    server = serve(folder(tmp_path / "model", LEAKY), *flags).ready()
    first = server.post("/invocations", [0]).json()[0]
    assert server.post("/invocations", [0]).json() == [first, 0]
    assert server.post("/invocations", [250_000_000]).json() == [first, 1], "its own answer still comes"
    after = server.post("/invocations", [0]).json()
    assert after[0] != first
    assert after[1] == 0
    assert server.samples()["slipway_script_incidents_total{what=outgrown}"] == 1
    assert "holds too much memory" in server.log()
