"""OpenVINO as a backend, where it is installed: the same answers, in the precision that the file asks for."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("openvino", reason="the extra 'openvino' is not installed")

import onnx
from onnx import TensorProto, helper, numpy_helper

from optimize.evaluation.dataset import Dataset
from optimize.evaluation.evaluate import outputs, sqnr_db
from optimize.hardware import Hardware
from optimize.passes import PassJob, openvino_from_onnx
from server.backends import BackendOptions, loader
from server.errors import BrokenArtifact, ModelFailed

ROOT = Path(__file__).resolve().parents[4]
MACHINE = Hardware("Abacus 3", "x86_64", (), 2)
ROWS = Dataset({"x": np.random.default_rng(0).normal(size=(24, 64)).astype(np.float32)}, None, "")


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    matrix = np.random.default_rng(1).normal(size=(64, 64)).astype(np.float32) / 8
    faces = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 64]) for name in "xy"]
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    graph = helper.make_graph(nodes, "g", faces[:1], faces[1:], [numpy_helper.from_array(matrix, "w")])
    path = tmp_path / "float32.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


def converted(reference: Path, precision: str) -> Path:
    workdir = reference.parent / precision
    workdir.mkdir()
    job = PassJob(reference, workdir, {"precision": precision}, ROWS, MACHINE, 0)
    return openvino_from_onnx.apply(job).path


def test_float32_is_computed_in_float32(reference: Path) -> None:
    path = converted(reference, "f32")
    assert sqnr_db(outputs(path, ROWS, 8, 1), outputs(reference, ROWS, 8, 1)) > 100
    ours, theirs = (
        loader(name)(file, BackendOptions(1)) for name, file in (("openvino", path), ("onnxruntime", reference))
    )
    assert ours.spec == theirs.spec


def test_bfloat16_only_where_the_file_asks_for_it(reference: Path) -> None:
    import openvino as ov

    core = ov.Core()
    if "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("this processor has no bf16 arithmetic")
    noise = sqnr_db(outputs(converted(reference, "bf16"), ROWS, 8, 1), outputs(reference, ROWS, 8, 1))
    assert 30 < noise < 80


def test_calls_may_overlap(reference: Path) -> None:
    session = loader("openvino")(converted(reference, "f32"), BackendOptions(1))
    batches = [ROWS.inputs["x"][at : at + 4] for at in range(0, 20, 4)] * 8
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda batch: session.run([batch])[0], batches))
    expected = outputs(reference, ROWS, 4, 1)["y"]
    for at, answer in enumerate(answers):
        start = 4 * (at % 5)
        assert np.allclose(answer, expected[start : start + 4], atol=1e-4)
    session.close()
    with pytest.raises(ModelFailed, match="unloaded"):
        session.run([batches[0]])


def test_a_file_that_it_cannot_read_is_broken(tmp_path: Path) -> None:
    path = tmp_path / "model.xml"
    path.write_text("nothing")
    with pytest.raises(BrokenArtifact, match=r"cannot load model\.xml"):
        loader("openvino")(path, BackendOptions(1))


SIGNALLED = """
import os, signal, sys
from pathlib import Path
from server.backends import BackendOptions, loader

received = []
signal.signal(signal.SIGINT, lambda *_: received.append(True))
for _ in range(2):
    one, other = (loader("openvino")(Path(sys.argv[1]), BackendOptions()) for _ in range(2))
    one.close()
    other.close()
    del one, other
os.kill(os.getpid(), signal.SIGINT)
assert received
"""


def test_a_signal_after_the_end_of_all_sessions_does_not_end_the_process(reference: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SIGNALLED, str(reference)], cwd=ROOT, capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
