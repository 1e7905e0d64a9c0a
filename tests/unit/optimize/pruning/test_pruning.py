"""Pruning: which layers can be cut, that only what does not matter is lost, and what training may not do."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from optimize import options, pruning
from optimize.errors import BadInput, PassFailed
from optimize.evaluation.dataset import Dataset
from optimize.pruning import Cut, retrained, shrink
from optimize.pruning.channels import chains
from optimize.search import selection
from optimize.sources import SourceSpec, dispatch


class Network(nn.Module):
    """A chain of convolutions, a residual block, a shared layer, and a flattening by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 16, 3, padding=1)
        self.norm = nn.BatchNorm2d(16)
        self.second = nn.Conv2d(16, 24, 3, padding=1)
        self.inner = nn.Conv2d(24, 32, 1)
        self.outer = nn.Conv2d(32, 24, 1)
        self.grouped = nn.Conv2d(24, 24, 3, groups=24)
        self.down = nn.Conv2d(24, 16, 1)
        self.hidden = nn.Linear(16 * 9, 32)
        self.shared = nn.Linear(32, 32)
        self.answer = nn.Linear(32, 10)

    def forward(self, image: Tensor, scale: float | None = None) -> Tensor:
        x = nn.functional.max_pool2d(torch.relu(self.norm(self.first(image))), 2)
        x = self.second(x)
        x = x + self.outer(torch.relu(self.inner(x)))
        x = nn.functional.gelu(self.down(self.grouped(nn.functional.pad(x, (1, 0, 1, 0)))))
        x = torch.relu(self.hidden(x.view(x.size(0), -1))) * 0.5
        x = torch.relu(self.shared(torch.relu(self.shared(x))))
        scores: Tensor = self.answer(x)
        return scores


class Chain(nn.Module):
    """Everything in it can be cut but the last layer; channels are flattened together with their pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 24, 3, padding=1), nn.ReLU(), nn.Flatten(),
            nn.Linear(24 * 16, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 10),
        )  # fmt: skip

    def forward(self, image: Tensor) -> Tensor:
        scores: Tensor = self.layers(image)
        return scores


class Decides(Chain):
    def forward(self, image: Tensor) -> Tensor:
        return super().forward(image if image.sum() > 0 else -image)


class FixedSize(Chain):
    """``forward`` names a number of channels, which no cut can change."""

    def forward(self, image: Tensor) -> Tensor:
        x = image
        for at, layer in enumerate(self.layers):
            x = x.reshape(image.size(0), 24 * 16) if at == 6 else layer(x)
        return x


def same(module: nn.Module) -> None:
    """Leave the weights as they are."""


def ruins(module: nn.Module) -> None:
    with torch.no_grad():
        next(module.parameters()).fill_(float("nan"))


def swaps(module: nn.Module) -> nn.Module:
    return copy.deepcopy(module)


def fails(module: nn.Module) -> None:
    raise RuntimeError("no data at /nowhere\nsecond line")


def shakes(module: nn.Module) -> None:
    """One step that moves every weight that has a gradient."""
    rate = torch.optim.SGD(module.parameters(), 0.1)
    module(torch.ones(4, 1, 8, 8)).sum().backward()
    rate.step()


@pytest.fixture
def rows() -> Dataset:
    rng = np.random.default_rng(0)
    return Dataset({"image": rng.random((16, 1, 8, 8), dtype=np.float32)}, None, "")


def example(size: int = 8) -> dict[str, Tensor]:
    return {"image": torch.rand(2, 1, size, size)}


def test_channels_are_followed_and_every_layer_that_is_left_has_a_reason() -> None:
    torch.manual_seed(0)
    found, left = chains(Network().eval(), {"image": torch.rand(2, 1, 8, 8)})
    assert {chain.producer: (chain.norms, chain.consumers) for chain in found} == {
        "first": ([("norm", 1)], [("second", 1)]),
        "inner": ([], [("outer", 1)]),
        "down": ([], [("hidden", 9)]),
    }
    assert left == {
        "second": "they meet the channels of another layer in 'add'",
        "outer": "they meet the channels of another layer in 'add'",
        "grouped": "it is a grouped convolution",
        "hidden": "'shared' is used 2 times",
        "shared": "'shared' is used 2 times",
        "answer": "its channels are an output of the model",
    }


def test_a_cut_network_is_smaller_and_dense() -> None:
    torch.manual_seed(0)
    module: Any = Chain().eval()
    before = sum(parameter.numel() for parameter in module.parameters())
    done, left = shrink.shrink(module, example(), 0.5)
    assert done == ["layers.0: 16 -> 8 channels", "layers.4: 24 -> 16 channels", "layers.7: 32 -> 16 channels"]
    assert left == ["layers.10: its channels are an output of the model"]
    assert [tuple(layer.weight.shape) for layer in (module.layers[0], module.layers[4], module.layers[7])] == [
        (8, 1, 3, 3), (16, 8, 3, 3), (16, 16 * 16),
    ]  # fmt: skip
    assert module.layers[8].num_features == 16
    assert sum(parameter.numel() for parameter in module.parameters()) < 0.4 * before


def test_channels_that_nothing_listens_to_go_first_and_nothing_changes() -> None:
    torch.manual_seed(0)
    module: Any = Chain().eval()
    rows = example()
    with torch.no_grad():
        module.layers[1].running_mean.normal_()
        module.layers[4].weight[:, 3:11] = 0
        module.layers[7].weight[:, 5 * 16 : 13 * 16] = 0
        module.layers[10].weight[:, ::2] = 0
        expected = module(**rows)
        shrink.shrink(module, rows, 0.5)
        assert torch.allclose(module(**rows), expected, atol=1e-5)


def test_how_many_stay_fits_the_kernels() -> None:
    assert [shrink.kept(64, 0.3), shrink.kept(64, 0.5), shrink.kept(16, 0.3), shrink.kept(10, 0.5)] == [48, 32, 16, 5]


def test_a_model_that_decides_by_values_cannot_be_followed_but_masked() -> None:
    with pytest.raises(PassFailed, match=r"torch\.fx cannot follow the model .* magnitude pruning does not"):
        shrink.shrink(Decides().eval(), example(), 0.5)
    module: Any = Decides()
    assert shrink.mask(module, 0.75)
    with torch.no_grad():
        assert sum(int((layer.weight == 0).sum()) for layer in module.layers if hasattr(layer, "weight_mask")) > 0


def test_a_size_that_is_fixed_in_the_code_is_left() -> None:
    with torch.inference_mode():
        _, left = chains(FixedSize().eval(), example())
    assert left["layers.4"] == "they go into 'reshape', which is not known to keep channels apart"


def test_nothing_to_cut_says_what_was_left() -> None:
    with pytest.raises(PassFailed, match=r"no layer can be cut: 0: its channels are an output of the model"):
        shrink.shrink(nn.Sequential(nn.Linear(4, 8)).eval(), {"input": torch.rand(2, 4)}, 0.5)


HERE = __name__


@pytest.fixture
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The functions of this file under a name that a command line could have."""
    import sys

    monkeypatch.setitem(sys.modules, "pruning_models", sys.modules[HERE])


