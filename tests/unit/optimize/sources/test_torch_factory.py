"""The torch factory: names, strict weights, and one line for every mismatch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from optimize.errors import BadInput
from optimize.evaluation.dataset import Dataset
from optimize.sources import SourceModel, SourceSpec
from optimize.sources import torch_factory as factory
from server.tensors import Array

MODELS = """
import torch

class Two(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.line = torch.nn.Linear(3, 2)

    def forward(self, x, scale=None):
        y = self.line(x)
        return {"first": y, "second": y.sum(dim=1)}

class Bare(Two):
    def forward(self, x):
        return self.line(x)

class Pair(Two):
    def forward(self, x):
        return self.line(x), self.line(x) + 1

class Anything(Two):
    def forward(self, *args):
        return args[0]

class Text(Two):
    def forward(self, x):
        return "text"

class Sized(torch.nn.Module):
    def __init__(self, hidden, *, scale=1.0):
        super().__init__()
        self.line = torch.nn.Linear(3, hidden)
        self.scale = scale

    def forward(self, x):
        return self.line(x) * self.scale

built = Bare()
def half():
    return Bare().to(torch.bfloat16)

def fails():
    raise RuntimeError("no licence\\nsecond line")

def gives_a_number():
    return 3

number = 3
"""


@pytest.fixture(autouse=True)
def _importable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "factory_models.py").write_text(MODELS)
    (tmp_path / "factory_broken.py").write_text("import a_package_that_nobody_has\n")
    monkeypatch.syspath_prepend(str(tmp_path))


def load(reference: str, weights: Path | None, data: Dataset, outputs: tuple[str, ...] = ()) -> SourceModel:
    return factory.load(SourceSpec(reference, weights, outputs), data)


@pytest.fixture
def data() -> Dataset:
    return Dataset({"x": np.ones((4, 3), np.float32)}, None, "")


def test_a_dict_names_the_outputs(data: Dataset) -> None:
    model = load("factory_models:Two", None, data)
    assert model.inputs == ("x",)
    assert model.outputs == ("first", "second")
    assert set(model.digests) == {"factory"}


def test_other_outputs_are_numbered_or_named_by_the_user(data: Dataset) -> None:
    assert load("factory_models:Bare", None, data).outputs == ("output",)
    assert load("factory_models:Pair", None, data).outputs == ("output", "output_1")
    assert load("factory_models:Pair", None, data, ("a", "b")).outputs == ("a", "b")
    with pytest.raises(BadInput, match="has 2 output"):
        load("factory_models:Pair", None, data, ("a",))


def test_weights_are_loaded(tmp_path: Path, data: Dataset) -> None:
    path = tmp_path / "w.safetensors"
    save_file({"line.weight": torch.zeros(2, 3), "line.bias": torch.full((2,), 5.0)}, path)
    model = load("factory_models:Bare", path, data)
    assert model.run(data.batch(1))[0].tolist() == [[5.0, 5.0]]
    assert set(model.digests) == {"factory", "weights"}


def test_arguments_are_given_to_the_factory(data: Dataset) -> None:
    request = SourceSpec("factory_models:Sized", arguments={"hidden": 4, "scale": 0.0})
    assert factory.load(request, data).run(data.batch(2))[0].tolist() == [[0.0] * 4] * 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "give --argument hidden=VALUE"),
        ({"hidden": 4, "width": 2}, "takes hidden, scale"),
        ({"hidden": "four"}, r"Sized\(hidden='four'\) failed with TypeError"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, object], words: str, data: Dataset) -> None:
    with pytest.raises(BadInput, match=words):
        factory.load(SourceSpec("factory_models:Sized", arguments=arguments), data)


def test_without_weights_the_user_is_warned(tmp_path: Path, data: Dataset) -> None:
    assert "weights are random" in load("factory_models:Bare", None, data).messages[0]
    path = tmp_path / "w.safetensors"
    save_file({"line.weight": torch.zeros(2, 3), "line.bias": torch.zeros(2)}, path)
    assert load("factory_models:Bare", path, data).messages == ()


def test_a_module_and_half_precision_are_accepted(data: Dataset) -> None:
    assert load("factory_models:built", None, data).outputs == ("output",)
    assert load("factory_models:half", None, data).run(data.batch(1))[0].dtype == np.float32


def test_weights_that_do_not_fit_are_named(tmp_path: Path, data: Dataset) -> None:
    path = tmp_path / "w.safetensors"
    save_file({"line.weight": torch.zeros(2, 3), "surplus": torch.zeros(1)}, path)
    with pytest.raises(BadInput, match=r"line\.bias.*surplus"):
        load("factory_models:Bare", path, data)


def test_weights_of_torch_save_are_read_without_code(tmp_path: Path, data: Dataset) -> None:
    path = tmp_path / "w.pt"
    torch.save({"line.weight": torch.zeros(2, 3), "line.bias": torch.full((2,), 5.0)}, path)
    assert load("factory_models:Bare", path, data).run(data.batch(1))[0].tolist() == [[5.0, 5.0]]


def test_weights_that_would_run_code_are_not_opened(tmp_path: Path, data: Dataset) -> None:
    path = tmp_path / "w.pt"
    torch.save(torch.nn.Linear(3, 2), path)
    with pytest.raises(BadInput, match="can run code"):
        load("factory_models:Bare", path, data)
    empty = tmp_path / "w.pkl"
    empty.touch()
    with pytest.raises(BadInput, match="weights must be a"):
        load("factory_models:Bare", empty, data)


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("factory_models", "module:attribute"),
        ("no_such_module:build", "no module named 'no_such_module'"),
        ("factory_broken:build", "no module named 'a_package_that_nobody_has'"),
        ("factory_models:absent", "no attribute 'absent'"),
        ("factory_models:number", "object of type int, not a function"),
        ("factory_models:gives_a_number", "returned an object of type int"),
        ("factory_models:fails", "RuntimeError: no licence"),
        ("factory_models:Anything", "must name its inputs"),
        ("factory_models:Text", "must return a tensor"),
    ],
)
def test_unusable_factories_are_reported_in_one_line(reference: str, words: str, data: Dataset) -> None:
    with pytest.raises(BadInput, match=words) as caught:
        load(reference, None, data)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"y": np.ones((4, 3), np.float32)}, "'x' is not in the data"),
        ({"x": np.ones((4, 3), np.float32), "z": np.ones(4)}, "'z', which is not a parameter"),
        ({"x": np.ones((4, 5), np.float32)}, r"fails on rows of the data \(x float32\[2, 5\]\)"),
    ],
)
def test_data_that_does_not_match_is_named(arrays: dict[str, Array], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        load("factory_models:Bare", None, Dataset(arrays, None, ""))
