"""Habits of other clients, over sockets: compressed bodies, byte order marks, HEAD, slashes, asynchronous requests."""

from __future__ import annotations

import gzip
import io
import json
import socket
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, save

from tests.integration.conftest import Serve
from tests.integration.server_process import Answer, ServerProcess, read_answers, server_process
from tests.integration.test_scripts import folder

ROWS = b'{"instances": [[1.5, 2.5]]}'
ANSWER = {"predictions": [[1.5, 2.5]]}


def identity(path: Path, kind: int = TensorProto.FLOAT, operator: str = "Identity") -> Path:
    """A model of [any, 2] with one operator for each value."""
    ends = [[helper.make_tensor_value_info(name, kind, ["n", 2])] for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node(operator, ["x"], ["y"])], "identity", ends[0], ends[1])
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    directory = tmp_path_factory.mktemp("habits")
    with server_process(directory, identity(directory / "model.onnx"), "--max-body-mb", "1") as process:
        yield process.ready()


def post(server: ServerProcess, body: bytes, kind: str = "application/json", **headers: str) -> Answer:
    more = {name.replace("_", "-"): value for name, value in headers.items()}
    return server.post("/invocations", body, {"Content-Type": kind, **more})


@pytest.mark.parametrize("path", ["/invocations", "/v2/models/model/infer"])
@pytest.mark.parametrize(("encoding", "compress"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_compressed_bodies_are_read_on_every_route(
    server: ServerProcess, path: str, encoding: str, compress: object
) -> None:
    document = {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1.5, 2.5]}]}
    body = compress(json.dumps(document).encode())  # type: ignore[operator]
    answer = server.post(path, body, {"Content-Type": "application/json", "Content-Encoding": encoding})
    assert answer.status == 200
    assert answer.json()["outputs"][0]["data"] == [1.5, 2.5]


def test_a_compressed_body_has_the_limit_of_a_plain_one(server: ServerProcess) -> None:
    bomb = post(server, gzip.compress(ROWS + b" " * 50_000_000), Content_Encoding="gzip")
    assert (bomb.status, bomb.code) == (413, "body_too_large")
    wrong = post(server, ROWS, Content_Encoding="gzip")
    assert (wrong.status, wrong.code) == (400, "malformed_input")
    other = post(server, ROWS, Content_Encoding="br")
    assert (other.status, other.code) == (415, "unsupported_media_type")


def test_a_script_gets_the_expanded_body(serve: Serve, tmp_path: Path) -> None:
    script = "def model_fn(d): return 0\ndef input_fn(b, k): return len(b)\ndef predict_fn(x, m): return x\n"
    started = serve(folder(tmp_path / "model", script)).ready()
    assert post(started, gzip.compress(bytes(70_000)), "application/x-own", Content_Encoding="gzip").json() == 70_000


@pytest.mark.parametrize(
    ("body", "kind"),
    [(ROWS, "application/json"), (b"[1.5, 2.5]\n", "application/jsonlines"), (b"1.5,2.5\n", "text/csv")],
)
def test_a_byte_order_mark_is_skipped(server: ServerProcess, body: bytes, kind: str) -> None:
    assert post(server, b"\xef\xbb\xbf" + body, kind).json() == ANSWER


def test_a_csv_response_has_the_bare_media_type(server: ServerProcess) -> None:
    answer = post(server, b"1,2\n", "text/csv; charset=utf-8", Accept="text/csv")
    assert answer.headers["content-type"] == "text/csv"


def test_a_slash_at_the_end_and_head_are_served_and_never_redirected(server: ServerProcess) -> None:
    for path in ("/ping", "/ping/", "/metrics", "/v2/health/ready/"):
        answer = server.request("HEAD", path)
        assert (answer.status, answer.body) == (200, b"")
    client = server.connect()
    head = f"Host: api.example.com\r\nX-Forwarded-Proto: https\r\nContent-Length: {len(ROWS)}\r\n"
    client.sendall(f"POST /invocations/ HTTP/1.1\r\nContent-Type: application/json\r\n{head}\r\n".encode() + ROWS)
    (answer,) = read_answers(client, 1)
    assert (answer.status, answer.json()) == (200, ANSWER)
    assert server.get("/no/such/route/").code == "unknown_route"


