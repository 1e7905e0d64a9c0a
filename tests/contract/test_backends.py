"""The contract of the backends: one suite over every row of the table."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from server.backends import BACKENDS, BackendOptions, Session, loader
from server.errors import BrokenArtifact, ModelFailed, OutOfMemory, SlipwayError, UnprocessableInput
from server.ragged import filled, is_ragged, ragged
from server.tensors import (
    BY_NAME,
    RAW_BYTES,
    Array,
    ModelSpec,
    TensorSpec,
    bfloat16_of_float32,
    float32_of_bfloat16,
)

RNG = np.random.default_rng(7)
WEIGHTS = [RNG.standard_normal((8, 6), np.float32), RNG.standard_normal((6, 3), np.float32)]
FP32, INT64 = BY_NAME["FP32"], BY_NAME["INT64"]
ON_GPUS = {"onnxruntime_cuda", "tensorrt", "tensorrt_rtx", "torch_export"}
"""Backends whose sessions are tested over a fake GPU: ``tests/unit/server/backends/test_device_session.py``."""

WRONG_DTYPE = "an input of another dtype"


def save(
    path: Path,
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    weights: dict[str, Array] | None = None,
    opset: int = 17,
) -> Path:
    initializers = [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()]
    graph = helper.make_graph(nodes, "graph", inputs, outputs, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
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


def rows(count: int, seed: int = 1) -> Array:
    return np.random.default_rng(seed).standard_normal((count, 8), np.float32)


def floats(count: int, seed: int = 1) -> list[Array]:
    return [rows(count, seed)]


@dataclass(frozen=True, slots=True)
class Case:
    """A model of one backend: how to write it, its spec, what it computes, and so many rows of input for it."""

    write: Callable[[Path], Path]
    spec: ModelSpec
    compute: Callable[..., list[Array]]
    package: str | None = None
    batch: Callable[..., list[Array]] = floats
    options: dict[str, Any] = field(default_factory=dict)
    has_file: bool = True


WORDS = ["[PAD]", "[UNK]", "a", "cat", "sits", "on", "mat"]


def write_tokenizer(root: Path) -> Path:
    """Words to numbers, and nothing else."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({word: at for at, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    path = root / "tokenizer.json"
    tokenizer.save(str(path))
    return path


def texts(count: int, seed: int = 1) -> list[Array]:
    random = np.random.default_rng(seed)
    array = np.empty(count, object)
    array[:] = [" ".join(random.choice(WORDS[2:], random.integers(1, 9))) for _ in range(count)]
    return [array]


def compute_tokens(texts: Array) -> list[Array]:
    ids = [np.array([WORDS.index(word) for word in text.split()], np.int64) for text in texts]
    return [ragged(ids), ragged([np.ones_like(one) for one in ids]), ragged([np.zeros_like(one) for one in ids])]


def states(count: int, seed: int = 1) -> list[Array]:
    """Seven tokens a row, of which at least one counts."""
    random = np.random.default_rng(seed)
    mask = (np.arange(7)[None] < random.integers(1, 8, (count, 1))).astype(np.int64)
    return [random.standard_normal((count, 7, 5), np.float32), mask]


def compute_pooling(hidden: Array, mask: Array) -> list[Array]:
    vectors = [tokens[counts == 1].mean(axis=0) for tokens, counts in zip(hidden, mask, strict=True)]
    pooled = np.array(vectors, np.float32).reshape(len(hidden), 5)
    return [pooled / np.linalg.norm(pooled, axis=1, keepdims=True)]


def pictures(count: int, seed: int = 1) -> list[Array]:
    """Images without loss, so that what comes out is known exactly."""
    from PIL import Image

    random = np.random.default_rng(seed)
    array = np.empty(count, object)
    for index in range(count):
        file = io.BytesIO()
        Image.fromarray(random.integers(0, 256, (6, 6, 3), np.uint8)).save(file, "PNG")
        array[index] = file.getvalue()
    return [array]


def compute_image(encoded: Array) -> list[Array]:
    from PIL import Image

    pixels = [np.asarray(Image.open(io.BytesIO(one)), np.float32) / 255 for one in encoded]
    array = np.array(pixels, np.float32).reshape(len(encoded), 6, 6, 3)
    return [((array - 0.5) / 0.25).transpose(0, 3, 1, 2)]


def write_labels(root: Path) -> Path:
    path = root / "labels.json"
    path.write_text(json.dumps([f"class {index}" for index in range(8)]))
    return path


