"""Aligned external data: every buffer moves to an aligned offset with its content."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from optimize.passes import aligned_data
from optimize.passes.leveled_from_float32 import write
from optimize.sandbox import isolation
from optimize.sandbox.isolation import StepLimits
from server.backends import BackendOptions, loader
from server.tensors import Array


def perceptron(path: Path, widths: tuple[int, ...]) -> Path:
    rng = np.random.default_rng(0)
    nodes, tensors, last = [], [], "x"
    for at, (given_width, width) in enumerate(itertools.pairwise(widths)):
        for name, array in ((f"w{at}", rng.normal(size=(given_width, width))), (f"b{at}", rng.normal(size=width))):
            tensors.append(numpy_helper.from_array(array.astype(np.float32), name))
        nodes.append(helper.make_node("Gemm", [last, f"w{at}", f"b{at}"], [f"h{at}"]))
        nodes.append(helper.make_node("Relu", [f"h{at}"], [f"r{at}"]))
        last = f"r{at}"
    faces = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", size])
        for name, size in (("x", widths[0]), (last, widths[-1]))
    ]
    graph = helper.make_graph(nodes, "g", faces[:1], faces[1:], tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def answer(path: Path, rows: Array, optimized: bool) -> Array:
    session = loader("onnxruntime")(path, BackendOptions(threads=1, optimized=optimized))
    found: Array = session.run([rows])[0]
    session.close()
    return found


@settings(max_examples=8)
@given(widths=st.lists(st.integers(1, 330), min_size=3, max_size=4))
def test_packed_perceptrons_of_any_width_load_and_compute_the_same(
    widths: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Packed weights at odd offsets end the process, so the file runs in a child."""
    folder = tmp_path_factory.mktemp("m")
    plain, packed = perceptron(folder / "m.onnx", tuple(widths)), folder / "packed.onnx"
    write(plain, packed, "all")
    assert all(offset % aligned_data.ALIGNMENT_BYTES == 0 for offset in aligned_data.offsets(packed))
    rows = np.random.default_rng(1).normal(size=(3, widths[0])).astype(np.float32)
    limits = StepLimits(100, 4_000_000_000)
    got = isolation.call(limits, answer, packed, rows, True)
    assert np.allclose(got, answer(plain, rows, False), rtol=1e-4, atol=1e-4)


def test_a_file_that_ends_early_is_an_error(tmp_path: Path) -> None:
    path = perceptron(tmp_path / "m.onnx", (300, 300, 2))
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="m.data", size_threshold=0)
    (tmp_path / "m.data").write_bytes(b"short")
    with pytest.raises(ValueError, match=r"ends .* bytes early"):
        aligned_data.align(path)
