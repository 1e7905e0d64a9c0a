"""Plants on Slipway itself: its own server with a small ONNX model or a script, and one fault each."""

from __future__ import annotations

import itertools
import json
import shutil
import signal
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
from tests.integration.server_process import server_process

GLUE = """import json
import pathlib

from {source} import *


def model_fn(folder):
    return {make}


def input_fn(body, kind):
    return json.loads(body){part}


def predict_fn(values, model):
    return model.predict(values)
"""
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
    ends = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["rows", size])
        for name, size in (("x", "length"), ("y", 1))
    ]
    _save(folder, nodes, ends, weights)
    tensor = BY_NAME["FP32"]
    spec = ModelSpec((TensorSpec("x", tensor, (-1, -1)),), (TensorSpec("y", tensor, (-1, 1)),))
    padding, batching = VariableAxis({"x": (1, 0.0)}, {}, (longest,)), Batching((1, 2, 4, 8))
    artifact.write(
        folder, Manifest("planted", "1", "onnxruntime", "model.onnx", spec, batching=batching, padding=padding)
    )


def recurrent(folder: Path, hidden: int, steps: int) -> None:
    """A model.onnx of one recurrent layer, whose weights are read in each step: float32 [rows, 64] to [rows, 1]."""
    random = np.random.default_rng(0)
    sizes = {"w": (1, 3 * hidden, 64), "r": (1, 3 * hidden, hidden)}
    arrays = {name: (random.standard_normal(size) / hidden).astype(np.float32) for name, size in sizes.items()}
    arrays |= {"first": np.array([0]), "second": np.array([1]), "steps": np.array([steps, 1, 1])}
    nodes = [
        helper.make_node("Unsqueeze", ["x", "first"], ["row"]),
        helper.make_node("Expand", ["row", "steps"], ["sequence"]),
        helper.make_node("GRU", ["sequence", "w", "r"], ["", "state"], hidden_size=hidden),
        helper.make_node("Squeeze", ["state", "first"], ["last"]),
        helper.make_node("ReduceSum", ["last", "second"], ["y"]),
    ]
    ends = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["rows", size])
        for name, size in (("x", 64), ("y", 1))
    ]
    _save(folder, nodes, ends, [numpy_helper.from_array(array, name) for name, array in arrays.items()])


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
    _script(folder, "users", f"make({code!r}, pathlib.Path(folder))", "")


def _script(folder: Path, source: str, make: str, part: str) -> None:
    """An inference.py beside a copy of the source. ``make``: the model; ``part``: of the body, what the model gets."""
    code, path = folder / "code", Path(__file__).parent / source
    code.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        shutil.copytree(path, code / source, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(path, code)
    (code / "inference.py").write_text(GLUE.format(source=path.stem, make=make, part=part), encoding="utf-8")


@contextmanager
def served(folder: Path, options: tuple[str, ...]) -> Iterator[str]:
    """The address of ``serve.py`` with this model, when it is ready."""
    with server_process(folder, folder, *options) as server:
        yield f"http://127.0.0.1:{server.ready().port}"
        server.process.send_signal(signal.SIGCONT)
        server.stop()
