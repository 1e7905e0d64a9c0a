"""A batch transform as the platform runs it: advice, uploads without a length, a line out for each line in."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.integration import sample_models
from tests.integration.server_process import Answer, ServerProcess, post_bytes, read_answers, server_process

JOB = {"SAGEMAKER_BATCH": "True", "SAGEMAKER_MAX_PAYLOAD_IN_MB": "0", "SAGEMAKER_BATCH_STRATEGY": "MULTI_RECORD"}
ROWS = 1_000
X = np.arange(ROWS * sample_models.MLP_FEATURES, dtype=np.float32).reshape(ROWS, -1) / 1_000
Y = sample_models.mlp_answer(X)


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    directory = tmp_path_factory.mktemp("job")
    with server_process(directory, sample_models.mlp(directory / "mlp.onnx"), environ=JOB) as server:
        yield server.ready()


def upload(server: ServerProcess, body: bytes, content_type: str, accept: str) -> Answer:
    """In chunks, as the platform does it for MaxPayloadInMB 0."""
    head = f"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: {content_type}\r\nAccept: {accept}\r\n"
    with server.connect() as client:
        client.sendall(head.encode() + b"Transfer-Encoding: chunked\r\n\r\n")
        for begin in range(0, len(body), 10_000):
            piece = body[begin : begin + 10_000]
            client.sendall(b"%x\r\n%b\r\n" % (len(piece), piece))
        client.sendall(b"0\r\n\r\n")
        return read_answers(client, 1)[0]


def lines(array: np.ndarray) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in array.tolist()).encode()


def values(array: np.ndarray) -> bytes:
    return "".join(",".join(map(str, row)) + "\n" for row in array.tolist()).encode()


def test_the_job_is_told_what_to_send(job: ServerProcess) -> None:
    answer = job.get("/execution-parameters")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    assert answer.json() == {"MaxConcurrentTransforms": 16, "BatchStrategy": "MULTI_RECORD", "MaxPayloadInMB": 6}


@pytest.mark.parametrize("content_type", ["application/jsonlines", "text/csv", "text/csv; charset=utf-8"])
@pytest.mark.parametrize("accept", ["application/jsonlines", "text/csv", "application/json"])
def test_a_line_out_for_each_line_in(job: ServerProcess, content_type: str, accept: str) -> None:
    answer = upload(job, lines(X) if "json" in content_type else values(X), content_type, accept)
    assert answer.status == 200
    if accept == "application/json":
        found = answer.json()["predictions"]
    elif accept == "text/csv":
        found = [[float(cell) for cell in line.split(",")] for line in answer.body.decode().splitlines()]
    else:
        found = [json.loads(line) for line in answer.body.splitlines()]
    assert np.allclose(np.array(found), Y, rtol=1e-5)


def test_a_record_out_for_each_record_in(job: ServerProcess) -> None:
    body = b""
    for row in X:
        tensor = b"\x0a\x20" + row.tobytes()
        record = b"\x0a\x2e\x0a\x06values\x12\x24\x12\x22" + tensor
        body += struct.pack("<II", 0xCED7230A, len(record)) + record + bytes(-len(record) % 4)
    kind = "application/x-recordio-protobuf"
    answer = upload(job, body, kind, kind)
    assert (answer.status, answer.headers["content-type"]) == (200, kind)
    size = struct.unpack_from("<I", answer.body, 4)[0]
    frame = 8 + size + -size % 4
    assert len(answer.body) == ROWS * frame
    found = [np.frombuffer(answer.body, "<f4", 3, at + 8 + size - 12) for at in range(0, len(answer.body), frame)]
    assert np.allclose(np.array(found), Y, rtol=1e-5)


def test_a_job_may_send_more_than_an_endpoint_would_take(job: ServerProcess) -> None:
    body = json.dumps({"instances": X[:2].tolist()}).encode() + b" " * 31_000_000
    answer = upload(job, body, "application/json", "text/csv")
    assert (answer.status, answer.body.count(b"\n")) == (200, 2)


def test_a_job_waits_where_an_endpoint_refuses(tmp_path: Path) -> None:
    model = sample_models.fake(tmp_path / "model", wait_us=10_000, batch_sizes=(1,))
    body = b"1,2,3,4\n" * 60  # 0.6 seconds of work: the third one waits longer than an endpoint lets it
    with server_process(tmp_path, model, environ=JOB) as server:
        server.ready()
        clients = [server.connect() for _ in range(3)]
        for client in clients:
            client.sendall(post_bytes(body, headers="Content-Type: text/csv\r\n"))
        assert {read_answers(client, 1)[0].status for client in clients} == {200}
