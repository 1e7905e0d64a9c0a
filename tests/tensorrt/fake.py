"""A fake of TensorRT that acts: it parses ONNX files, writes plans, and runs them by a function of the test.

Its classes are those of the bindings (``strict.py``). What is acted out was seen on the real parser and builder of
TensorRT-RTX: ``tests/gpu/fake/test_tensorrt_bindings.py`` does the same steps with both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import Any

from . import acts_build, acts_run
from .api import load
from .strict import Behaviour, Call, Made, build

Compute = Callable[[Mapping[str, tuple[int, ...]], Mapping[str, int]], None]
"""Called by a run with the shapes and the addresses of all tensors."""


def nothing(shapes: Mapping[str, tuple[int, ...]], addresses: Mapping[str, int]) -> None:
    """A run that leaves its outputs as they are."""


@dataclass(slots=True)
class FakeTensorRT:
    """``module`` stands for the bindings. ``sm``: the device. ``build_error``: what the builder logs instead.
    ``unsupported``: operators that the parser refuses, besides those of other domains. ``compute``: what a run does."""

    module: ModuleType
    made: Made
    sm: int = 89
    build_error: str = ""
    unsupported: frozenset[str] = frozenset()
    compute: Compute = nothing

    def called(self, owner: str, method: str) -> list[Call]:
        """The calls of a method so far; of a set attribute for a name with ``=`` at its end."""
        return [one for one in self.made.calls if (one.owner, one.method) == (owner, method)]


def tensorrt(version: str = "10.16", **options: Any) -> FakeTensorRT:
    """A fake of one of ``api.VERSIONS``; ``options`` are fields of :class:`FakeTensorRT`."""
    behaviours: dict[tuple[str, str], Behaviour] = {}
    made = build(load(version), behaviours)
    fake = FakeTensorRT(made.module, made, **options)
    for key, act in {**acts_build.ACTS, **acts_run.ACTS}.items():
        behaviours[key] = partial(act, fake)
    return fake
