"""Padding is promised where it was shown to change nothing, and nowhere else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from optimize.evaluation import padding
from optimize.evaluation.dataset import Dataset
from optimize.sources import SourceSpec, conversion, onnx_file
from optimize.sources.axes import Axis
from optimize.sources.conversion import Conversion
from server.artifact import VariableAxis

FULL, WIDTH = 24, 4


def text_model(path: Path, *, heeds_mask: bool = True, pooled: bool = True) -> Path:
    """Token ids to the mean of their vectors, over the tokens that the mask shows or over all of them."""
    vectors = np.random.default_rng(0).normal(size=(50, WIDTH)).astype(np.float32)
    nodes = [
        helper.make_node("Gather", ["vectors", "input_ids"], ["found"]),
        helper.make_node("Cast", ["attention_mask"], ["shown"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["shown", "last"], ["weights"]),
        helper.make_node("Mul", ["found", "weights"], ["masked"]),
        helper.make_node("ReduceSum", ["masked", "tokens_axis"], ["sum"], keepdims=0),
        helper.make_node("ReduceSum", ["weights", "tokens_axis"], ["count"], keepdims=0),
        helper.make_node("Div", ["sum", "count"], ["careful"]),
        helper.make_node("ReduceMean", ["found", "tokens_axis"], ["careless"], keepdims=0),
    ]
    made = ("careful" if heeds_mask else "careless") if pooled else "masked"
    nodes.append(helper.make_node("Identity", [made], ["answer"]))
    shape: list[str | int | None] = ["batch", WIDTH] if pooled else ["batch", "tokens", WIDTH]
    faces = [helper.make_tensor_value_info(n, TensorProto.INT64, ["batch", "tokens"]) for n in inputs_of()]
    constants = {"vectors": vectors, "last": np.array([-1]), "tokens_axis": np.array([1])}
    graph = helper.make_graph(
        nodes,
        "text",
        faces,
        [helper.make_tensor_value_info("answer", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


def inputs_of() -> tuple[str, str]:
    return ("input_ids", "attention_mask")


@pytest.fixture
def rows() -> Dataset:
    ids = np.random.default_rng(1).integers(1, 50, (8, FULL))
    return Dataset({"input_ids": ids, "attention_mask": np.ones_like(ids)}, None, "")


def converted(path: Path, rows: Dataset) -> Conversion:
    directory = path.parent / f"{path.stem}-source"
    directory.mkdir()
    return conversion.convert(onnx_file.load(SourceSpec(str(path)), rows), rows, (1, 2), directory)


def test_a_model_that_heeds_its_mask_may_be_padded(tmp_path: Path, rows: Dataset) -> None:
    path = text_model(tmp_path / "text.onnx")
    promise = padding.promised(converted(path, rows), path, path)
    assert promise == VariableAxis({"input_ids": (1, 0), "attention_mask": (1, 0)}, {}, (16, FULL))


def test_a_model_that_ignores_its_mask_may_not(tmp_path: Path, rows: Dataset) -> None:
    path = text_model(tmp_path / "text.onnx", heeds_mask=False)
    assert padding.promised(converted(path, rows), path, path) is None


def test_a_winner_that_padding_disturbs_may_not(tmp_path: Path, rows: Dataset) -> None:
    path = text_model(tmp_path / "text.onnx")
    other = text_model(tmp_path / "other.onnx", heeds_mask=False)
    assert padding.promised(converted(path, rows), path, other) is None


def test_an_answer_for_every_token_is_not_padded(tmp_path: Path, rows: Dataset) -> None:
    path = text_model(tmp_path / "text.onnx", pooled=False)
    assert padding.promised(converted(path, rows), path, path) is None


def test_other_free_axes_than_those_of_texts_are_not_padded(tmp_path: Path, rows: Dataset) -> None:
    path = text_model(tmp_path / "text.onnx")
    found = converted(path, rows)
    axes = (Axis("input_ids", 1, "tokens"), Axis("attention_mask", 1, "shown"))
    assert padding.promised(replace(found, axes=axes), path, path) is None
    assert padding.promised(replace(found, axes=found.axes[:1]), path, path) is None
    assert padding.promised(replace(found, axes=()), path, path) is None
    assert padding.promised(replace(found, inputs=("input_ids", "position_ids")), path, path) is None
