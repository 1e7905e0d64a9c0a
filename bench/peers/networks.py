"""Networks that benchmarks serve, written as ONNX files: a cheap one and an expensive one."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET, IR_VERSION = 17, 8
WIDTH = 64
"""Numbers in a row of the input ``x``, float32 [batch, 64]. The output ``y`` of both networks is float32 [batch, 3]."""


def perceptron(path: Path, hidden: int = 128) -> None:
    """Write layers of 64, 128, 128 and 3. A run takes about 10 us, so that a benchmark measures the server itself."""
    nodes, weights = [], []
    sizes = (WIDTH, hidden, hidden, 3)
    name = "x"
    for index, (fan_in, fan_out) in enumerate(itertools.pairwise(sizes)):
        last = index == len(sizes) - 2
        weights += _weights(index, (fan_in, fan_out), fan_in)
        nodes.append(helper.make_node("Gemm", [name, f"w{index}", f"b{index}"], ["y" if last else f"g{index}"]))
        if not last:
            nodes.append(helper.make_node("Relu", [f"g{index}"], [f"h{index}"]))
        name = f"h{index}"
    _save(path, nodes, weights)


def convolutions(path: Path, channels: int = 48, layers: int = 12) -> None:
    """Write 3 x 3 convolutions over a 24 x 24 image. A row takes one or two ms, and batching gains little."""
    weights = [
        numpy_helper.from_array(np.array([-1, 1, 8, 8], np.int64), "shape"),
        numpy_helper.from_array(np.array([1, 1, 3, 3], np.int64), "repeats"),
    ]
    nodes = [
        helper.make_node("Reshape", ["x", "shape"], ["small"]),
        helper.make_node("Tile", ["small", "repeats"], ["h"]),
    ]
    name, fan_in = "h", 1
    for index in range(layers):
        weights += _weights(index, (channels, fan_in, 3, 3), fan_in * 9)
        nodes += [
            helper.make_node("Conv", [name, f"w{index}", f"b{index}"], [f"c{index}"], pads=[1, 1, 1, 1]),
            helper.make_node("Relu", [f"c{index}"], [f"r{index}"]),
        ]
        name, fan_in = f"r{index}", channels
    weights += _weights(layers, (channels, 3), channels)
    nodes += [
        helper.make_node("GlobalAveragePool", [name], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", f"w{layers}", f"b{layers}"], ["y"]),
    ]
    _save(path, nodes, weights)


def _weights(index: int, shape: tuple[int, ...], fan_in: int) -> list[onnx.TensorProto]:
    random = np.random.default_rng(index)
    values = random.standard_normal(shape) / np.sqrt(fan_in)
    bias = np.zeros(shape[0] if len(shape) == 4 else shape[-1], np.float32)
    return [
        numpy_helper.from_array(values.astype(np.float32), f"w{index}"),
        numpy_helper.from_array(bias, f"b{index}"),
    ]


def _save(path: Path, nodes: list[onnx.NodeProto], weights: list[onnx.TensorProto]) -> None:
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", WIDTH])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.save(model, str(path))
