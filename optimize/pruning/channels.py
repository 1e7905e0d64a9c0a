"""Channels: which layers of a network may lose some without asking others, and why the rest may not.

A layer's channels are followed through a trace of the model (torch.fx) up to the layers that take them in. As long as
everything in between treats channels one by one, producer and consumers can be cut alike. Where two layers' channels
meet, as at the addition of a residual block, cutting one would need the same cut of the other: those are left.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp

from ..errors import PassFailed

CONVOLUTIONS: tuple[type[nn.Module], ...] = (nn.Conv1d, nn.Conv2d)
NORMS: tuple[type[nn.Module], ...] = (nn.BatchNorm1d, nn.BatchNorm2d)
ONE_BY_ONE: tuple[type[nn.Module], ...] = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish, nn.Sigmoid, nn.Tanh, nn.Softplus),
    *(nn.Hardswish, nn.Hardsigmoid, nn.Hardtanh, nn.Identity, nn.Dropout),
)
POOLS: tuple[type[nn.Module], ...] = (
    *(nn.MaxPool1d, nn.MaxPool2d, nn.AvgPool1d, nn.AvgPool2d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d),
    *(nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.ZeroPad2d, nn.Dropout2d),
)

VALUE_NAMES = frozenset(
    {"relu", "relu_", "relu6", "leaky_relu", "elu", "selu", "gelu", "silu", "mish", "sigmoid", "tanh", "softplus"}
    | {"hardswish", "hardsigmoid", "hardtanh", "dropout", "clamp", "contiguous", "mul", "truediv", "add", "sub"}
)
"""Functions and methods that look at one value at a time; the arithmetic only with plain numbers."""

POOL_NAMES = frozenset(
    {"max_pool1d", "max_pool2d", "avg_pool1d", "avg_pool2d", "adaptive_avg_pool1d", "adaptive_avg_pool2d"}
    | {"adaptive_max_pool1d", "adaptive_max_pool2d", "dropout2d"}
)

LEAST_CHANNELS = 4


@dataclass(frozen=True, slots=True)
class Place:
    """Where a layer's channels are in a tensor: on ``axis``, each over ``width`` neighbouring indices."""

    axis: int
    width: int


@dataclass(slots=True)
class Chain:
    """A layer whose ``channels`` may be cut, and what has to be cut alike: (module, indices to a channel)."""

    producer: str
    channels: int
    norms: list[tuple[str, int]] = field(default_factory=list)
    consumers: list[tuple[str, int]] = field(default_factory=list)


class Stuck(Exception):
    """Why a layer's channels cannot be followed."""


def chains(module: nn.Module, example: Mapping[str, Tensor]) -> tuple[list[Chain], dict[str, str]]:
    """The layers of ``module`` that can be cut, and the others with the reason for each.

    ``example`` holds rows by name of input. Raises PassFailed when the model cannot be traced.
    """
    follower = _Follower(_traced(module, example))
    found: list[Chain] = []
    left: dict[str, str] = {}
    for node in follower.graph.nodes:
        if node.op == "call_module" and isinstance(follower.modules[node.target], (*CONVOLUTIONS, nn.Linear)):
            try:
                found.append(follower.chain(node))
            except Stuck as reason:
                left[str(node.target)] = str(reason)
    return found, left


def _traced(module: nn.Module, example: Mapping[str, Tensor]) -> fx.GraphModule:
    import inspect

    absent = {name: None for name in inspect.signature(module.forward).parameters if name not in example}
    try:
        traced = fx.symbolic_trace(module, concrete_args=absent or None)
        places = [node for node in traced.graph.nodes if node.op == "placeholder"]
        with torch.inference_mode():
            ShapeProp(traced).propagate(*(example.get(str(node.target)) for node in places))
    except Exception as error:
        reason = (str(error).strip().splitlines() or ["no reason given"])[0]
        raise PassFailed(
            f"torch.fx cannot follow the model ({type(error).__name__}: {reason}): structured pruning needs a "
            "forward() without decisions that depend on values; magnitude pruning does not"
        ) from error
    return traced


