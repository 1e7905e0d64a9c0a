"""What a server is sent by mistake or malice: the right status, one small JSON object, and no harm to anyone else."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.integration import sample_models
from tests.integration.sample_models import MLP_FEATURES, mlp_answer
from tests.integration.server_process import JSON, Answer, ServerProcess, read_to_end, server_process

ROW = [float(value) for value in range(MLP_FEATURES)]
NPY = {"Content-Type": "application/x-npy"}
CSV = {"Content-Type": "text/csv"}
LIMIT = 100_000


def npy(array: Any) -> bytes:
    out = io.BytesIO()
    np.save(out, array, allow_pickle=True)
    return out.getvalue()


def with_value(value: float) -> np.ndarray:
    x = np.zeros((2, MLP_FEATURES), np.float32)
    x[1, 3] = value
    return x


Case = tuple[bytes, dict[str, str], int, str]

CASES: dict[str, Case] = {
    "malformed JSON": (b'{"instances": [[1, 2', JSON, 400, "malformed_input"),
    "wrong shape": (b'{"instances": [[1,2,3]]}', JSON, 400, "malformed_input"),
    "no rows": (b'{"instances": []}', JSON, 400, "malformed_input"),
    "empty body": (b"", JSON, 400, "malformed_input"),
    "NaN as JSON": (b'{"instances": [[NaN,2,3,4,5,6,7,8]]}', JSON, 422, "unprocessable_input"),
    "NaN as npy": (npy(with_value(np.nan)), NPY, 422, "unprocessable_input"),
    "NaN as CSV": (b"1,2,3,nan,5,6,7,8\n", CSV, 422, "unprocessable_input"),
    "an npy of objects": (npy(np.array([{"a": 1}], object)), NPY, 400, "malformed_input"),
    "an npy that promises terabytes": (
        npy(np.zeros((1, 8), np.float32)).replace(b"(1, 8)", b"(9999999999, 8)"), NPY, 400, "malformed_input",
    ),
    "unknown media type": (b"<a/>", {"Content-Type": "application/xml"}, 415, "unsupported_media_type"),
    "an unknown compression": (b"[]", {**JSON, "Content-Encoding": "br"}, 415, "unsupported_media_type"),
    "no media type": (b"[]", {}, 415, "unsupported_media_type"),
    "unknown Accept": (b"[]", {**JSON, "Accept": "text/html"}, 406, "not_acceptable"),
    "a charset that JSON has not": (
        b"[]", {"Content-Type": "application/json; charset=utf-16"}, 400, "malformed_input",
    ),
    "oversize": (b" " * (LIMIT + 1), JSON, 413, "body_too_large"),
}  # fmt: skip


def check_error(answer: Answer, status: int, code: str) -> None:
    """One small JSON object: what was wrong, a stable code, the request's id; nothing of the server's inside."""
    assert (answer.status, answer.headers["content-type"]) == (status, "application/json"), answer
    body = answer.json()
    assert set(body) == {"error", "code", "request_id"}
    assert body["code"] == code
    assert len(answer.body) < 1_000
    assert re.search(r"Traceback|File \"|\.py\b|/[a-z]+/[a-z]+/|<html|<!", body["error"], re.IGNORECASE) is None


@pytest.mark.parametrize("name", CASES)
def test_bad_input_gets_its_status_and_an_error_that_says_what_to_do(mlp_server: ServerProcess, name: str) -> None:
    body, headers, status, code = CASES[name]
    answer = mlp_server.post("/invocations", body, {**headers, "X-Request-Id": "my own"})
    check_error(answer, status, code)
    assert answer.json()["request_id"] == "my own"


def test_errors_without_an_id_of_the_caller_get_different_ones(mlp_server: ServerProcess) -> None:
    ids = {mlp_server.post("/invocations", b"", JSON).json()["request_id"] for _ in range(5)}
    assert len(ids) == 5


@pytest.mark.parametrize("path", ["/invocations", "/invocations?cold=1"])
def test_an_oversize_body_in_chunks_is_refused_before_it_is_complete(mlp_server: ServerProcess, path: str) -> None:
    with mlp_server.connect() as client:
        head = (
            f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        client.sendall(head.encode() + b"%x\r\n" % (LIMIT + 1) + b" " * (LIMIT + 1) + b"\r\n")
        received = read_to_end(client)
    assert received.startswith(b"HTTP/1.1 413 ")
    assert b'"code":"body_too_large"' in received


@pytest.mark.parametrize("path", ["/invocations", "/invocations?cold=1"])
def test_a_body_of_just_the_limit_is_read(mlp_server: ServerProcess, path: str) -> None:
    body = b'{"instances":[[0,1,2,3,4,5,6,7]]}'.ljust(LIMIT)
    answer = mlp_server.post(path, body, JSON)
    assert answer.json() == {"predictions": mlp_answer(np.array([ROW])).tolist()}


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/favicon.ico", 404, "unknown_route"),
        ("GET", "/../../etc/passwd", 404, "unknown_route"),
        ("GET", "/%2e%2e/%00", 404, "unknown_route"),
        ("GET", "/<script>", 404, "unknown_route"),
        ("GET", "/invocations", 405, "method_not_allowed"),
        ("DELETE", "/ping", 405, "method_not_allowed"),
        ("GET", "/v2/models/other", 404, "unknown_model"),
        ("GET", "/v2/models/mlp/versions/9", 404, "unknown_model"),
        ("POST", "/v2/models/other/infer", 404, "unknown_model"),
    ],
)
def test_what_is_not_there_is_an_error_of_the_same_form(
    mlp_server: ServerProcess, method: str, path: str, status: int, code: str
) -> None:
    answer = mlp_server.request(method, path)
    check_error(answer, status, code)
    if path == "/ping":
        assert answer.headers["allow"] == "GET, HEAD, POST"


@pytest.fixture(scope="module")
def batching_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """The MLP in a thread, so that requests of several connections share batches."""
    directory = tmp_path_factory.mktemp("batching")
    model = sample_models.mlp(directory / "mlp.onnx")
    with server_process(directory, model, "--max-body-mb", "0.1", "--inline-below-us", "0") as server:
        yield server.ready()


def test_good_requests_beside_bad_ones_all_get_exactly_their_answers(batching_server: ServerProcess) -> None:
    cases = list(CASES.values())

    def ask(number: int) -> None:
        if number % 2:
            body, headers, status, code = cases[number // 2 % len(cases)]
            check_error(batching_server.post("/invocations", body, headers), status, code)
            return
        x = np.random.default_rng(number).integers(-50, 50, (1 + number % 5, MLP_FEATURES)).astype(np.float32)
        answer = batching_server.post("/invocations", {"instances": x.tolist()})
        assert answer.json() == {"predictions": mlp_answer(x).tolist()}

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(ask, range(6 * len(cases))))
    assert "Traceback" not in batching_server.log()


@pytest.mark.parametrize("kind", ["two_and_two", "text", "no_batch_axis"])
def test_inputs_of_every_kind_are_answered_and_refused(tmp_path: Path, kind: str) -> None:
    write, good, expected, bad = {
        "two_and_two": (
            sample_models.two_and_two,
            {"instances": [{"a": [1, 2], "b": [3]}, {"a": [0, 0], "b": [-1]}]},
            {"predictions": [{"sum": [4, 5], "minus": [-3]}, {"sum": [-1, -1], "minus": [1]}]},
            [
                {"instances": [{"a": [1, 2]}]},
                {"instances": [{"a": [1, 2], "b": [3], "c": [0]}]},
                {"instances": [{"a": [1, 2], "b": [0.5]}]},
                {"instances": [[1, 2, 3]]},
                {"inputs": {"a": [[1, 2], [3, 4]], "b": [[1]]}},
            ],
        ),
        "text": (
            sample_models.text,
            {"instances": [["Grüße"], [""], ["a\u0000b"]]},
            {"predictions": [["Grüße"], [""], ["a\u0000b"]]},
            [{"instances": [[1]]}, {"instances": ["flat"]}, {"instances": [[None]]}],
        ),
        "no_batch_axis": (
            sample_models.no_batch_axis,
            {"inputs": [[1, 2, 3], [4, 5, 6]]},
            {"outputs": [[2, 4, 6], [8, 10, 12]]},
            [{"inputs": [[1, 2, 3]]}, {"inputs": [[[1, 2, 3], [4, 5, 6]]]}],
        ),
    }[kind]  # fmt: skip
    with server_process(tmp_path, write(tmp_path / "model.onnx")) as server:
        server.ready()
        assert server.post("/invocations", good).json() == expected
        for body in bad:
            check_error(server.post("/invocations", body), 400, "malformed_input")
        assert server.post("/invocations", good).json() == expected
