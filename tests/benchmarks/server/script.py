"""The latency that a user's script adds: the same ONNX model behind five script functions, and served directly."""

from __future__ import annotations

from pathlib import Path

from bench.peers import networks
from tests.benchmarks.server.processes import Load, free_port, served, slipway, wrk, wrk_script

WANTED_MS = 0.3

SCRIPT = """
import json
import os
import numpy as np
import onnxruntime as ort

def model_fn(model_dir):
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(os.path.join(model_dir, "model.onnx"), options, providers=["CPUExecutionProvider"])

def model_warmup_fn(model_dir, model):
    predict_fn(np.zeros((1, 64), np.float32), model)

def input_fn(body, content_type):
    return np.array(json.loads(body)["instances"], np.float32)

def predict_fn(data, model):
    return model.run(None, {model.get_inputs()[0].name: data})[0]

def output_fn(prediction, accept):
    return json.dumps({"predictions": prediction.tolist()}), accept
"""


def script(work: Path, rounds: int, seconds: int) -> list[str]:
    """p50 at one connection with a script, in a thread and in a process, against the model without one."""
    plain, scripted = work / "plain.onnx", work / "scripted"
    (scripted / "code").mkdir(parents=True)
    networks.perceptron(plain)
    networks.perceptron(scripted / "model.onnx")
    (scripted / "code" / "inference.py").write_text(SCRIPT, encoding="utf-8")
    post = wrk_script(work / "post.lua")
    direct, thread, process = free_port(), free_port(), free_port()
    with (
        served(slipway(plain, direct), direct, work / "direct.log"),
        served(slipway(scripted, thread), thread, work / "thread.log"),
        served(slipway(scripted, process, "--script-workers", "1"), process, work / "process.log"),
    ):
        turns = [[wrk(port, post, 1, seconds) for port in (direct, thread, process)] for _ in range(rounds)]
    loads = list(zip(*turns, strict=True))
    direct_ms = _p50_ms(loads[0])
    lines = [f"script: 1 connection: the model alone: p50 {direct_ms:.3f} ms"]
    for name, column in zip(("in a thread", "in a process"), loads[1:], strict=True):
        p50_ms = _p50_ms(column)
        wanted = f" (wanted: at most {WANTED_MS})" if name == "in a thread" else ""
        lines.append(f"script: five functions {name}: p50 {p50_ms:.3f} ms: {p50_ms - direct_ms:+.3f} ms{wanted}")
    failures = sum(load.failures for column in loads for load in column)
    return [*lines, *([f"script: {failures} answers were not 200"] if failures else [])]


def _p50_ms(loads: tuple[Load, ...]) -> float:
    ordered = sorted(load.p50_s for load in loads)
    return ordered[len(ordered) // 2] * 1e3