def compute_labels(scores: Array) -> list[Array]:
    best = np.argsort(-scores, axis=1)[:, :2]
    names = np.array([f"class {index}" for index in range(8)], object)
    return [names[best], np.take_along_axis(scores, best, axis=1)]


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
    "tokenizer": Case(
        write_tokenizer,
        ModelSpec(
            (TensorSpec("text", BY_NAME["BYTES"], (-1,)),),
            tuple(TensorSpec(name, INT64, (-1, -1)) for name in ("input_ids", "attention_mask", "token_type_ids")),
        ),
        compute_tokens,
        package="tokenizers",
        batch=texts,
    ),
    "pooling": Case(
        lambda root: root / "pipeline.json",
        ModelSpec(
            (TensorSpec("last_hidden_state", FP32, (-1, -1, -1)), TensorSpec("attention_mask", INT64, (-1, -1))),
            (TensorSpec("embedding", FP32, (-1, -1)),),
        ),
        compute_pooling,
        batch=states,
        has_file=False,
    ),
    "image": Case(
        lambda root: root / "pipeline.json",
        ModelSpec((TensorSpec("image", RAW_BYTES, (-1,)),), (TensorSpec("pixels", FP32, (-1, 3, 6, 6)),)),
        compute_image,
        package="PIL",
        batch=pictures,
        options={"size": 6, "resize": "stretch", "mean": 0.5, "std": 0.25},
        has_file=False,
    ),
    "labels": Case(
        write_labels,
        ModelSpec(
            (TensorSpec("scores", FP32, (-1, 8)),),
            (TensorSpec("label", BY_NAME["BYTES"], (-1, 2)), TensorSpec("score", FP32, (-1, 2))),
        ),
        compute_labels,
        options={"top": 2},
    ),
}
OPTIONAL = {"openvino": "openvino", "tokenizer": "tokenizers", "image": "PIL"}


