"""The contract of the backends: one suite over every row of the table."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from server.backends import BACKENDS, BackendOptions, Session, loader
from server.errors import BrokenArtifact, ModelFailed, OutOfMemory, SlipwayError, UnprocessableInput
from server.tensors import BY_NAME, Array, ModelSpec, TensorSpec

RNG = np.random.default_rng(7)
WEIGHTS = [RNG.standard_normal((8, 6), np.float32), RNG.standard_normal((6, 3), np.float32)]
FP32, INT64 = BY_NAME["FP32"], BY_NAME["INT64"]
WRONG_DTYPE = "an input of another dtype"


def save(
    path: Path,
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    weights: dict[str, Array] | None = None,
) -> Path:
    initializers = [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()]
    graph = helper.make_graph(nodes, "graph", inputs, outputs, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def write_mlp(root: Path) -> Path:
    """Eight numbers to the scores of three classes and the best class: outputs of two dtypes and ranks."""
    nodes = [
        helper.make_node("MatMul", ["x", "w0"], ["hidden"]),
        helper.make_node("Relu", ["hidden"], ["active"]),
        helper.make_node("MatMul", ["active", "w1"], ["scores"]),
        helper.make_node("ArgMax", ["scores"], ["best"], axis=1, keepdims=0),
    ]
    return save(
        root / "model.onnx",
        nodes,
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 8])],
        [
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 3]),
            helper.make_tensor_value_info("best", TensorProto.INT64, ["batch"]),
        ],
        {"w0": WEIGHTS[0], "w1": WEIGHTS[1]},
    )


def compute_mlp(x: Array) -> list[Array]:
    scores = np.maximum(x @ WEIGHTS[0], 0) @ WEIGHTS[1]
    return [scores, scores.argmax(axis=1)]


def write_openvino(root: Path) -> Path:
    """The same as OpenVINO reads it, in two files: the graph is the one that is opened."""
    import openvino as ov

    path = root / "openvino.xml"
    ov.save_model(ov.convert_model(write_mlp(root)), path, compress_to_fp16=False)
    return path


def write_fake(root: Path) -> Path:
    path = root / "model.json"
    path.write_text(json.dumps({"width": 8}))
    return path


@dataclass(frozen=True, slots=True)
class Case:
    """A model of one backend: how to write it, its spec, and what it computes."""

    write: Callable[[Path], Path]
    spec: ModelSpec
    compute: Callable[[Array], list[Array]]
    package: str | None = None


def one_input(*outputs: TensorSpec) -> ModelSpec:
    return ModelSpec((TensorSpec("x", FP32, (-1, 8)),), outputs)


CASES = {
    "onnxruntime": Case(
        write_mlp,
        one_input(TensorSpec("scores", FP32, (-1, 3)), TensorSpec("best", INT64, (-1,))),
        compute_mlp,
        package="onnxruntime",
    ),
    "openvino": Case(
        write_openvino,
        one_input(TensorSpec("scores", FP32, (-1, 3)), TensorSpec("best", INT64, (-1,))),
        compute_mlp,
        package="openvino",
    ),
    "fake": Case(write_fake, one_input(TensorSpec("y", FP32, (-1, 8))), lambda x: [x * 2]),
}


@pytest.fixture(params=sorted(BACKENDS))
def backend(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if name == "openvino":
        pytest.importorskip("openvino", reason="the extra 'openvino' is not installed")
    return name


@pytest.fixture
def case(backend: str) -> Case:
    return CASES[backend]


@pytest.fixture
def session(backend: str, case: Case, tmp_path: Path) -> Iterator[Session]:
    opened = loader(backend)(case.write(tmp_path), BackendOptions(threads=1))
    yield opened
    opened.close()


def rows(count: int, seed: int = 1) -> Array:
    return np.random.default_rng(seed).standard_normal((count, 8), np.float32)


def assert_close(got: list[Array], expected: list[Array]) -> None:
    assert len(got) == len(expected)
    for one, other in zip(got, expected, strict=True):
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_every_backend_has_a_case() -> None:
    assert set(CASES) == set(BACKENDS)


def test_the_spec_is_the_models(session: Session, case: Case) -> None:
    assert session.spec == case.spec
    assert session.spec.batchable


@pytest.mark.parametrize("count", [1, 2, 5, 33])
def test_outputs_come_in_the_order_shape_and_dtype_of_the_spec(session: Session, case: Case, count: int) -> None:
    outputs = session.run([rows(count)])
    assert_close(outputs, case.compute(rows(count)))
    for array, spec in zip(outputs, session.spec.outputs, strict=True):
        assert array.dtype == spec.dtype.numpy
        assert spec.accepts(array.shape)


def test_no_rows_are_no_rows(session: Session, case: Case) -> None:
    assert_close(session.run([rows(0)]), case.compute(rows(0)))


def test_a_row_gets_the_same_answer_in_any_company(session: Session) -> None:
    together = session.run([rows(9)])
    for index in range(9):
        assert_close(session.run([rows(9)[index : index + 1]]), [array[index : index + 1] for array in together])


def test_inputs_may_be_a_tuple_and_a_view_and_are_left_alone(session: Session, case: Case) -> None:
    whole = rows(6)
    before = whole.copy()
    whole.flags.writeable = False
    assert_close(session.run((whole[2:4],)), case.compute(before[2:4]))
    np.testing.assert_array_equal(whole, before)


def test_outputs_are_the_callers_own(session: Session) -> None:
    first = session.run([rows(3, seed=1)])
    kept = [array.copy() for array in first]
    session.run([rows(3, seed=2)])
    assert_close(first, kept)


def test_runs_from_four_threads_agree_with_runs_one_after_another(session: Session) -> None:
    batches = [rows(1 + seed % 7, seed) for seed in range(80)]
    serial = [session.run([batch]) for batch in batches]
    with ThreadPoolExecutor(4) as pool:
        concurrent = list(pool.map(lambda batch: session.run([batch]), batches))
    for got, expected in zip(concurrent, serial, strict=True):
        assert_close(got, expected)


def test_two_sessions_of_one_file_do_not_share_their_end(backend: str, case: Case, tmp_path: Path) -> None:
    path = case.write(tmp_path)
    one, other = (loader(backend)(path, BackendOptions()) for _ in range(2))
    one.close()
    assert_close(other.run([rows(2)]), case.compute(rows(2)))
    other.close()


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param([np.zeros((2, 9), np.float32)], id="another width"),
        pytest.param([np.zeros((2, 8, 1), np.float32)], id="another rank"),
        pytest.param([np.zeros((2, 8), np.float64)], id=WRONG_DTYPE),
        pytest.param([], id="no inputs"),
        pytest.param([np.zeros((2, 8), np.float32)] * 2, id="an input too many"),
    ],
)
def test_what_cannot_be_run_is_an_error_of_ours_in_one_line_and_the_session_goes_on(
    session: Session, case: Case, wrong: list[Array]
) -> None:
    with pytest.raises((UnprocessableInput, ModelFailed)) as caught:
        session.run(wrong)
    assert "\n" not in str(caught.value)
    assert "/" not in str(caught.value)
    assert_close(session.run([rows(2)]), case.compute(rows(2)))


def test_a_closed_session_says_that_it_was_unloaded(session: Session) -> None:
    session.run([rows(1)])
    session.close()
    session.close()
    with pytest.raises(ModelFailed, match="has been unloaded"):
        session.run([rows(1)])


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"garbage", id="garbage"),
        pytest.param(b"\x00\xff\xfe" * 50, id="bytes"),
        pytest.param(None, id="not there"),
    ],
)
def test_a_broken_file_is_a_broken_artifact_in_one_line_that_names_it(
    backend: str, content: bytes | None, tmp_path: Path
) -> None:
    path = tmp_path / "broken.model"
    if content is not None:
        path.write_bytes(content)
    assert_broken(backend, path)


def test_a_cut_off_file_is_a_broken_artifact(backend: str, case: Case, tmp_path: Path) -> None:
    path = case.write(tmp_path)
    path.write_bytes(path.read_bytes()[:-5])
    assert_broken(backend, path)


def test_a_directory_is_a_broken_artifact(backend: str, tmp_path: Path) -> None:
    assert_broken(backend, tmp_path)


def assert_broken(backend: str, path: Path) -> None:
    with pytest.raises(BrokenArtifact) as caught:
        loader(backend)(path, BackendOptions())
    message = str(caught.value)
    assert path.name in message
    assert "\n" not in message
    assert str(path.parent) not in message.replace(str(path), "")
    assert len(message) < 600


def test_a_missing_package_is_a_broken_artifact_that_names_it(
    backend: str, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    if case.package is None:
        pytest.skip("needs no package")
    monkeypatch.delitem(sys.modules, f"server.backends.{backend}", raising=False)
    monkeypatch.setitem(sys.modules, case.package, None)
    with pytest.raises(BrokenArtifact, match=f"backend '{backend}' needs the package {case.package}"):
        loader(backend)


def test_a_package_that_is_installed_but_cannot_be_loaded_is_a_broken_artifact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "half_installed.py").write_text("raise ImportError('libdevice.so.1: cannot open shared object file')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(BACKENDS, "half", "half_installed:load")
    with pytest.raises(BrokenArtifact, match=r"backend 'half' cannot be loaded: libdevice\.so\.1: cannot open"):
        loader("half")


def test_an_unknown_backend_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(BrokenArtifact, match="unknown backend 'abacus'; this build has fake, onnxruntime"):
        loader("abacus")


class TestFake:
    """What tests and benchmarks rely on beyond the contract."""

    def open(self, root: Path, text: str) -> Session:
        (root / "model.json").write_text(text)
        return loader("fake")(root / "model.json", BackendOptions())

    def test_every_field_is_optional(self, tmp_path: Path) -> None:
        assert self.open(tmp_path, "{}").spec.inputs[0].shape == (-1, 4)

    def test_a_poisoned_row_fails_the_whole_run(self, tmp_path: Path) -> None:
        session = self.open(tmp_path, '{"width": 1, "poison": 666}')
        session.run([np.array([[1], [2]], np.float32)])
        with pytest.raises(ModelFailed, match="poison"):
            session.run([np.array([[1], [666]], np.float32)])

    @pytest.mark.parametrize("text", ["[]", "3", '{"width": "wide"}', '{"width": null}', '{"spend_us": {}}'])
    def test_a_description_of_the_wrong_kind_is_refused(self, tmp_path: Path, text: str) -> None:
        with pytest.raises(BrokenArtifact, match=r"model\.json is not a description of a fake model"):
            self.open(tmp_path, text)


class TestOnnxRuntime:
    """What only a real model can do."""

    open = staticmethod(partial(loader, "onnxruntime"))

    def gather(self, root: Path) -> Session:
        """Row numbers to rows of a table."""
        return self.open()(
            save(
                root / "gather.onnx",
                [helper.make_node("Gather", ["table", "index"], ["row"])],
                [helper.make_tensor_value_info("index", TensorProto.INT64, ["batch"])],
                [helper.make_tensor_value_info("row", TensorProto.FLOAT, ["batch", 2])],
                {"table": np.arange(6, dtype=np.float32).reshape(3, 2)},
            ),
            BackendOptions(),
        )

    def test_an_index_out_of_range_is_the_callers_fault(self, tmp_path: Path) -> None:
        session = self.gather(tmp_path)
        assert session.run([np.array([2, 0])])[0].tolist() == [[4, 5], [0, 1]]
        with pytest.raises(UnprocessableInput, match="refuses these values"):
            session.run([np.array([0, 3])])

    def test_a_model_of_a_later_format_is_refused_in_one_line(self, tmp_path: Path) -> None:
        model = onnx.load(write_mlp(tmp_path))
        model.ir_version = 99
        onnx.save(model, tmp_path / "model.onnx")
        assert_broken("onnxruntime", tmp_path / "model.onnx")

    def test_weights_that_were_not_copied_along_are_named(self, tmp_path: Path) -> None:
        path = write_mlp(tmp_path)
        onnx.save(onnx.load(path), path, save_as_external_data=True, location="weights.data", size_threshold=0)
        self.open()(path, BackendOptions()).close()
        (tmp_path / "weights.data").unlink()
        with pytest.raises(BrokenArtifact, match=r"weights\.data"):
            self.open()(path, BackendOptions())

    def test_texts_go_in_and_out(self, tmp_path: Path) -> None:
        path = save(
            tmp_path / "identity.onnx",
            [helper.make_node("Identity", ["text"], ["same"])],
            [helper.make_tensor_value_info("text", TensorProto.STRING, [None])],
            [helper.make_tensor_value_info("same", TensorProto.STRING, [None])],
        )
        session = self.open()(path, BackendOptions())
        assert session.spec.inputs[0] == TensorSpec("text", BY_NAME["BYTES"], (-1,))
        (same,) = session.run([np.array(["a", "ü"], object)])
        assert (same.tolist(), same.dtype) == (["a", "ü"], np.dtype(object))

    def test_a_type_outside_the_table_is_refused_by_name(self, tmp_path: Path) -> None:
        path = save(
            tmp_path / "bf16.onnx",
            [helper.make_node("Identity", ["x"], ["y"])],
            [helper.make_tensor_value_info("x", TensorProto.BFLOAT16, [1])],
            [helper.make_tensor_value_info("y", TensorProto.BFLOAT16, [1])],
        )
        with pytest.raises(BrokenArtifact, match=r"'x' has type tensor\(bfloat16\), which cannot be served"):
            self.open()(path, BackendOptions())

    def test_memory_that_is_not_there_is_told_as_such(self, tmp_path: Path) -> None:
        path = save(
            tmp_path / "zeros.onnx",
            [helper.make_node("ConstantOfShape", ["shape"], ["zeros"])],
            [helper.make_tensor_value_info("shape", TensorProto.INT64, [2])],
            [helper.make_tensor_value_info("zeros", TensorProto.FLOAT, [None, None])],
        )
        session = self.open()(path, BackendOptions())
        with pytest.raises(SlipwayError) as caught:
            session.run([np.array([1 << 26, 1 << 26])])
        assert isinstance(caught.value, OutOfMemory)
