"""Isolated environments: created once and only on request; the file protocol, with a fake framework."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from optimize.errors import BadInput, ExportFailed, LoadFailed
from optimize.evaluation.dataset import Dataset
from optimize.sandbox import environments, parent
from optimize.sandbox.environments import Environment
from optimize.sandbox.foreign import paddle, tensorflow
from optimize.sandbox.parent import SandboxLimits
from optimize.sources import KINDS, SourceSpec, baseline, conversion
from optimize.sources.conversion import Conversion

STAND_IN = """
import json
import sys
import numpy as np, onnx
from onnx import TensorProto, helper
from optimize.sandbox.foreign.protocol import GRAPH, Done, main

def convert(job):
    if job.source.name == "broken":
        raise ValueError("Op 'MyOp' is not supported\\n    at line 3")
    faces = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["rows", 2]) for n in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "g", faces[:1], faces[1:])
    opsets = [helper.make_opsetid("", job.opset)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), job.directory / GRAPH)
    return Done(["x"], ["y"], [[-probe["x"]] for probe in job.probes], "stand-in")

sys.exit(main(convert))
"""


class Recorder:
    """Records commands instead of running them, and fails at the one that has ``failing`` in it, as pip would."""

    def __init__(self, failing: str = "nothing") -> None:
        self.commands: list[list[str]] = []
        self._failing = failing

    def __call__(self, command: Sequence[str]) -> None:
        self.commands.append(list(command))
        if "venv" in command:
            Path(command[-1]).mkdir(parents=True)
        if self._failing in command:
            raise LoadFailed("No matching distribution found for paddlepaddle")


def test_an_environment_is_created_only_on_request(tmp_path: Path) -> None:
    run = Recorder()
    with pytest.raises(BadInput, match=r"paddlepaddle==.* --isolated creates it in .*MB to download"):
        environments.interpreter("paddle", tmp_path, run, create=False)
    assert run.commands == []


def test_an_environment_is_created_once(tmp_path: Path) -> None:
    run = Recorder()
    first = environments.interpreter("paddle", tmp_path, run, create=True)
    assert [command[2] for command in run.commands] == ["venv", "pip"]
    assert run.commands[1][-4:] == list(environments.ENVIRONMENTS["paddle"].packages)
    assert environments.interpreter("paddle", tmp_path, run, create=False) == first
    assert len(run.commands) == 2


def test_a_failed_environment_is_deleted(tmp_path: Path) -> None:
    with pytest.raises(LoadFailed, match="No matching distribution"):
        environments.interpreter("paddle", tmp_path, Recorder("pip"), create=True)
    assert list(tmp_path.iterdir()) == []


def test_a_failing_command_is_reported_in_one_line() -> None:
    with pytest.raises(LoadFailed, match=r"nothing was kept: the reason \(in: .*-c "):
        environments.run_command([sys.executable, "-c", "import sys; sys.exit('what came before\\nthe reason')"])


@pytest.fixture
def data() -> Dataset:
    return Dataset({"x": np.arange(20, dtype=np.float32).reshape(10, 2)}, None, "")


@pytest.fixture
def workdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A scratch folder, and a stand-in where the converter's module would be."""
    (tmp_path / "stand_in.py").write_text(STAND_IN)
    (tmp_path / "work").mkdir()
    monkeypatch.setitem(environments.ENVIRONMENTS, "paddle", Environment((), "stand_in", ""))
    before = parent.run

    def run(command: list[str], directory: Path, importable: list[str], reference: str, limits: SandboxLimits) -> None:
        before(command, directory, [*importable, str(tmp_path)], reference, limits)

    monkeypatch.setattr(parent, "run", run)
    return tmp_path / "work"


def convert(source: Path, data: Dataset, workdir: Path) -> Conversion:
    source.mkdir()
    (source / "inference.pdiparams").write_bytes(b"weights")
    kind, request = KINDS["paddle"], SourceSpec(str(source))
    return environments.convert(kind, request, data, (1, 2, 8), workdir, SandboxLimits(), Path(sys.executable))


def test_a_conversion_is_returned_and_proven(tmp_path: Path, data: Dataset, workdir: Path) -> None:
    found = convert(tmp_path / "model", data, workdir)
    assert (found.exported.exporter, set(found.digests)) == ("stand-in", {"model"})
    assert baseline.write(found, tmp_path / "r.onnx").worst == 0


def test_inputs_are_renamed_and_a_fixed_batch_is_freed(tmp_path: Path) -> None:
    """Graphs of .tflite files have long input names and a batch of one."""
    faces = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 2]) for n in ("serving_default_x:0", "y")]
    graph = helper.make_graph([helper.make_node("Neg", ["serving_default_x:0"], ["y"])], "g", faces[:1], faces[1:])
    onnx.save(helper.make_model(graph), tmp_path / conversion.GRAPH)
    (tmp_path / conversion.RESULT).write_text(json.dumps({"renamed": {"serving_default_x:0": "x"}}))
    environments._adjust(tmp_path)
    model = onnx.load(tmp_path / conversion.GRAPH)
    onnx.checker.check_model(model)
    assert (model.graph.input[0].name, list(model.graph.node[0].input)) == ("x", ["x"])
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"


@pytest.mark.parametrize(
    ("name", "arrays", "short"),
    [("serving_default_x:0", ("x",), "x"), ("x", ("x",), "x"), ("serving_default_x:0", ("y",), "x")],
)
def test_names_of_lite_inputs_are_found_in_the_rows(name: str, arrays: tuple[str, ...], short: str) -> None:
    assert tensorflow._short(name, dict.fromkeys(arrays)) == short


def test_outputs_keep_the_names_of_the_model(tmp_path: Path, data: Dataset, workdir: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "inference.pdiparams").write_bytes(b"weights")
    request = SourceSpec(str(tmp_path / "model"), outputs=("score",))
    with pytest.raises(BadInput, match=r"--outputs: .* y;"):
        environments.convert(KINDS["paddle"], request, data, (1, 2), workdir, SandboxLimits(), Path(sys.executable))


def test_a_failing_converter_is_reported_in_one_line(tmp_path: Path, data: Dataset, workdir: Path) -> None:
    with pytest.raises(ExportFailed, match=r"failed with ValueError: Op 'MyOp' is not supported at line 3$"):
        convert(tmp_path / "broken", data, workdir)


def test_a_paddle_folder_needs_graph_and_weights(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"0 \.pdiparams"):
        paddle.files(tmp_path)
    (tmp_path / "inference.pdiparams").touch()
    with pytest.raises(FileNotFoundError, match=r"no inference\.json"):
        paddle.files(tmp_path)
    (tmp_path / "inference.json").touch()
    assert paddle.files(tmp_path)[0].name == "inference.json"
