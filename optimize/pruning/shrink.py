"""Shrinking: layers cut down to their strongest channels, so that the network is smaller and stays dense."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from ..errors import PassFailed
from .channels import Chain, chains

ALIGNED = 8
"""Layers keep a multiple of this many channels, which kernels compute at once; narrower ones are cut freely."""


def shrink(module: nn.Module, example: Mapping[str, Tensor], share: float) -> tuple[list[str], list[str]]:
    """Take ``share`` of the channels out of every layer that allows it, in place; a line for each cut, and each left.

    The weakest go: those with the smallest product of the norms of the weights that make a channel and of those that
    take it in. (Filters by the norm of their weights: Li et al., Pruning Filters for Efficient ConvNets, 2017.)
    Raises PassFailed when nothing can be cut, or the network no longer runs.
    """
    found, left = chains(module, example)
    cut = []
    for chain in found:
        keep = kept(chain.channels, share)
        if keep == chain.channels:
            left[chain.producer] = f"{share:.0%} of {chain.channels} channels is less than the {ALIGNED} cut at a time"
            continue
        strongest = torch.topk(strength(module, chain), keep).indices.sort().values
        apply(module, chain, strongest)
        cut.append(f"{chain.producer}: {chain.channels} -> {keep} channels")
    lines = [f"{name}: {reason}" for name, reason in left.items()]
    if not cut:
        raise PassFailed(f"no layer can be cut: {'; '.join(lines) or 'there is no convolution and no linear layer'}")
    try:
        with torch.inference_mode():
            module(**example)
    except Exception as error:
        reason = (str(error).strip().splitlines() or ["no reason given"])[0]
        raise PassFailed(
            f"after the cut the model no longer runs ({reason}): a size in forward() is fixed in the code"
        ) from error
    return cut, lines


def kept(channels: int, share: float) -> int:
    """How many of ``channels`` stay: rounded up to what kernels compute at once, where that is not all of them."""
    exact = max(1, channels - int(share * channels))
    return min(channels, -(-exact // ALIGNED) * ALIGNED) if channels >= 2 * ALIGNED else exact


def strength(module: nn.Module, chain: Chain) -> Tensor:
    """How much each channel can matter, float32 [channels]."""
    with torch.no_grad():
        found = _weight(module, chain.producer).flatten(1).norm(dim=1)
        for name, width in chain.norms:
            norm: Any = module.get_submodule(name)
            if norm.weight is not None:
                scale = norm.weight.abs() / torch.sqrt(norm.running_var + norm.eps)
                found = found * scale.reshape(-1, width).mean(dim=1)
        taken = torch.zeros_like(found)
        for name, width in chain.consumers:
            inwards = _weight(module, name).transpose(0, 1).flatten(1)
            taken += inwards.reshape(chain.channels, width, -1).flatten(1).norm(dim=1)
        return torch.as_tensor(found * taken)


def apply(module: nn.Module, chain: Chain, channels: Tensor) -> None:
    """Keep only ``channels`` (int64, in order) of the chain: where they are made, normalised and taken in."""
    producer: Any = module.get_submodule(chain.producer)
    _select(producer, "weight", 0, channels)
    if producer.bias is not None:
        _select(producer, "bias", 0, channels)
    setattr(producer, "out_features" if isinstance(producer, nn.Linear) else "out_channels", len(channels))
    for name, width in chain.norms:
        norm: Any = module.get_submodule(name)
        for key in ("weight", "bias", "running_mean", "running_var"):
            if getattr(norm, key) is not None:
                _select(norm, key, 0, _spread(channels, width))
        norm.num_features = len(channels) * width
    for name, width in chain.consumers:
        consumer: Any = module.get_submodule(name)
        _select(consumer, "weight", 1, _spread(channels, width))
        sizes = len(channels) * width
        setattr(consumer, "in_features" if isinstance(consumer, nn.Linear) else "in_channels", sizes)


def mask(module: nn.Module, share: float) -> list[str]:
    """Set ``share`` of the weights to zero, the smallest of all layers together; training leaves them there until
    :func:`unmask`. Returns the names of the layers. Raises PassFailed where there is none."""
    names = [name for name, layer in module.named_modules() if isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Linear)]
    if not names:
        raise PassFailed("there is no convolution and no linear layer to take weights from")
    prune.global_unstructured(
        [(module.get_submodule(name), "weight") for name in names], pruning_method=prune.L1Unstructured, amount=share
    )
    return names


def unmask(module: nn.Module, names: list[str]) -> list[str]:
    """Make the zeros of :func:`mask` ordinary weights; a line for each layer."""
    lines = []
    for name in names:
        layer = module.get_submodule(name)
        prune.remove(layer, "weight")  # type: ignore[no-untyped-call]
        weight = _weight(module, name)
        lines.append(f"{name}: {int((weight == 0).sum()):,} of {weight.numel():,} weights are zero")
    return lines


def _weight(module: nn.Module, name: str) -> Tensor:
    weight = module.get_submodule(name).weight
    if not isinstance(weight, Tensor):
        raise PassFailed(f"{name!r} has no weights")
    return weight.detach()


def _select(layer: Any, key: str, axis: int, indices: Tensor) -> None:
    old = getattr(layer, key)
    new = old.detach().index_select(axis, indices).clone()
    setattr(layer, key, nn.Parameter(new, old.requires_grad) if isinstance(old, nn.Parameter) else new)


def _spread(channels: Tensor, width: int) -> Tensor:
    """The indices that the channels have where each is ``width`` wide."""
    return (channels[:, None] * width + torch.arange(width)).flatten()
