"""The files that parent and foreign child exchange: a job and rows in, an ONNX file and the source's answers out."""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import child as confined

GRAPH = "source.onnx"


@dataclass(frozen=True, slots=True)
class Job:
    """``source`` is to be written as ``directory / GRAPH`` and to answer ``probes``: arrays by input name."""

    source: Path
    directory: Path
    probes: tuple[Mapping[str, Any], ...]
    opset: int


@dataclass(frozen=True, slots=True)
class Done:
    """Names, and for each probe the framework's own answers, one array per output in order."""

    inputs: Sequence[str]
    outputs: Sequence[str]
    answers: Sequence[Sequence[Any]]
    exporter: str


def main(convert: Callable[[Job], Done], frameworks: Sequence[str] = ()) -> int:
    """Do the job of the directory that the command line names; 0, or 1 with the reason in ``failure.json``.

    ``frameworks`` are imported before anything is given up: they look around on the machine when they are, and it is
    the model that is not trusted.
    """
    directory = Path(sys.argv[1])
    body = json.loads((directory / "job.json").read_text(encoding="utf-8"))
    for name in frameworks:
        importlib.import_module(name)
    confined.give_up(directory, int(body["memory_bytes"]))
    # Frameworks print what they like; the parent listens to the last line of the error stream only.
    os.chdir(directory)
    try:
        done = convert(Job(Path(body["source"]), directory, _probes(directory), int(body["opset"])))
    except Exception as error:  # noqa: BLE001 - whatever it is, the parent hears of it in one line
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or ["no reason given"]
        message = f"{body['reference']}: the converter failed with {type(error).__name__}: {' '.join(lines[:2])}"
        (directory / "failure.json").write_text(json.dumps({"code": "export_failed", "message": message}), "utf-8")
        return 1
    _write(directory, done, body["axes"])
    return 0


def _probes(directory: Path) -> tuple[Mapping[str, Any], ...]:
    import numpy as np

    found: dict[int, dict[str, Any]] = {}
    with np.load(directory / "probes.npz", allow_pickle=False) as archive:
        for key in archive.files:
            position, _, name = key.partition(":")
            found.setdefault(int(position), {})[name] = archive[key]
    return tuple(found[position] for position in sorted(found))


def _write(directory: Path, done: Done, axes: Any) -> None:
    import numpy as np

    arrays = {
        f"{at}:{name}": np.asarray(array)
        for at, answers in enumerate(done.answers)
        for name, array in zip(done.outputs, answers, strict=True)
    }
    np.savez(directory / "answers.npz", **arrays)  # type: ignore[arg-type]  # the stub mixes up arrays and allow_pickle
    body = {
        "inputs": list(done.inputs),
        "outputs": list(done.outputs),
        "exporter": done.exporter,
        "said": [],
        "axes": axes,
        "classes": [],
        "digests": {},
    }
    (directory / "result.json").write_text(json.dumps(body), encoding="utf-8")
