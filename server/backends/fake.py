"""A fake backend for tests and benchmarks: it doubles its input, with configurable costs and failures.

The file is a small JSON object; all fields are optional::

    {"width": 4, "poison": 666, "exit": 667, "stall": 668, "memory": 669,
     "spend_us": 0, "spend_us_per_row": 0, "wait_us": 0, "load_us": 0}

A row with the value ``poison`` makes the run fail, as a bad index would. A row with ``exit`` raises SystemExit, one
with ``stall`` takes a minute, one with ``memory`` runs out of device memory. ``spend_us`` holds the interpreter as a
model in Python does; ``wait_us`` releases it as native code does. ``load_us`` is the duration of the load.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter_ns, sleep
from typing import Any

from ..errors import BrokenArtifact, ModelFailed, OutOfMemory, UnprocessableInput
from ..tensors import BY_NAME, Array, ModelSpec, TensorSpec, describe_shape
from . import BackendOptions


class FakeSession:
    """``outputs = 2 * inputs``, float32 [any, width]."""

    def __init__(self, fields: dict[str, Any]) -> None:
        dtype = BY_NAME["FP32"]
        width = int(fields.get("width", 4))
        self.spec = ModelSpec((TensorSpec("x", dtype, (-1, width)),), (TensorSpec("y", dtype, (-1, width)),))
        self._poison = fields.get("poison")
        self._exit = fields.get("exit")
        self._stall = fields.get("stall")
        self._memory = fields.get("memory")
        self._spend_us = float(fields.get("spend_us", 0))
        self._spend_us_per_row = float(fields.get("spend_us_per_row", 0))
        self._wait_us = float(fields.get("wait_us", 0))
        self._open = True
        sleep(float(fields.get("load_us", 0)) / 1e6)

    def run(self, batch: Sequence[Array]) -> list[Array]:
        if not self._open:
            raise ModelFailed("this model has been unloaded")
        (expected,) = self.spec.inputs
        if len(batch) != 1 or batch[0].dtype != expected.dtype.numpy or not expected.accepts(batch[0].shape):
            raise UnprocessableInput(f"the fake model takes one float32 array {describe_shape(expected.shape)}")
        x = batch[0]
        until_ns = perf_counter_ns() + int(1_000 * (self._spend_us + self._spend_us_per_row * len(x)))
        if self._poison is not None and (x == self._poison).any():
            raise ModelFailed("a row held the poison")
        if self._exit is not None and (x == self._exit).any():
            raise SystemExit("a row asked for the end")
        if self._memory is not None and (x == self._memory).any():
            raise OutOfMemory("the device has no memory left for this run")
        if self._stall is not None and (x == self._stall).any():
            sleep(60)
        if self._wait_us:
            sleep(self._wait_us / 1e6)
        while perf_counter_ns() < until_ns:
            pass
        return [x * 2]

    def close(self) -> None:
        self._open = False


def load(path: Path, options: BackendOptions) -> FakeSession:  # noqa: ARG001 - threads mean nothing here
    """Raises BrokenArtifact when the file is not such an object."""
    try:
        return FakeSession(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise BrokenArtifact(f"cannot read {path.name}: {error.strerror}") from error
    except (ValueError, AttributeError, TypeError) as error:
        raise BrokenArtifact(f"{path.name} is not a description of a fake model: {error}") from error