def again(train: str, rows: Dataset, cut: Cut | None = None) -> dict[str, list[str] | int]:
    reference = f"pruning_models:{train}" if train else ""
    request = SourceSpec("pruning_models:Chain")
    return retrained.load(request, rows, cut or Cut("structured", 0.5), reference, 0)[1]


@pytest.mark.usefixtures("importable")
def test_zeros_stay_zeros_through_training(rows: Dataset) -> None:
    facts = again("shakes", rows, Cut("magnitude", 0.75))
    assert isinstance(facts["before"], int)
    assert isinstance(facts["after"], int)
    assert facts["after"] < 0.27 * facts["before"]


@pytest.mark.usefixtures("importable")
@pytest.mark.parametrize(
    ("train", "reason"),
    [
        ("ruins", "the weights of 'layers.0.weight' are not finite"),
        ("swaps", "returned another module"),
        ("fails", "failed with RuntimeError: no data at /nowhere$"),
    ],
)
def test_training_that_goes_wrong_says_how(train: str, reason: str, rows: Dataset) -> None:
    with pytest.raises(PassFailed, match=reason):
        again(train, rows)


@pytest.mark.usefixtures("importable")
def test_training_is_optional_and_the_facts_are_told(rows: Dataset) -> None:
    for train in ("", "same"):
        facts = again(train, rows)
        assert facts["cut"] == [
            "layers.0: 16 -> 8 channels",
            "layers.4: 24 -> 16 channels",
            "layers.7: 32 -> 16 channels",
        ]


def test_shares_are_read_from_the_command_line() -> None:
    assert pruning.parse("0.3, magnitude:0.8") == (Cut("structured", 0.3), Cut("magnitude", 0.8))
    assert pruning.parse("") == ()
    for wrong in ("2", "random:0.5", "much", "0"):
        with pytest.raises(BadInput, match="--prune"):
            pruning.parse(wrong)


LEAST = ["tests.benchmarks.optimize.networks:resnet50", "--eval", "e.npz", "--output", "o"]


def test_training_without_pruning_is_a_mistake() -> None:
    with pytest.raises(BadInput, match="give --prune too"):
        options.parse([*LEAST, "--train", "a:b"])


def test_what_is_asked_for_joins_the_candidates() -> None:
    given = options.parse([*LEAST, "--prune", "0.5", "--train", "tests.benchmarks.optimize.networks:resnet50"])
    extra = dispatch.pruned(given, ())
    assert extra[0].name == "pruned_50"
    assert {row.after for row in extra[1:]} == {"pruned_50"}
    assert len(str(extra[0].options["train_sha256"])) == 64
    names = [row.name for row in selection.select(("static_int8",), (), extra=extra)]
    assert names[:2] == ["static_int8", "pruned_50"]
    picked = selection.select(("static_int8", "pruned_50"), (), extra=extra)
    assert [row.name for row in picked] == ["static_int8", "pruned_50"]
    with pytest.raises(BadInput, match="not a function"):
        dispatch.pruned(replace(given, train="tests.benchmarks.optimize.networks:WIDTH"), ())


def test_only_a_torch_factory_can_be_pruned(tmp_path: Path, graph_file: Path) -> None:
    given = options.parse([str(graph_file), "--eval", "e.npz", "--output", "o", "--prune", "0.5"])
    data = Dataset({"image": np.zeros((2, 1, 8, 8), np.float32)}, None, "")
    with pytest.raises(BadInput, match="--prune needs a module:attribute"):
        dispatch.convert(given, data, (1, 2), tmp_path, lambda _: None)
