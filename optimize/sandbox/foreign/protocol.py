"""The files that parent and isolated environment exchange: a job and rows in, an ONNX file and outputs out."""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .. import child

GRAPH = "source.onnx"


@dataclass(frozen=True, slots=True)
class Job:
    """Convert ``source`` to ``directory / GRAPH`` and run it on ``probes``, which are arrays by input name."""

    source: Path
    directory: Path
    probes: tuple[Mapping[str, Any], ...]
    opset: int


@dataclass(frozen=True, slots=True)
class Done:
    """Input and output names, and for each probe the framework's outputs, one array per output in order.

    ``renamed``: the names that the parent gives to inputs of the graph.
    """

    inputs: Sequence[str]
    outputs: Sequence[str]
    answers: Sequence[Sequence[Any]]
    exporter: str
    renamed: Mapping[str, str] = field(default_factory=dict)


def main(convert: Callable[[Job], Done], frameworks: Sequence[str] = ()) -> int:
    """Convert the job in the directory that the command line names. Return 0, or 1 with ``failure.json``.

    ``frameworks`` are imported before the restrictions, because their imports inspect the machine. Only the model is
    untrusted.
    """
    directory = Path(sys.argv[1])
    body = json.loads((directory / "job.json").read_text(encoding="utf-8"))
    for name in frameworks:
        importlib.import_module(name)
    child.restrict(directory, int(body["memory_bytes"]))
    # Frameworks write files to the current folder.
    os.chdir(directory)
    try:
        done = convert(Job(Path(body["source"]), directory, _probes(directory), int(body["opset"])))
    except Exception as error:  # noqa: BLE001 - the parent reports every exception in one line
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
        "messages": [],
        "axes": axes,
        "classes": [],
        "warnings": [],
        "layout": {"row_axes": {}, "run_rows": None},
        "ranks": {},
        "renamed": dict(done.renamed),
        "digests": {},
    }
    (directory / "result.json").write_text(json.dumps(body), encoding="utf-8")
