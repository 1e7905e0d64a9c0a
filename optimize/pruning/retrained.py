"""The retrained network: built, cut, trained again, described like any other source. Runs in a sandboxed process."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ..errors import PassFailed
from ..evaluation.dataset import Dataset
from ..sources import SourceModel, SourceSpec, torch_factory, torch_module
from . import Cut
from .shrink import mask, shrink, unmask


def load(
    request: SourceSpec, data: Dataset, cut: Cut, train: str, seed: int
) -> tuple[SourceModel, dict[str, list[str] | int]]:
    """The network of ``request`` without ``cut``, after ``train`` (``module:function``, or nothing) had it.

    Also returns what was cut, what was left and why, and the number of weights before and after (zeros not counted).
    Raises BadInput or PassFailed.
    """
    torch.manual_seed(seed)
    module, _ = torch_factory.build(request.reference, request.weights, request.arguments)
    names = torch_module.input_names(module, data)
    before = _weights(module)
    left: list[str] = []
    if cut.kind == "structured":
        example = {name: torch.from_numpy(array) for name, array in data.select(names).batch(2).items()}
        done, left = shrink(module, example, cut.share)
        _train(module, train)
    else:
        masked = mask(module, cut.share)
        _train(module, train)
        done = unmask(module, masked)
    module.eval()
    source = torch_module.reference_model(request, module, names, data, {})
    return source, {"cut": done, "left": left, "before": before, "after": _weights(module)}


def _train(module: nn.Module, reference: str) -> None:
    """Let the user's function train ``module`` in place. Raises PassFailed when it fails or ruins it."""
    if not reference:
        return
    function = torch_factory.resolve(reference)
    module.train()
    try:
        returned: Any = function(module)
    except Exception as error:
        raise PassFailed(f"--train {reference} failed with {torch_module.brief(error)}") from error
    if isinstance(returned, nn.Module) and returned is not module:
        raise PassFailed(f"--train {reference} returned another module: it has to train the one that it gets, in place")
    for name, parameter in module.named_parameters():
        if not bool(torch.isfinite(parameter).all()):
            raise PassFailed(f"after --train {reference} the weights of {name!r} are not finite: use a lower rate")


def _weights(module: nn.Module) -> int:
    return sum(int(torch.count_nonzero(parameter)) for parameter in module.parameters())