def test_a_head_request_does_not_confuse_its_connection(server: ServerProcess) -> None:
    client = server.connect()
    client.sendall(b"HEAD /ping HTTP/1.1\r\nHost: x\r\n\r\n")
    first = client.recv(65_536)
    assert first.startswith(b"HTTP/1.1 200")
    assert first.endswith(b"\r\n\r\n")
    client.sendall(b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n")
    assert read_answers(client, 1)[0].status == 200
    client.shutdown(socket.SHUT_RDWR)


def test_an_unknown_model_is_not_answered_with_the_names_of_others(server: ServerProcess) -> None:
    answer = server.get("/v2/models/no-such-model")
    assert answer.status == 404
    assert '"model"' not in answer.body.decode()
    assert "loaded:" not in answer.json()["error"]


YIELDS = """
def model_fn(model_dir): return 0
def predict_fn(data, model): return data
def output_fn(prediction, accept):
    def parts():
        yield "one "
        if prediction[0] < 0: raise KeyError("late")
        yield "two"
    return parts(), "text/plain"
"""


def test_an_asynchronous_request_gets_a_length_and_a_stream_gets_chunks(serve: Serve, tmp_path: Path) -> None:
    started = serve(folder(tmp_path / "model", YIELDS)).ready()
    name = "X-Amzn-SageMaker-Forwarded-Api"
    whole = post(started, b"[1]", **{name: "InvokeEndpointAsync"})
    assert (whole.headers["content-length"], whole.body) == ("7", b"one two")
    failed = post(started, b"[-1]", **{name: "InvokeEndpointAsync"})
    assert (failed.status, failed.code) == (500, "model_failed")
    streamed = post(started, b"[1]", **{name: "InvokeEndpointWithResponseStream"})
    assert streamed.headers["transfer-encoding"] == "chunked"
    assert streamed.body == b"one two"


def test_bfloat16_is_served_over_json_and_in_binary(serve: Serve, tmp_path: Path) -> None:
    started = serve(identity(tmp_path / "model.onnx", TensorProto.BFLOAT16)).ready()
    assert started.get("/v2/models/model").json()["inputs"][0]["datatype"] == "BF16"
    assert post(started, ROWS).json() == ANSWER
    document = {
        "inputs": [{"name": "x", "shape": [1, 2], "datatype": "BF16", "parameters": {"binary_data_size": 4}}],
        "parameters": {"binary_data_output": True},
    }
    text = json.dumps(document).encode()
    bits = (np.array([1.5, -2.5], np.float32).view(np.uint32) >> 16).astype("<u2").tobytes()
    length = {"Inference-Header-Content-Length": str(len(text))}
    answer = started.post("/v2/models/model/infer", text + bits, length)
    assert answer.body.endswith(bits)


def replacing_missing(path: Path) -> Path:
    """A model of [any, 2] that returns -1 for a missing value, as a tree model with a default branch does."""
    nodes = [
        helper.make_node("IsNaN", ["x"], ["missing"]),
        helper.make_node("Where", ["missing", "default", "x"], ["y"]),
    ]
    ends = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 2])] for name in ("x", "y")]
    default = helper.make_tensor("default", TensorProto.FLOAT, [1], [-1.0])
    graph = helper.make_graph(nodes, "replacing", ends[0], ends[1], [default])
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def as_npy(rows: list[list[float]]) -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.array(rows, np.float32))
    return stream.getvalue()


MISSING = {
    "null": (b'{"instances": [[null, 2], [3, NaN]]}', "application/json"),
    "columns": (b'{"inputs": [[null, 2], [3, null]]}', "application/json"),
    "open inference": (
        b'{"inputs": [{"name": "x", "shape": [2, 2], "datatype": "FP32", "data": [null, 2, 3, NaN]}]}',
        "application/json",
    ),
    "lines": (b"[null, 2]\n[3, NaN]\n", "application/jsonlines"),
    "csv": (b",2\n3,nan\n", "text/csv"),
    "quoted csv": (b'"","2"\r\n"3",""\r\n', "text/csv"),
    "npy": (as_npy([[np.nan, 2], [3, np.nan]]), "application/x-npy"),
}


@pytest.fixture(scope="module")
def replacing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    directory = tmp_path_factory.mktemp("missing")
    with server_process(directory, replacing_missing(directory / "model.onnx")) as process:
        yield process.ready()


@pytest.mark.parametrize("name", MISSING)
def test_missing_values_reach_a_model_that_takes_them_in_every_format(replacing: ServerProcess, name: str) -> None:
    body, kind = MISSING[name]
    answer = post(replacing, body, kind, Accept="text/csv") if name != "open inference" else post(replacing, body, kind)
    assert answer.status == 200, answer
    if name == "open inference":
        assert answer.json()["outputs"][0]["data"] == [-1.0, 2.0, 3.0, -1.0]
    else:
        assert answer.body == b"-1.0,2.0\n3.0,-1.0\n"


@pytest.mark.parametrize("name", MISSING)
def test_a_setting_refuses_missing_values_in_every_format(serve: Serve, tmp_path: Path, name: str) -> None:
    started = serve(replacing_missing(tmp_path / "model.onnx"), "--missing", "refuse").ready()
    body, kind = MISSING[name]
    answer = post(started, body, kind)
    assert answer.status in (400, 422), answer
    assert "missing" in answer.json()["error"] or "column" in answer.json()["error"]


def test_outputs_that_are_not_finite_have_one_form_on_every_route(serve: Serve, tmp_path: Path) -> None:
    """The logarithm of -1 is NaN, that of 0 is -infinity."""
    started = serve(identity(tmp_path / "model.onnx", operator="Log")).ready()
    rows = as_npy([[-1, 0]])
    assert post(started, rows, "application/x-npy").json() == {"predictions": [[None, None]]}
    assert post(started, rows, "application/x-npy", Accept="application/jsonlines").body == b"[null,null]\n"
    assert post(started, rows, "application/x-npy", Accept="text/csv").body == b"nan,-inf\n"
    sent = {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [-1, 0]}]}
    assert started.post("/v2/models/model/infer", sent).json()["outputs"][0]["data"] == [None, None]
    back = np.load(io.BytesIO(post(started, rows, "application/x-npy", Accept="application/x-npy").body))
    assert np.array_equal(back, [[np.nan, -np.inf]], equal_nan=True)
