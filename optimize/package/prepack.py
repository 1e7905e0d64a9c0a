"""Prepacking: writes the winner so that loading maps its weights instead of copying and packing them."""

from __future__ import annotations

import shutil
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from server.backends import Session
from server.errors import SlipwayError

from ..errors import PassFailed
from ..evaluation import evaluate, gates
from ..evaluation.dataset import Dataset
from ..passes import backend_of, engine_from_onnx, running
from ..passes.leveled_from_float32 import write
from ..sandbox import isolation
from ..sandbox.isolation import StepLimits
from ..sources import external_data

ROUNDS = 3

SMALLEST_BYTES = 1_000_000
"""Smaller models load in a few milliseconds in any case and stay one portable file."""

WORTH_IT = 0.9
"""Largest share of the plain load time: the mapped form must gain something, because it fits this processor only."""

AS_FAST = 1.1
"""Largest ratio of the mapped form's run time to the plain form's: the same kernels, plus noise of a busy machine."""

LEAST_RUNS, MOST_RUNS, TIMED_NS = 7, 60, 1e9
"""Runs of both forms, as many as fit into a second: on a busy machine the fastest of few runs is still slow."""

SAME_DB = 60.0
"""Least signal-to-noise ratio between the two forms, which run the same kernels, perhaps in another order."""


@dataclass(frozen=True, slots=True)
class PrepackedModel:
    """The files of the model, the first of which is loaded. ``prepacked``: they fit processors like this one only."""

    files: tuple[Path, ...]
    prepacked: bool
    plain_ms: float
    mapped_ms: float | None = None
    reason: str = ""

    @property
    def bytes(self) -> int:
        return sum(file.stat().st_size for file in self.files)

    def to_json(self) -> dict[str, Any]:
        return {
            "plain_ms": round(self.plain_ms, 2),
            "mapped_ms": None if self.mapped_ms is None else round(self.mapped_ms, 2),
            "bytes": self.bytes,
            "prepacked": self.prepacked,
            "reason": self.reason,
        }


def prepack(model: Path, workdir: Path, data: Dataset, *, portable: bool, late: bool = False) -> PrepackedModel:
    """Write the mapped form of ``model``; keep it if its outputs are the same and it loads faster, else keep ``model``.

    ``late``: no time is left, and the plain form is kept.
    """
    plain = PrepackedModel(_files(model), prepacked=False, plain_ms=_loading_ms(model))
    if running.on_gpu(model):
        return _because(plain, "a GPU takes the graph as it is: packed weights and their operators are for processors")
    if portable or backend_of(model) != "onnxruntime":
        return _because(plain, "portable was asked for" if portable else "its backend maps weights by itself")
    if late:
        return _because(plain, "no time was left for a form that loads faster")
    if plain.bytes < SMALLEST_BYTES:
        return _because(plain, "the model is small: it stays one portable file")
    workdir.mkdir(parents=True)
    target = workdir / "model.onnx"
    try:
        write(model, target, "all")
        same = _same(model, target, data)
        pace = _pace(model, target, data)
    except Exception as error:  # noqa: BLE001 - any error of ONNX Runtime: the plain file is good
        return _because(plain, f"ONNX Runtime could not write the mapped form: {str(error).splitlines()[0]}")
    if not same:
        return _because(plain, "the mapped form gives other outputs")
    if pace > AS_FAST:
        return _because(plain, f"the mapped form takes {pace:.2f} times as long to run")
    times = [(_loading_ms(model), _loading_ms(target, optimized=True)) for _ in range(ROUNDS)]
    plain_ms, mapped_ms = (float(np.median(column)) for column in zip(*times, strict=True))
    if mapped_ms > WORTH_IT * plain_ms:
        return PrepackedModel(plain.files, False, plain_ms, mapped_ms, "mapping does not load faster")
    files = tuple(file for file in (target, target.with_name(f"{target.name}.data")) if file.is_file())
    return PrepackedModel(files, True, plain_ms, mapped_ms, "weights are mapped and packed for this processor")


def in_child(
    limits: StepLimits, model: Path, workdir: Path, data: Dataset, *, portable: bool, late: bool = False
) -> PrepackedModel:
    """Run :func:`prepack` in a child. If the child fails, the plain file is kept with the reason.

    Raises PassFailed if the plain file cannot be loaded either.
    """
    few = data.take(np.arange(min(data.rows, gates.ROWS)))
    rows = Dataset(dict(few.inputs), None, data.sha256, data.layout)
    try:
        return isolation.call(limits, prepack, model, workdir, rows, portable=portable, late=late)
    except PassFailed as error:
        plain = PrepackedModel(_files(model), prepacked=False, plain_ms=isolation.call(limits, _loading_ms, model))
        return _because(plain, f"packing the weights failed and the plain file is kept: {error}")


def _files(model: Path) -> tuple[Path, ...]:
    """Return the model with the files that hold its weights."""
    if model.suffix == ".plan":
        return (model, *engine_from_onnx.companions(model.parent))
    if backend_of(model) == "onnxruntime":
        return (model, *external_data.beside(model))
    weights = model.with_suffix(".bin")
    return (model, weights) if weights.is_file() else (model,)


def place(finished: PrepackedModel, root: Path) -> None:
    """Copy the files into the artifact under their names, because the graph refers to its weights by name."""
    for file in finished.files:
        shutil.copyfile(file, root / file.name)


def _because(finished: PrepackedModel, reason: str) -> PrepackedModel:
    return PrepackedModel(finished.files, False, finished.plain_ms, None, reason)


def _open(path: Path, *, optimized: bool) -> Session:
    return running.open_session(path, optimized=optimized)


def _loading_ms(path: Path, *, optimized: bool = False) -> float:
    begun = time.perf_counter_ns()
    _open(path, optimized=optimized).close()
    return (time.perf_counter_ns() - begun) / 1e6


def _pace(plain: Path, mapped: Path, data: Dataset) -> float:
    """Run time of one row in the mapped form over that in the plain form: the fastest runs of both are compared."""
    with ExitStack() as stack:
        sessions = [_open(plain, optimized=False), _open(mapped, optimized=True)]
        for session in sessions:
            stack.callback(session.close)
        row = data.batch(1)
        taken: list[list[int]] = []
        began_ns = time.perf_counter_ns()
        while len(taken) < LEAST_RUNS or (len(taken) < MOST_RUNS and time.perf_counter_ns() - began_ns < TIMED_NS):
            marks = [time.perf_counter_ns()]
            for session in sessions:
                session.run([row[spec.name] for spec in session.spec.inputs])
                marks.append(time.perf_counter_ns())
            taken.append(marks)
    # The first run plans the memory. The fastest run is the least disturbed by other processes.
    plain_ns, mapped_ns = np.diff(np.array(taken[1:]), axis=1).min(axis=0)
    return float(mapped_ns / plain_ns)


def _same(plain: Path, mapped: Path, data: Dataset) -> bool:
    try:
        expected, got = (
            evaluate.outputs(path, data, gates.ROWS, 1, gates.ROWS, optimized=path == mapped)
            for path in (plain, mapped)
        )
    except SlipwayError:
        return False
    return gates.incomparable(got, expected) is None and evaluate.sqnr_db(got, expected) >= SAME_DB
