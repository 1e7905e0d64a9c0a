"""The defaults of the framework containers, with models of those frameworks."""

from __future__ import annotations

import io
import json
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
import xgboost
from sklearn.linear_model import LinearRegression

from server.scripts.framework_defaults import defaults_of, prepare
from tests.unit.server.scripts.test_script_functions import Load, ask, call, load  # noqa: F401 - a fixture


def run(model: Any, body: str | bytes, kind: str = "application/json") -> Any:
    """The default prediction of a model for a body."""
    defaults = defaults_of(model)
    prepare(model)
    assert defaults.predict is not None
    return defaults.predict(defaults.decode(body, kind), model)


def npy(array: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


class Linear(torch.nn.Module):
    """Doubles its input; dropout shows a model in training mode, the output's graph a missing ``no_grad``."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(2.0))
        self.dropout = torch.nn.Dropout(0.9)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert x.dtype == torch.float32
        scaled: torch.Tensor = self.dropout(x * self.scale)
        return scaled


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ("[[1, 2]]", "application/json"),
        ("1,2\n", "text/csv"),
        (npy(np.array([[1, 2]], np.float32)), "application/x-npy"),
    ],
)
def test_a_torch_module_gets_float_tensors_in_evaluation_mode_without_gradients(body: Any, kind: str) -> None:
    output = run(Linear(), body, kind)
    assert output.tolist() == [[2.0, 4.0]]
    assert not output.requires_grad


def test_an_npy_file_keeps_its_dtype_and_byte_order_for_torch() -> None:
    decode = defaults_of(Linear()).decode
    assert decode(npy(np.array([1, 2], np.int64)), "application/x-npy").dtype == torch.int64
    assert decode(npy(np.array([1.5], ">f4")), "application/x-npy").tolist() == [1.5]


def test_an_own_predict_fn_for_a_torch_module_gets_tensors_too(load: Load) -> None:  # noqa: F811
    script = load(
        "import torch\n"
        "def model_fn(d): return torch.nn.Linear(2, 1)\n"
        "def predict_fn(data, model): return [type(data).__name__, str(data.dtype), model(data).requires_grad]\n"
    )
    assert json.loads(ask(script, call(b"[[1, 2]]")).body) == ["Tensor", "torch.float32", True]


def test_a_torch_module_alone_is_a_whole_script(load: Load) -> None:  # noqa: F811
    script = load("import torch\ndef model_fn(d):\n    m = torch.nn.Linear(2, 1)\n    torch.nn.init.ones_(m.weight)\n"
                  "    torch.nn.init.zeros_(m.bias)\n    return m\n")  # fmt: skip
    assert ask(script, call(b"[[1, 2]]")).body == b"[[3.0]]"
    assert ask(script, call(b"1,2", "text/csv")).body == b"[[3.0]]"


class Pipeline:
    """Called as Hugging Face's pipelines are."""

    __module__ = "transformers.pipelines.text_classification"

    def __call__(self, inputs: Any, **parameters: Any) -> Any:
        return [{"got": inputs, **parameters}]


@pytest.mark.parametrize(
    ("body", "kind", "expected"),
    [
        ('{"inputs": "a text"}', "application/json", [{"got": "a text"}]),
        ('{"inputs": ["a", "b"], "parameters": {"top_k": 2}}', "application/json", [{"got": ["a", "b"], "top_k": 2}]),
        ('{"question": "q", "context": "c"}', "application/json", [{"got": {"question": "q", "context": "c"}}]),
        ('["a", "b"]', "application/json", [{"got": ["a", "b"]}]),
        (b"a text", "text/plain", [{"got": "a text"}]),
        (b"RIFF", "audio/wav", [{"got": b"RIFF"}]),
    ],
)
def test_a_pipeline_is_called_with_inputs_and_parameters(body: Any, kind: str, expected: Any) -> None:
    assert run(Pipeline(), body, kind) == expected


@pytest.mark.parametrize("model", [Pipeline(), (Pipeline(), object()), {"model": Pipeline()}, [object(), Pipeline()]])
def test_json_stays_as_it_is_for_hugging_face(model: Any) -> None:
    assert defaults_of(model).decode('{"inputs": ["a"]}', "application/json") == {"inputs": ["a"]}


@pytest.mark.parametrize("imported", [ModuleType("transformers"), Pipeline, ModuleType("diffusers.pipelines")])
def test_a_script_that_imports_hugging_face_gets_json_as_it_is(imported: object) -> None:
    """Its model may be of a class of its own."""
    module = ModuleType("inference")
    vars(module)["imported"] = imported
    decode = defaults_of(Linear(), module).decode
    assert decode('{"inputs": ["a"], "parameters": {}}', "application/json") == {"inputs": ["a"], "parameters": {}}
    assert decode('{"inputs": ["a"]}', "application/json") == {"inputs": ["a"]}


def test_an_image_reaches_a_pipeline_as_an_image() -> None:
    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (3, 2)).save(file, "PNG")
    assert run(Pipeline(), file.getvalue(), "image/png")[0]["got"].size == (3, 2)


def test_a_booster_gets_its_own_matrix_with_missing_values() -> None:
    rows = np.array([[0.0, 1.0], [1.0, np.nan], [2.0, 0.0], [3.0, np.nan]] * 5)
    booster = xgboost.train({"max_depth": 2}, xgboost.DMatrix(rows, rows[:, 0]), 3)
    expected = booster.predict(xgboost.DMatrix(rows[:2]))
    assert run(booster, "0,1\n1,\n", "text/csv").tolist() == expected.tolist()
    assert run(booster, "[[0, 1], [1, null]]").tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("body", "kind"),
    [("1,2", "text/csv"), (npy(np.array([1.0, 2.0])), "application/x-npy"), ("[1, 2]", "application/json")],
)
def test_one_row_for_an_estimator_gets_its_batch_axis(body: Any, kind: str) -> None:
    model = LinearRegression().fit([[0, 0], [1, 0], [0, 1]], [0, 1, 1])
    assert run(model, body, kind).round(6).tolist() == [3.0]


def test_a_model_that_cannot_predict_has_no_default() -> None:
    assert defaults_of(object()).predict is None
    assert defaults_of(({"a": Pipeline()},)).predict is None
