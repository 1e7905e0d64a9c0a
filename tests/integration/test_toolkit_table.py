"""What SageMaker's inference toolkit does with a request, row by row, and what this server does instead.

The rows are those of the measured table of toolkit 1.10: where it answers 500 for a mistake of the caller, the caller
is told; where it guesses, nothing is guessed. All models are behind one multi-model endpoint.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from tests.integration import sample_models
from tests.integration.server_process import ServerProcess, server_process

JSON_TYPE, CSV_TYPE = "application/json", "text/csv"
DOUBLED = b'{"predictions":[[2.0,4.0,6.0,8.0]]}'


def saved(save: str, **arrays: np.ndarray) -> bytes:
    out = io.BytesIO()
    if save == "npy":
        np.save(out, next(iter(arrays.values())), allow_pickle=True)
    else:
        np.savez(out, **arrays)  # type: ignore[arg-type]
    return out.getvalue()


@dataclass(frozen=True)
class Row:
    """``sent`` to ``model``, and ``status`` and what the answer holds; ``toolkit`` is what the toolkit does."""

    name: str
    toolkit: str
    sent: bytes
    content_type: str | None
    status: int
    holds: bytes
    accept: str | None = None
    model: str = "fake"
    answered_as: str = JSON_TYPE
    lacks: tuple[bytes, ...] = field(default=(b"Traceback", b"<html", b'File "'))


X = np.array([[1, 2, 3, 4]], np.float32)
PICKLED = saved("npy", x=np.array([{"a": 1}], object))
ONE = b"1,2,3,4"
ROWS = [
    Row("json list", "array", b"[[1,2,3,4]]", JSON_TYPE, 200, b"[[2.0,4.0,6.0,8.0]]"),
    Row("json instances", "0-d object array", b'{"instances":[[1,2,3,4]]}', JSON_TYPE, 200, DOUBLED),
    Row("json with charset", "500", b"[[1,2,3,4]]", "application/json; charset=utf-8", 200, b"[[2.0,4.0,6.0,8.0]]"),
    Row("type in capitals", "500", ONE, "TEXT/CSV", 200, DOUBLED),
    Row("csv with charset", "500", ONE, "text/csv", 200, DOUBLED),
    Row("no type", "500", ONE, None, 415, b"Content-Type is missing"),
    Row("ragged json", "500", b"[[1,2,3,4],[1]]", JSON_TYPE, 400, b"row 1 has 1 values"),
    Row("invalid json", "500", b"[[1,2", JSON_TYPE, 400, b"line 1 column"),
    Row("json in no unicode", "500", b'["\xff"]', JSON_TYPE, 400, b"byte 2 is 0xff"),
    Row("csv of one row", "1-d array", ONE, CSV_TYPE, 200, DOUBLED),
    Row("csv of two rows", "2-d array", ONE + b"\n" + ONE, CSV_TYPE, 200, b"[2.0,4.0,6.0,8.0],[2.0,4.0,6.0,8.0]"),
    Row("csv with text", "structured array", ONE + b"\n1,2,3,a", CSV_TYPE, 400, b"row 1, column 3"),
    Row("empty csv", "empty array, 200", b"", CSV_TYPE, 400, b"the body is empty"),
    Row("npz of savez", "500", saved("npz", x=X), "application/x-npz", 200, DOUBLED),
    Row("npz by input name", "500", saved("npz", a=np.ones((1, 2), np.float32), b=np.array([[3]])), "application/x-npz",
        200, b'"sum":[4.0,4.0]', model="two"),
    Row("npy", "array", saved("npy", x=X), "application/x-npy", 200, DOUBLED),
    Row("npy of pickles", "runs them", PICKLED, "application/x-npy", 400, b"pickle"),
    Row("octets", "500", b"abc", "application/octet-stream", 415, b"needs a model with a single BYTES input"),
    Row("image", "500", b"\x89PNG", "image/png", 415, b"needs a model with a single BYTES input"),
    Row("accept with weight", "500", ONE, CSV_TYPE, 200, DOUBLED, "application/json;q=0.9"),
    Row("accept two", "the first", ONE, CSV_TYPE, 200, b"2.0,4.0,6.0,8.0\n", "text/csv, application/json",
        answered_as="text/csv"),
    Row("accept by weight", "500", ONE, CSV_TYPE, 200, DOUBLED, "text/csv;q=0.1, application/json"),
    Row("accept image", "500", ONE, CSV_TYPE, 406, b"cannot be served", "image/png"),
    Row("accept anything", "the default", ONE, CSV_TYPE, 200, DOUBLED, "*/*"),
    Row("no accept", "the default", ONE, CSV_TYPE, 200, DOUBLED),
    Row("csv of one axis", "n lines", b"1,2\n3,4", CSV_TYPE, 200, b"3.0\n7.0\n", CSV_TYPE, "total",
        "text/csv"),
    Row("csv of two axes", "a line a row", b"4,9\n1,1", CSV_TYPE, 200, b"2.0,3.0\n1.0,1.0\n", CSV_TYPE, "roots",
        "text/csv"),
    Row("csv of three axes", "500", b"1\n2", CSV_TYPE, 406, b"ask for application/json", CSV_TYPE, "lookup"),
    Row("csv of no axis", "500", b"1,2\n3,4", CSV_TYPE, 406, b"ask for application/json", CSV_TYPE, "scalar"),
    Row("nan in json", "bare NaN, no JSON", b"[[-1,4]]", JSON_TYPE, 200, b"[[null,2.0]]", model="roots"),
    Row("failing model", "500 with traceback", b"[[666,0,0,0]]", JSON_TYPE, 500, b'"code":"model_failed"'),
]  # fmt: skip


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    directory = tmp_path_factory.mktemp("table")
    sample_models.fake(directory / "fake", poison=666)
    for name, make in {
        "two": sample_models.two_and_two,
        "total": sample_models.total,
        "roots": sample_models.roots,
        "lookup": sample_models.lookup,
        "scalar": sample_models.scalar,
    }.items():
        make(directory / name / "model.onnx")
    with server_process(directory / "server", None, environ={"SAGEMAKER_MULTI_MODEL": "true"}) as server:
        server.ready()
        load_all(server, directory)
        yield server


def load_all(server: ServerProcess, directory: Path) -> None:
    for name in ("fake", "two", "total", "roots", "lookup", "scalar"):
        assert server.post("/models", {"model_name": name, "url": str(directory / name)}).status == 200


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_every_row_of_the_table(served: ServerProcess, row: Row) -> None:
    headers = {"X-Amzn-SageMaker-Inference-Id": "the-id"}
    if row.content_type is not None:
        headers["Content-Type"] = row.content_type
    if row.accept is not None:
        headers["Accept"] = row.accept
    answer = served.request("POST", f"/models/{row.model}/invoke", row.sent, headers)
    assert answer.status == row.status, answer.body
    assert row.holds in answer.body
    assert answer.headers["content-type"] == row.answered_as
    assert not any(word in answer.body for word in row.lacks)
    if row.status != 200:
        assert answer.json()["request_id"] == "the-id"
        assert set(answer.json()) == {"error", "code", "request_id"}
    elif row.answered_as == JSON_TYPE:
        json.loads(answer.body, parse_constant=pytest.fail)


def test_the_default_accept_of_the_platform_is_kept(tmp_path: Path) -> None:
    environ = {"SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT": "text/csv"}
    with server_process(tmp_path, sample_models.fake(tmp_path / "model"), environ=environ) as server:
        answer = server.ready().post("/invocations", ONE, {"Content-Type": CSV_TYPE})
    assert (answer.status, answer.body) == (200, b"2.0,4.0,6.0,8.0\n")


def test_a_failure_is_found_in_the_log_by_its_id(served: ServerProcess) -> None:
    headers = {"X-Amzn-SageMaker-Inference-Id": "find-me", "X-Amzn-SageMaker-Target-Model": "team/a.tar.gz"}
    served.post("/models/fake/invoke", {"instances": [[666, 0, 0, 0]]}, headers)
    assert "id='find-me' target_model='team/a.tar.gz' status=500 code=model_failed" in served.log()
