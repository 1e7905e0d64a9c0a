"""Plants on Slipway itself: its own server with a small ONNX model or a script, and one fault each."""

from __future__ import annotations

import itertools
import json
import re
import shutil
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
    _save_padded(folder, nodes, weights, onnx.TensorProto.FLOAT, longest)


def attention(folder: Path, width: int, longest: int) -> None:
    """An artifact that pads texts: int64 token ids [rows, length] to [rows, 1]; 0 is no token. One layer of attention,
    quadratic in the length, and layers behind it whose large weights are read once a run."""
    random = np.random.default_rng(0)
    sizes = {"e": (1_000, width), "q": (width, width), "k": (width, width), "v": (width, width),
             "f": (width, 4 * width), "b0": (4 * width, BEHIND), "b1": (BEHIND, BEHIND), "b2": (BEHIND, 1)}  # fmt: skip
    arrays = {
        name: (random.standard_normal(size) / np.sqrt(size[0])).astype(np.float32) for name, size in sizes.items()
    }
    arrays |= {"zero": np.array(0), "one": np.array([1]), "two": np.array([2]), "far": np.array(1e4, np.float32)}
    weights = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    make = helper.make_node
    nodes = [
        make("Gather", ["e", "x"], ["words"]),
        make("Equal", ["x", "zero"], ["empty"]),
        make("Cast", ["empty"], ["gaps"], to=onnx.TensorProto.FLOAT),
        make("Mul", ["gaps", "far"], ["distance"]),
        make("Unsqueeze", ["distance", "one"], ["forbidden"]),
        *(make("MatMul", ["words", name], [f"{name}s"]) for name in "qkv"),
        make("Transpose", ["ks"], ["kt"], perm=[0, 2, 1]),
        make("MatMul", ["qs", "kt"], ["scores"]),
        make("Sub", ["scores", "forbidden"], ["allowed"]),
        make("Softmax", ["allowed"], ["shares"], axis=-1),
        make("MatMul", ["shares", "vs"], ["mixed"]),
        make("MatMul", ["mixed", "f"], ["features"]),
        make("Not", ["empty"], ["full"]),
        make("Cast", ["full"], ["tokens"], to=onnx.TensorProto.FLOAT),
        make("Unsqueeze", ["tokens", "two"], ["kept"]),
        make("Mul", ["features", "kept"], ["real"]),
        make("ReduceSum", ["real", "one"], ["h0"], keepdims=0),
        *(make("MatMul", [f"h{at}", f"b{at}"], [f"h{at + 1}" if at < 2 else "y"]) for at in range(3)),
    ]
    _save_padded(folder, nodes, weights, onnx.TensorProto.INT64, longest)


def _save_padded(
    folder: Path, nodes: list[onnx.NodeProto], weights: list[onnx.TensorProto], kind: int, longest: int
) -> None:
    """An artifact of ``x`` [rows, length] to ``y`` [rows, 1], whose inputs are filled with zeros."""
    dtype = BY_NAME["INT64" if kind == onnx.TensorProto.INT64 else "FP32"]
    ends = [
        helper.make_tensor_value_info("x", kind, ["rows", "length"]),
        helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["rows", 1]),
    ]
    _save(folder, nodes, ends, weights)
    spec = ModelSpec((TensorSpec("x", dtype, (-1, -1)),), (TensorSpec("y", BY_NAME["FP32"], (-1, 1)),))
    padding = VariableAxis({"x": (1, 0.0)}, {}, (longest,))
    batching = Batching((1, 2, 4, 8))
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
