"""Sessions without models: a session that follows a script, artifacts for it, and a clock that only runs move."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from server import artifact as artifacts
from server.artifact import SAMPLES, Artifact, Batching, Manifest
from server.errors import UnprocessableInput
from server.tensors import BY_NAME, Array, ModelSpec, TensorSpec
from tests.fakes import FakeClock

FP32 = BY_NAME["FP32"]


def spec(inputs: tuple[int, ...] = (-1, 4), outputs: tuple[int, ...] = (-1, 4), dtype: str = "FP32") -> ModelSpec:
    return ModelSpec((TensorSpec("x", BY_NAME[dtype], inputs),), (TensorSpec("y", FP32, outputs),))


class Scripted:
    """A session that follows a script: by its number of rows a run costs time, is refused, or returns other rows.

    Each row is answered by a number of its own.
    """

    def __init__(
        self,
        clock: FakeClock | None = None,
        declared: ModelSpec | None = None,
        cost_ns: Callable[[int], int] = lambda rows: 0,
        largest: int = 1 << 30,
        rows_out: Callable[[int], int] = lambda rows: rows,
    ) -> None:
        self.spec = declared or spec()
        self.seen: list[list[Array]] = []
        self.closed = 0
        self._clock = clock or FakeClock()
        self._cost_ns = cost_ns
        self._largest = largest
        self._rows_out = rows_out

    def run(self, batch: Sequence[Array]) -> list[Array]:
        rows = len(batch[0]) if batch[0].ndim else 1
        self.seen.append(list(batch))
        self._clock.now_ns += self._cost_ns(rows)
        if rows > self._largest:
            raise UnprocessableInput("too many rows")
        if self._rows_out(rows) != rows:
            return [np.zeros((self._rows_out(rows), 4), np.float32)]
        marks = [zlib.crc32(repr(row.tolist()).encode()) % 1_000 for row in np.atleast_1d(batch[0])[:rows]]
        return [np.repeat(np.array(marks, np.float32)[:, None], 4, axis=1)]

    def close(self) -> None:
        self.closed += 1

    @property
    def sizes(self) -> list[int]:
        return sorted({len(batch[0]) for batch in self.seen})


def bare(root: Path = Path("/nowhere")) -> Artifact:
    return Artifact(root, Manifest("m", "1", "fake", "model.onnx", ModelSpec((), ())), declared=False)


def declared(root: Path = Path("/nowhere"), model: ModelSpec | None = None) -> Artifact:
    return Artifact(root, Manifest("m", "1", "fake", "model.json", model or spec()))


def write_fake(root: Path, name: str = "m", batching: Batching | None = None, **fields: Any) -> Path:
    """An artifact of the fake backend, which doubles four numbers a row."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "model.json").write_text(json.dumps(fields))
    model = ModelSpec((TensorSpec("x", FP32, (-1, 4)),), (TensorSpec("y", FP32, (-1, 4)),))
    artifacts.write(root, Manifest(name, "1", "fake", "model.json", model, batching=batching))
    return root


def write_samples(root: Path, array: Any, name: str = "x") -> None:
    arrays: dict[str, Any] = {f"input:{name}": array}
    np.savez(root / SAMPLES, **arrays)