@pytest.fixture(scope="module", params=sorted(CASES))
def backend(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if name in OPTIONAL:
        pytest.importorskip(OPTIONAL[name], reason=f"the extra that has {name} is not installed")
    return name


@pytest.fixture(scope="module")
def case(backend: str) -> Case:
    return CASES[backend]


@pytest.fixture(scope="module")
def session(backend: str, case: Case, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    """One for all tests that only run it: some backends compile their model for half a second."""
    path = case.write(tmp_path_factory.mktemp(backend))
    opened = loader(backend)(path, BackendOptions(threads=1, options=case.options))
    yield opened
    opened.close()


def assert_close(got: list[Array], expected: list[Array]) -> None:
    assert len(got) == len(expected)
    for one, other in zip(got, expected, strict=True):
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        if one.dtype.kind == "O":
            assert [np.asarray(row).tolist() for row in one] == [np.asarray(row).tolist() for row in other]
            continue
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_every_backend_has_a_case() -> None:
    assert set(CASES) == set(BACKENDS) - ON_GPUS


def test_the_spec_is_the_models(session: Session, case: Case) -> None:
    assert session.spec == case.spec
    assert session.spec.batchable


@pytest.mark.parametrize("count", [1, 2, 5, 33])
def test_outputs_come_in_the_order_shape_and_dtype_of_the_spec(session: Session, case: Case, count: int) -> None:
    outputs = session.run(case.batch(count))
    assert_close(outputs, case.compute(*case.batch(count)))
    for array, spec in zip(outputs, session.spec.outputs, strict=True):
        rectangular = filled(array, spec, 1, 0) if is_ragged(array, spec) else array
        assert rectangular.dtype == spec.dtype.numpy
        assert spec.accepts(rectangular.shape)


def test_no_rows_are_no_rows(session: Session, case: Case) -> None:
    assert_close(session.run(case.batch(0)), case.compute(*case.batch(0)))


def test_a_row_gets_the_same_answer_in_any_company(session: Session, case: Case) -> None:
    together = session.run(case.batch(9))
    for index in range(9):
        alone = [array[index : index + 1] for array in case.batch(9)]
        assert_close(session.run(alone), [array[index : index + 1] for array in together])


def test_inputs_may_be_a_tuple_and_a_view_and_are_left_alone(session: Session, case: Case) -> None:
    whole = case.batch(6)
    before = [array.copy() for array in whole]
    for array in whole:
        array.flags.writeable = False
    assert_close(session.run(tuple(array[2:4] for array in whole)), case.compute(*(array[2:4] for array in before)))
    for array, kept in zip(whole, before, strict=True):
        np.testing.assert_array_equal(array, kept)


def test_outputs_are_the_callers_own(session: Session, case: Case) -> None:
    first = session.run(case.batch(3, seed=1))
    kept = [array.copy() for array in first]
    session.run(case.batch(3, seed=2))
    assert_close(first, kept)


def test_runs_from_four_threads_agree_with_runs_one_after_another(session: Session, case: Case) -> None:
    batches = [case.batch(1 + seed % 7, seed) for seed in range(80)]
    serial = [session.run(batch) for batch in batches]
    with ThreadPoolExecutor(4) as pool:
        concurrent = list(pool.map(session.run, batches))
    for got, expected in zip(concurrent, serial, strict=True):
        assert_close(got, expected)


def test_a_closed_session_says_so_and_another_of_the_same_file_goes_on(
    backend: str, case: Case, tmp_path: Path
) -> None:
    path = case.write(tmp_path)
    one, other = (loader(backend)(path, BackendOptions(options=case.options)) for _ in range(2))
    one.run(case.batch(1))
    one.close()
    one.close()
    with pytest.raises(ModelFailed, match="has been unloaded"):
        one.run(case.batch(1))
    assert_close(other.run(case.batch(2)), case.compute(*case.batch(2)))
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
    assert_close(session.run(case.batch(2)), case.compute(*case.batch(2)))


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
    backend: str, case: Case, content: bytes | None, tmp_path: Path
) -> None:
    needs_file(case)
    path = tmp_path / "broken.model"
    if content is not None:
        path.write_bytes(content)
    assert_broken(backend, path)


def test_a_cut_off_file_is_a_broken_artifact(backend: str, case: Case, tmp_path: Path) -> None:
    needs_file(case)
    path = case.write(tmp_path)
    path.write_bytes(path.read_bytes()[:-5])
    assert_broken(backend, path)


def test_a_directory_is_a_broken_artifact(backend: str, case: Case, tmp_path: Path) -> None:
    needs_file(case)
    assert_broken(backend, tmp_path)


def needs_file(case: Case) -> None:
    if not case.has_file:
        pytest.skip("needs no file")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("tokenizer", {"max_lenght": 5}, "'max_lenght' is not known; the nearest is 'max_length'"),
        ("tokenizer", {"max_length": "long"}, "'max_length' of 'tokenizer' must be a whole number, 3 or more"),
        ("pooling", {"mode": "median"}, "'mode' of 'pooling' must be one of mean, cls"),
        ("pooling", {"normalise": True}, "the nearest is 'normalize'"),
        ("image", {"mean": [1, 2]}, "'mean' of 'image' must be 3 numbers, or one for all"),
        ("image", {"std": 0}, "must not hold 0"),
        ("image", {"size": 0}, "'size' of 'image' must be a whole number, 1 or more"),
        ("labels", {"top": 9}, "'top' of 'labels' is 9, and there are 8 labels"),
        ("labels", {"softmax": "yes"}, "'softmax' of 'labels' must be true or false"),
    ],
)
def test_a_wrong_option_is_refused_by_name(name: str, options: dict[str, Any], message: str, tmp_path: Path) -> None:
    if name in OPTIONAL:
        pytest.importorskip(OPTIONAL[name])
    with pytest.raises(BrokenArtifact) as caught:
        loader(name)(CASES[name].write(tmp_path), BackendOptions(options=options))
    assert message in str(caught.value)


def assert_broken(backend: str, path: Path) -> None:
    with pytest.raises(BrokenArtifact) as caught:
        loader(backend)(path, BackendOptions())
    message = str(caught.value)
    assert path.name in message
    assert "\n" not in message
    assert str(path.parent) not in message
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
    with pytest.raises(
        BrokenArtifact, match="unknown backend 'abacus'; this build has fake, image, labels, onnxruntime"
    ):
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


class TestTokenizer:
    """What texts may be."""

    def session(self, root: Path, **options: Any) -> Session:
        pytest.importorskip("tokenizers")
        return loader("tokenizer")(write_tokenizer(root), BackendOptions(options=options))

    def test_a_long_text_is_cut(self, tmp_path: Path) -> None:
        ids, _, _ = self.session(tmp_path, max_length=3).run([np.array(["a cat sits on a mat"], object)])
        assert ids[0].tolist() == [2, 3, 4]

    def test_bytes_are_read_as_utf8_and_half_a_character_is_the_callers_fault(self, tmp_path: Path) -> None:
        session = self.session(tmp_path)
        assert session.run([np.array([b"cat"], object)])[0][0].tolist() == [3]
        for wrong in (b"\xff", "\ud800", 3):
            with pytest.raises(UnprocessableInput):
                session.run([np.array([wrong], object)])


