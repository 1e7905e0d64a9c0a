"""The ONNX file: inputs without a shape, and operators that decide by the values of the inputs."""

from __future__ import annotations

from pathlib import Path

import pytest

from server.backends.onnx_file import branch_on_data, unranked_inputs
from tests import onnx_graphs


@pytest.mark.parametrize(
    ("build", "names"),
    [
        (onnx_graphs.unranked_input, ["x"]),
        (onnx_graphs.unranked_output, []),
        (onnx_graphs.scalars, []),
        (onnx_graphs.with_temperature, []),
        (onnx_graphs.no_inputs, []),
        (onnx_graphs.embedding, []),
    ],
)
def test_inputs_without_a_shape_are_found(build: onnx_graphs.Build, names: list[str], tmp_path: Path) -> None:
    assert unranked_inputs(onnx_graphs.save(build, tmp_path / "model.onnx")) == names


@pytest.mark.parametrize(
    ("build", "operator"),
    [
        (onnx_graphs.branch_on_a_rare_value, "If"),
        (onnx_graphs.branch_on_a_width, ""),
        (onnx_graphs.normalized_in_large_batches, ""),
        (onnx_graphs.perceptron, ""),
    ],
)
def test_a_decision_by_the_values_of_the_inputs_is_found(
    build: onnx_graphs.Build, operator: str, tmp_path: Path
) -> None:
    assert branch_on_data(onnx_graphs.save(build, tmp_path / "model.onnx")) == operator


@pytest.mark.parametrize("content", [b"\x3a\xff", b"\x07", b"\x3a\x02\x5a\x7f", b"no model at all"])
def test_a_file_that_is_not_understood_names_none(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    assert unranked_inputs(path) == []
    assert branch_on_data(path) == ""
