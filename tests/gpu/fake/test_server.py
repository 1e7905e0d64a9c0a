"""The server over the real CUDA provider: graphs only after warm-up, and a GPU that is lost."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.client import HTTPConnection
from pathlib import Path
from queue import Queue
from threading import Thread

import onnx.parser
import pytest

from server import artifact as artifacts
from server.artifact import Batching, Manifest
from server.target import ClosedShapes, DeviceTarget
from server.tensors import BY_NAME, ModelSpec, TensorSpec

ROOT = Path(__file__).parents[3]
FP32 = BY_NAME["FP32"]
BODY = b"[[1, 2, 3, 4], [1, 2, 3, 4], [1, 2, 3, 4]]"
GRAPH = """
<ir_version: 9, opset_import: ["": 18]>
g (float[N, 4] x) => (float[N, 4] y)
<float[4, 4] w = {1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1}>
{
    [product] p = MatMul(x, w)
    [positive] y = Relu(p)
}
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("model")
    onnx.save(onnx.parser.parse_model(GRAPH), root / "model.onnx")
    write(root, DeviceTarget("cuda"))
    return root


def write(root: Path, target: DeviceTarget) -> None:
    spec = ModelSpec((TensorSpec("x", FP32, (-1, 4)),), (TensorSpec("y", FP32, (-1, 4)),))
    manifest = Manifest("m", "1", "onnxruntime_cuda", "model.onnx", spec)
    batching = Batching((1, 4), 2, 1, independent=True)
    artifacts.write(root, replace(manifest, batching=batching, device=target, shapes=ClosedShapes((1, 4))))


@contextmanager
def server(model: Path, *flags: str, **variables: str) -> Iterator[tuple[subprocess.Popen[str], Queue[str]]]:
    """A server process and the lines of its log."""
    command = [sys.executable, str(ROOT / "serve.py"), "serve", "--model", str(model), "--port", "0"]
    process = subprocess.Popen(
        [*command, "--inline-below-us", "0", *flags],
        env={**os.environ, **variables},
        stderr=subprocess.STDOUT,
        stdout=subprocess.PIPE,
        text=True,
    )
    lines: Queue[str] = Queue()
    output = process.stdout
    assert output is not None

    def read() -> None:
        for line in output:
            lines.put(line)

    reader = Thread(target=read, daemon=True)
    reader.start()
    try:
        yield process, lines
    finally:
        process.kill()
        process.wait()
        reader.join()
        output.close()


def connection(lines: Queue[str]) -> HTTPConnection:
    """A connection to a server that is ready."""
    port = 0
    while True:
        line = lines.get(timeout=60)
        if "listening on" in line:
            port = int(line.rpartition(":")[2])
        if "model ready" in line:
            break
    client = HTTPConnection("127.0.0.1", port, timeout=30)
    status = 0
    while status != 200:  # the log tells of the model a moment before the server is ready
        client.request("GET", "/ping")
        answer = client.getresponse()
        answer.read()
        status = answer.status
    return client


def ask(client: HTTPConnection) -> tuple[int, bytes]:
    client.request("POST", "/invocations", BODY, {"Content-Type": "application/json"})
    answer = client.getresponse()
    return answer.status, answer.read()


def test_every_run_after_the_load_is_one_replay(model: Path) -> None:
    with server(model) as (_, lines):
        client = connection(lines)
        for _ in range(5):
            assert ask(client)[0] == 200
        client.request("GET", "/metrics")
        text = client.getresponse().read().decode()
        client.close()
    runs = {
        line.split('how="')[1].split('"')[0]: float(line.split()[-1]) for line in text.splitlines() if 'how="' in line
    }
    assert runs["replay"] >= 5
    assert runs["launch"] == runs["open"] == 0


def test_a_lost_gpu_answers_and_ends_the_server(model: Path) -> None:
    with server(model, FAKE_GPU_FAULT="700@3000") as (process, lines):
        client = connection(lines)
        status, body = ask(client)
        while status == 200:
            status, body = ask(client)
        client.close()
        assert status == 503
        assert b"device_lost" in body
        assert process.wait(30) == 1


@pytest.mark.parametrize(
    ("target", "gpus", "said"),
    [
        (DeviceTarget("cuda", sm=90), "sm=89", "built for GPUs of SM 90, and this one has SM 89"),
        (DeviceTarget("cuda", least_sm=80), "sm=75", "SM 80 or newer"),
        (DeviceTarget("cuda", least_driver=580), "sm=89,driver=535.183.01", "driver of 580 or newer, and 535"),
        (DeviceTarget("cuda", bytes=1 << 40), "sm=89", "GB of device memory"),
    ],
)
def test_another_host_is_refused_before_the_server_is_ready(
    target: DeviceTarget, gpus: str, said: str, model: Path, tmp_path: Path
) -> None:
    (tmp_path / "model.onnx").write_bytes((model / "model.onnx").read_bytes())
    write(tmp_path, target)
    with server(tmp_path, FAKE_GPUS=gpus) as (process, lines):
        assert process.wait(60) == 1
        process.kill()
    text = "".join(lines.queue)
    assert "model ready" not in text
    assert said in text.splitlines()[-1]


@pytest.mark.parametrize(("gpus", "refused"), [("sm=89;sm=89", False), ("sm=89;sm=90", True)])
def test_each_of_two_processes_has_a_gpu_of_its_own(gpus: str, refused: bool, model: Path, tmp_path: Path) -> None:
    """The artifact is for SM 89 only: the process that gets the second GPU says what that is."""
    (tmp_path / "model.onnx").write_bytes((model / "model.onnx").read_bytes())
    write(tmp_path, DeviceTarget("cuda", sm=89))
    with server(tmp_path, "--processes", "2", "--gpus", "0", FAKE_GPUS=gpus) as (process, lines):
        seen: list[str] = []
        end = "SM 90" if refused else "all processes are ready"
        while end not in (seen or [""])[-1]:
            seen.append(lines.get(timeout=60))
        process.terminate()
        process.wait(60)
    shares = [line.rpartition("gpus=")[2].strip() for line in seen if "GPUs of a process" in line]
    assert [one.partition(" ")[2] for one in shares] == ["sharers=1", "sharers=1"]
    assert len({one.partition(" ")[0] for one in shares}) == 2
