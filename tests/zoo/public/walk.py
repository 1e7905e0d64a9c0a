"""The whole way of a public model: ``optimize``, the server, responses to real inputs, and a bare session's speed."""

from __future__ import annotations

import io
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.integration.server_process import ServerProcess, server_process
from tests.zoo.public.models import PublicModel
from tests.zoo.public.packages import BUILD, ROOT

Array = NDArray[Any]
NPZ = "application/x-npz"
CALLERS = 8
"""Concurrent clients, so that requests share batches."""
ROUNDS = 30
"""Of the interleaved measurement of bare sessions."""


@dataclass(slots=True)
class Result:
    """What a model gave. ``refusal``: the last line of ``optimize``; the figures are None then."""

    model: str
    exit_code: int
    seconds: float
    refusal: str | None = None
    chosen: str | None = None
    claimed_speed_up: float | None = None
    bare_speed_up: float | None = None
    worst_cosine: float | None = None
    largest_difference: float | None = None
    same_decision: float | None = None
    """Share of rows with the same largest value of the first output; None: the output has one column."""
    rows: int = 0

    def save(self) -> None:
        """Write the result to ``build/public-models/results/NAME.json``."""
        folder = BUILD / "results"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{self.model}.json").write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")


def optimize(model: PublicModel, options: Sequence[str]) -> tuple[Result, Path, str]:
    """Run ``optimize`` on the model with further ``options``.

    Returns the result so far, the folder of the artifact, and the printed text.
    """
    rows = model.inputs(model.path(), model.rows)
    folder = BUILD / model.name
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "eval.npz", **rows)  # type: ignore[arg-type]  # the stub mixes up arrays and allow_pickle
    artifact = folder / "artifact"
    command = [sys.executable, "-m", "optimize", str(model.path()), "--eval", str(folder / "eval.npz"), *options]
    begun = time.monotonic()
    done = subprocess.run(
        [*command, *model.options, "--output", str(artifact), "--force"],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "200"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    printed = f"{done.stdout}\n{done.stderr}"
    (folder / "optimize.log").write_text(printed, encoding="utf-8")
    result = Result(model.name, done.returncode, round(time.monotonic() - begun, 1))
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        result.refusal = lines[-1] if lines else "no line of stderr begins with error:"
        return result, artifact, printed
    evidence = json.loads((artifact / "manifest.json").read_text("utf-8"))["evidence"]
    result.chosen = evidence["chosen"]
    [winner] = [one for one in evidence["candidates"] if one["chosen"]]
    result.claimed_speed_up = (winner["speed_up"] or {}).get("value")
    return result, artifact, printed


def compare(model: PublicModel, artifact: Path, result: Result) -> None:
    """Serve the artifact, send every row by itself from several clients, and compare with the original's outputs."""
    rows = model.inputs(model.path(), model.rows)
    expected = model.original(model.path())(rows)
    with server_process(BUILD / model.name / "server", artifact, "--max-queue-ms", "60000") as server:
        server.ready()
        with ThreadPoolExecutor(CALLERS) as callers:
            parts = [model.part(rows, row, row + 1) for row in range(model.rows)]
            answers = list(callers.map(lambda part: _ask(server, part), parts))
        names = [one["name"] for one in server.get(f"/v2/models/{server_model(server)}").json()["outputs"]]
    result.rows = model.rows
    differences, cosines, decisions = [], [], []
    for row, answer in enumerate(answers):
        for position, name in enumerate(names):
            original = _row(expected[position], answer[name], row)
            differences.append(_difference(original, answer[name]))
            cosines.append(_cosine(original, answer[name]))
            if position == 0 and original.shape[-1] > 1:
                decisions.append(bool(original.argmax(-1).ravel()[0] == answer[name].argmax(-1).ravel()[0]))
    result.largest_difference, result.worst_cosine = max(differences), min(cosines)
    result.same_decision = statistics.mean(decisions) if decisions else None


def server_model(server: ServerProcess) -> str:
    """The name of the one model that is served."""
    names: list[str] = [one["name"] for one in server.request("POST", "/v2/repository/index", b"{}").json()]
    return names[0]


def bare_speed_up(model: PublicModel, artifact: Path) -> float | None:
    """Rows per second of the winner in a bare session, against the baseline, with equal batch and threads.

    None where the winner or the source is no ONNX file, or the winner is the baseline itself.
    """
    manifest = json.loads((artifact / "manifest.json").read_text("utf-8"))
    source = model.path()
    if manifest["backend"] != "onnxruntime" or source.suffix != ".onnx" or manifest["evidence"]["chosen"] == "float32":
        return None
    [winner] = [one for one in manifest["evidence"]["candidates"] if one["chosen"]]
    batch, threads = winner["at"]["batch_size"], winner["at"]["threads"]
    rows = model.part(model.inputs(source, model.rows), 0, batch)
    if next(iter(rows.values())).shape[0] < batch:
        return None
    sessions = [_session(path, threads) for path in (source, artifact / manifest["model"])]
    times: list[list[int]] = [[], []]
    for number in range(ROUNDS + 2):
        for session, seen in zip(sessions, times, strict=True):
            begun = time.perf_counter_ns()
            session.run(None, dict(rows))
            if number >= 2:
                seen.append(time.perf_counter_ns() - begun)
    return float(statistics.median(first / second for first, second in zip(*times, strict=True)))


def _session(path: Path, threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _ask(server: ServerProcess, rows: Mapping[str, Array]) -> dict[str, Array]:
    packed = io.BytesIO()
    np.savez(packed, **rows)  # type: ignore[arg-type]  # the stub mixes up arrays and allow_pickle
    answer = server.post("/invocations", packed.getvalue(), {"Content-Type": NPZ, "Accept": NPZ})
    assert answer.status == 200, answer.body[:500]
    with np.load(io.BytesIO(answer.body), allow_pickle=False) as arrays:
        return dict(arrays)


def _row(whole: Array, alone: Array, row: int) -> Array:
    """The part of a batch's output that belongs to a row: along the axis where the lone output has one entry."""
    axis = next(axis for axis, size in enumerate(alone.shape) if size != whole.shape[axis])
    return whole.take([row], axis)


def _difference(original: Array, served: Array) -> float:
    """The largest difference, relative to the largest value of the original."""
    return float(np.abs(original - served).max() / max(float(np.abs(original).max()), 1e-9))


def _cosine(original: Array, served: Array) -> float:
    first, second = original.ravel().astype(np.float64), served.ravel().astype(np.float64)
    return float(first @ second / max(float(np.linalg.norm(first) * np.linalg.norm(second)), 1e-30))
