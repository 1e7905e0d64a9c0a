"""Checkpoints: wrapped, prefixed and tied weights fit the module; other files are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from optimize.errors import BadInput
from optimize.sources import checkpoint


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Linear(3, 3)
        self.last = nn.Linear(3, 3)


class Tied(Network):
    def __init__(self) -> None:
        super().__init__()
        self.last.weight = self.line.weight


def weights(prefix: str = "") -> dict[str, torch.Tensor]:
    names = ("line.weight", "line.bias", "last.weight", "last.bias")
    shapes = ((3, 3), (3,), (3, 3), (3,))
    return {f"{prefix}{name}": torch.full(shape, 5.0) for name, shape in zip(names, shapes, strict=True)}


WRAPPED: dict[str, Any] = {
    "plain": weights(),
    "data parallel": weights("module."),
    "compiled": weights("_orig_mod."),
    "both": weights("_orig_mod.module."),
    "lightning": {"epoch": 3, "state_dict": weights("model."), "hyper_parameters": {"lr": 0.1}},
    "training script": {"model": weights(), "optimizer": {"state": {0: torch.ones(2)}}},
    "own key": {"best": {"generator": weights()}},
    "other modules": {"state_dict": {**weights("net."), "loss.weight": torch.ones(2)}},
}


@pytest.mark.parametrize("name", WRAPPED)
def test_dictionaries_and_prefixes_around_the_weights_are_removed(name: str, tmp_path: Path) -> None:
    torch.save(WRAPPED[name], tmp_path / "w.ckpt")
    module = Network()
    messages = checkpoint.load(module, tmp_path / "w.ckpt")
    assert all(bool((value == 5).all()) for value in module.state_dict().values())
    assert (messages == ()) == (name == "plain")


def test_names_outside_the_model_are_listed(tmp_path: Path) -> None:
    torch.save(WRAPPED["other modules"], tmp_path / "w.pt")
    assert any("loss.weight" in message for message in checkpoint.load(Network(), tmp_path / "w.pt"))


def test_tied_weights_are_stored_once(tmp_path: Path) -> None:
    stored = {name: tensor for name, tensor in weights().items() if name != "last.weight"}
    save_file(stored, tmp_path / "w.safetensors")
    module = Tied()
    checkpoint.load(module, tmp_path / "w.safetensors")
    assert bool((module.last.weight == 5).all())


def test_half_precision_weights_are_read(tmp_path: Path) -> None:
    save_file({name: tensor.to(torch.bfloat16) for name, tensor in weights().items()}, tmp_path / "w.safetensors")
    module = Network()
    checkpoint.load(module, tmp_path / "w.safetensors")
    assert module.line.weight.dtype == torch.float32


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"epoch": 1}, "does not hold a state_dict"),
        ([1, 2], "does not hold a state_dict"),
        ({"a": torch.ones(1)}, "line"),
    ],
)
def test_other_content_is_refused(content: Any, words: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(BadInput, match=words):
        checkpoint.load(Network(), tmp_path / "w.pt")