class TestImage:
    """What images may be."""

    def session(self, **options: Any) -> Session:
        pytest.importorskip("PIL")
        return loader("image")(Path("pipeline.json"), BackendOptions(options=options))

    def encoded(self, pixels: Array, kind: str = "PNG") -> Array:
        from PIL import Image

        file = io.BytesIO()
        Image.fromarray(pixels).save(file, kind)
        array = np.empty(1, object)
        array[0] = file.getvalue()
        return array

    def test_a_bomb_is_refused_by_its_pixels_before_it_is_decoded(self) -> None:
        bomb = self.encoded(np.zeros((3000, 3000), np.uint8))
        assert len(bomb[0]) < 20_000
        with pytest.raises(UnprocessableInput, match="3000 x 3000 pixels, more than the allowed 1,000,000"):
            self.session(max_pixels=1_000_000).run([bomb])

    def test_the_middle_is_cut_out_of_an_image_that_is_no_square(self) -> None:
        wide = np.zeros((8, 24, 3), np.uint8)
        wide[:, 8:16] = 255
        (pixels,) = self.session(size=8, shorter=8, mean=0, std=1).run([self.encoded(wide)])
        np.testing.assert_array_equal(pixels, np.ones((1, 3, 8, 8), np.float32))

    def test_grey_and_channels_last(self) -> None:
        grey = self.encoded(np.full((4, 4), 51, np.uint8))
        (pixels,) = self.session(size=4, mode="L", layout="NHWC", resize="stretch").run([grey])
        np.testing.assert_allclose(pixels, np.full((1, 4, 4, 1), 0.2), rtol=1e-6)

    @pytest.mark.parametrize("value", [0, 200, 32_768, 65_535])
    @pytest.mark.parametrize("mode", ["RGB", "L"])
    def test_a_grey_image_of_16_bits_is_scaled(self, value: int, mode: str) -> None:
        deep = self.encoded(np.full((4, 4), value, np.uint16))
        (pixels,) = self.session(size=4, mode=mode, resize="stretch", mean=0, std=1).run([deep])
        np.testing.assert_allclose(pixels, np.full(pixels.shape, value / 65_535), atol=0.5 / 255)

    @pytest.mark.parametrize("value", [b"", b"no image", b"\x89PNG\r\n\x1a\n\x00", "text", None])
    def test_what_is_no_image_is_the_callers_fault(self, value: Any) -> None:
        with pytest.raises(UnprocessableInput):
            self.session().run([np.array([value], object)])

    def test_a_cut_off_image_is_the_callers_fault(self) -> None:
        whole = self.encoded(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8), "JPEG")
        whole[0] = whole[0][:-200]
        with pytest.raises(UnprocessableInput, match="not an image of type JPEG, PNG, WEBP"):
            self.session().run([whole])


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

    def test_bfloat16_is_float32_outside_of_the_model(self, tmp_path: Path) -> None:
        path = save(
            tmp_path / "bf16.onnx",
            [
                helper.make_node("Cast", ["x"], ["wide"], to=TensorProto.FLOAT),
                helper.make_node("Add", ["wide", "b"], ["sum"]),
                helper.make_node("Cast", ["sum"], ["y"], to=TensorProto.BFLOAT16),
            ],
            [
                helper.make_tensor_value_info("x", TensorProto.BFLOAT16, ["n", 2]),
                helper.make_tensor_value_info("b", TensorProto.FLOAT, ["n", 2]),
            ],
            [
                helper.make_tensor_value_info("y", TensorProto.BFLOAT16, ["n", 2]),
                helper.make_tensor_value_info("sum", TensorProto.FLOAT, ["n", 2]),
            ],
        )
        session = self.open()(path, BackendOptions())
        assert [one.dtype.name for one in (*session.spec.inputs, *session.spec.outputs)] == ["BF16", "FP32"] * 2
        x = np.array([[1.0, 1.00390625], [-np.inf, 3.0e38]], np.float32)
        rounded, wide = session.run([x, np.zeros((2, 2), np.float32)])
        assert rounded.dtype == np.float32
        assert rounded.tolist() == float32_of_bfloat16(bfloat16_of_float32(x)).tolist()
        assert wide.tolist() == rounded.tolist()
        session.close()
        with pytest.raises(ModelFailed, match="unloaded"):
            session.run([x, x])

    def test_a_type_outside_the_table_is_refused_by_name(self, tmp_path: Path) -> None:
        path = save(
            tmp_path / "float8.onnx",
            [helper.make_node("Cast", ["x"], ["y"], to=TensorProto.FLOAT)],
            [helper.make_tensor_value_info("x", TensorProto.FLOAT8E4M3FN, [1])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
            opset=19,
        )
        with pytest.raises(BrokenArtifact, match=r"'x' has type tensor\(float8e4m3fn\), which cannot be served"):
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