class _Follower:
    """One traced model."""

    def __init__(self, traced: fx.GraphModule) -> None:
        self.graph = traced.graph
        self.modules: dict[Any, nn.Module] = dict(traced.named_modules())
        self.calls = Counter(node.target for node in traced.graph.nodes if node.op == "call_module")
        self.owners = Counter(
            id(parameter)
            for name, module in traced.named_modules(remove_duplicate=False)
            for parameter in module.parameters(recurse=False)
        )

    def chain(self, node: fx.Node) -> Chain:
        """Raises Stuck."""
        name, layer = str(node.target), self.modules[node.target]
        self._alone(name)
        if isinstance(layer, nn.Linear):
            chain, axis = Chain(name, layer.out_features), len(_shape(node)) - 1
        else:
            if _number(layer, "groups") != 1:
                raise Stuck("it is a grouped convolution")
            chain, axis = Chain(name, _number(layer, "out_channels")), 1
        if chain.channels < LEAST_CHANNELS:
            raise Stuck(f"it has only {chain.channels} channels")
        waiting = [(node, Place(axis, 1))]
        while waiting:
            at, place = waiting.pop()
            for user in at.users:
                after = self._step(user, at, place, chain)
                if after is not None:
                    waiting.append((user, after))
        if not chain.consumers:
            raise Stuck("nothing takes its channels in")
        return chain

    def _alone(self, name: str) -> None:
        layer = self.modules[name]
        if self.calls[name] > 1:
            raise Stuck(f"{name!r} is used {self.calls[name]} times")
        if type(layer) not in (*CONVOLUTIONS, *NORMS, nn.Linear):
            raise Stuck(f"{name!r} is a {type(layer).__name__}, which may do more than its ancestor")
        if any(self.owners[id(parameter)] > 1 for parameter in layer.parameters(recurse=False)):
            raise Stuck(f"{name!r} shares its weights with another layer")

    def _step(self, user: fx.Node, before: fx.Node, place: Place, chain: Chain) -> Place | None:
        """Where the channels are after ``user``; None where they end. Raises Stuck."""
        if user.op == "output":
            raise Stuck("its channels are an output of the model")
        if user.op == "call_module":
            return self._module(str(user.target), before, place, chain)
        return _function(user, before, place)

    def _module(self, name: str, before: fx.Node, place: Place, chain: Chain) -> Place | None:
        layer, dimensions = self.modules[name], len(_shape(before))
        if isinstance(layer, CONVOLUTIONS) and place == Place(1, 1):
            self._alone(name)
            if _number(layer, "groups") != 1:
                raise Stuck(f"they go into {name!r}, a grouped convolution")
            chain.consumers.append((name, 1))
            return None
        if isinstance(layer, nn.Linear) and place.axis == dimensions - 1:
            self._alone(name)
            chain.consumers.append((name, place.width))
            return None
        if isinstance(layer, NORMS) and place.axis == 1:
            self._alone(name)
            chain.norms.append((name, place.width))
            return place
        if isinstance(layer, ONE_BY_ONE) or (isinstance(layer, POOLS) and place == Place(1, 1)):
            return place
        if isinstance(layer, nn.Flatten):
            return _flattened(_shape(before), place, int(layer.start_dim), int(layer.end_dim))
        raise Stuck(f"they go into {name!r}, a {type(layer).__name__}, which does not keep channels apart")


def _function(user: fx.Node, before: fx.Node, place: Place) -> Place | None:
    name = user.target if isinstance(user.target, str) else getattr(user.target, "__name__", str(user.target))
    arguments = [argument for argument in (*user.args, *user.kwargs.values()) if argument is not before]
    if name in VALUE_NAMES and not any(isinstance(argument, fx.Node) for argument in arguments):
        return place
    if name in POOL_NAMES and place == Place(1, 1):
        return place
    if name == "flatten":
        sizes: list[Any] = [*arguments, *((0, -1)[len(arguments) :])]
        return _flattened(_shape(before), place, int(sizes[0]), int(sizes[1]))
    if name in ("view", "reshape") and _is_flat(arguments, _shape(before), _shape(user)):
        return _flattened(_shape(before), place, 1, -1)
    if name == "mean":
        return _averaged(user, before, place)
    if (name == "size" and arguments == [0]) or (name == "getattr" and _only_rows(user)):
        return None
    if name in ("add", "iadd", "add_", "cat", "sub", "mul", "concat"):
        raise Stuck(f"they meet the channels of another layer in {name!r}")
    raise Stuck(f"they go into {name!r}, which is not known to keep channels apart")


def _flattened(shape: Sequence[int], place: Place, start: int, end: int) -> Place:
    start, end = start % len(shape), end % len(shape)
    if place.axis < start:
        return place
    if place.axis > end:
        return Place(place.axis - (end - start), place.width)
    if place.axis != start:
        raise Stuck("they are flattened together with an axis before them")
    return Place(start, place.width * prod(shape[start + 1 : end + 1]))


def _is_flat(arguments: Sequence[Any], before: Sequence[int], after: Sequence[int]) -> bool:
    """Whether a view is a flattening that also fits fewer channels: the last size is left to torch."""
    sizes = arguments[0] if len(arguments) == 1 and isinstance(arguments[0], tuple | list) else arguments
    return len(after) == 2 and after[0] == before[0] and len(sizes) == 2 and sizes[1] == -1


def _averaged(user: fx.Node, before: fx.Node, place: Place) -> Place:
    shape = _shape(before)
    given = user.args[1] if len(user.args) > 1 else user.kwargs.get("dim")
    named: Sequence[Any] = given if isinstance(given, tuple | list) else (given,)
    if given is None or any(not isinstance(axis, int) for axis in named):
        raise Stuck("they are averaged with one another in 'mean'")
    axes = {int(axis) % len(shape) for axis in named}
    if place.axis in axes:
        raise Stuck("they are averaged with one another in 'mean'")
    kept = len(_shape(user)) == len(shape)
    return place if kept else Place(place.axis - sum(axis < place.axis for axis in axes), place.width)


def _only_rows(user: fx.Node) -> bool:
    """Whether ``x.shape`` is asked for the number of rows and for nothing else."""
    return user.args[1] == "shape" and all(taken.args[1:] == (0,) for taken in user.users)


def _shape(node: fx.Node) -> Sequence[int]:
    meta = node.meta.get("tensor_meta")
    shape: Sequence[int] | None = getattr(meta, "shape", None)
    if shape is None:
        raise Stuck(f"{node.name!r} gives more than one tensor")
    return shape


def _number(layer: nn.Module, name: str) -> int:
    return int(getattr(layer, name))
