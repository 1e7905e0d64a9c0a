"""Plants on Slipway itself: its own server with a small ONNX model or a script, and one fault each."""

from __future__ import annotations

import itertools
import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from server import artifact
from server.artifact import Batching, Manifest, VariableAxis
from server.tensors import BY_NAME, ModelSpec, TensorSpec

ROOT = Path(__file__).resolve().parents[4]
GLUE = """

import json as _json


def model_fn(folder):
    return {make}


def input_fn(body, kind):
    return _json.loads(body){part}


def predict_fn(values, model):
    return model.predict(values)
"""
PATIENCE_S = 60.0
BEHIND = 3_000
"""Size of the layers behind the sum of a model that pads."""


def network(folder: Path, inputs: int, hidden: int, layers: int) -> None:
    """A model.onnx of dense layers: float32 [rows, inputs] to [rows, 1]."""
    random = np.random.default_rng(0)
    sizes = [inputs, *[hidden] * layers, 1]
    nodes, weights, last = [], [], "x"
    for at, (rows, columns) in enumerate(itertools.pairwise(sizes)):
        values = (random.standard_normal((rows, columns)) / np.sqrt(rows)).astype(np.float32)
        weights.append(numpy_helper.from_array(values, f"w{at}"))
        into = "y" if at == len(sizes) - 2 else f"h{at}"
        nodes.append(helper.make_node("MatMul", [last, f"w{at}"], [into]))
        last = into
    ends = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["rows", size])
        for name, size in (("x", inputs), ("y", 1))
    ]
    _save(folder, nodes, ends, weights)


def padded(folder: Path, hidden: int, longest: int) -> None:
    """An artifact whose requests of any length up to ``longest`` are padded to share a run: float32 [rows, length] to
    [rows, 1]. Zeros stay zeros through its layers, and so change no sum. Layers behind the sum read large weights once
    a run, so that batches pay."""
    random = np.random.default_rng(0)
    sizes = ((1, hidden), (hidden, hidden), (hidden, hidden), (hidden, BEHIND), (BEHIND, BEHIND), (BEHIND, 1))
    weights = [
        numpy_helper.from_array((random.standard_normal(size) / np.sqrt(size[0])).astype(np.float32), f"w{at}")
        for at, size in enumerate(sizes)
    ]
    weights += [numpy_helper.from_array(np.array([2]), "last"), numpy_helper.from_array(np.array([1]), "positions")]
    nodes = [
        helper.make_node("Unsqueeze", ["x", "last"], ["h0"]),
        *(helper.make_node("MatMul", [f"h{at}", f"w{at}"], [f"h{at + 1}"]) for at in range(3)),
        helper.make_node("ReduceSum", ["h3", "positions"], ["sum"], keepdims=0),
        helper.make_node("MatMul", ["sum", "w3"], ["b0"]),
        helper.make_node("MatMul", ["b0", "w4"], ["b1"]),
        helper.make_node("MatMul", ["b1", "w5"], ["y"]),
    ]
    shapes: dict[str, list[str | int | None]] = {"x": ["rows", "length"], "y": ["rows", 1]}
    ends = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name, shape in shapes.items()]
    _save(folder, nodes, ends, weights)
    spec = ModelSpec((TensorSpec("x", BY_NAME["FP32"], (-1, -1)),), (TensorSpec("y", BY_NAME["FP32"], (-1, 1)),))
    padding = VariableAxis({"x": (1, 0.0)}, {}, (longest,))
    batching = Batching((1, 2, 4, 8))
    artifact.write(
        folder, Manifest("planted", "1", "onnxruntime", "model.onnx", spec, batching=batching, padding=padding)
    )


def rows_of(lengths: Sequence[int], folder: Path) -> list[Path]:
    """Bodies for a model that pads: a row of each of these lengths."""
    paths = []
    for number, length in enumerate(lengths):
        data = np.random.default_rng(number).standard_normal(length).round(6).tolist()
        body = {"inputs": [{"name": "x", "shape": [1, length], "datatype": "FP32", "data": data}]}
        paths.append(folder / f"row_{number}.json")
        paths[-1].write_text(json.dumps(body), encoding="utf-8")
    return paths


def _save(
    folder: Path, nodes: list[onnx.NodeProto], ends: list[onnx.ValueInfoProto], weights: list[onnx.TensorProto]
) -> None:
    graph = helper.make_graph(nodes, "planted", ends[:1], ends[1:], weights)
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "model.onnx"
    )


def script(folder: Path, faults: str) -> None:
    """A script with the faulty model."""
    _script(folder, "faulty_model.py", f"FaultyModel(parse({faults!r}))", '["values"]')


def users_script(folder: Path, code: dict[str, Any]) -> None:
    """A script with the code of a user."""
    _script(folder, "users_code.py", f"make({code!r}, Path(folder))", "")


def _script(folder: Path, module: str, make: str, part: str) -> None:
    """The module as inference.py. ``make``: the model; ``part``: of the decoded body, what the model gets."""
    code = folder / "code"
    code.mkdir(parents=True, exist_ok=True)
    source = (Path(__file__).parent / module).read_text(encoding="utf-8")
    (code / "inference.py").write_text(source + GLUE.format(make=make, part=part), encoding="utf-8")


@contextmanager
def served(folder: Path, options: tuple[str, ...]) -> Iterator[str]:
    """The address of ``serve.py`` with this model, when it is ready."""
    command = [sys.executable, "serve.py", "--port", "0", "--host", "127.0.0.1", "--model", str(folder), *options]
    log = folder / "log.txt"
    with (
        log.open("wb") as file,
        subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=file, stderr=file) as process,
    ):
        try:
            end_s = time.monotonic() + PATIENCE_S
            while True:
                found = re.search(r"listening on (http://\S+:\d+)", log.read_text(errors="replace"))
                if found is not None:
                    break
                if process.poll() is not None or time.monotonic() > end_s:
                    raise RuntimeError(log.read_text(errors="replace"))
                time.sleep(0.05)
            _until_ready(found[1], end_s)
            yield found[1]
        finally:
            process.send_signal(signal.SIGCONT)
            process.terminate()


def _until_ready(url: str, end_s: float) -> None:
    import urllib.request

    while time.monotonic() < end_s:
        try:
            with urllib.request.urlopen(f"{url}/ping", timeout=5) as answer:
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError(f"{url} did not become ready")
