"""Conversions: the exported graph of a source and the source's outputs, stored as files in one directory.

The process that loads the source writes only these files: an ONNX file, arrays and one JSON object.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from server.tensors import Array

from ..errors import BadInput, ExportFailed
from ..evaluation.dataset import Dataset
from . import Exported, SourceModel, axes
from .axes import Axis, Probe

GRAPH, ANSWERS, RESULT = "source.onnx", "answers.npz", "result.json"

EXAMPLE_ROWS = 2


@dataclass(frozen=True, slots=True)
class Conversion:
    """``answers``: the outputs of the source for each probe, one array per output, in order."""

    reference: str
    graph: Path
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    probes: tuple[Probe, ...]
    answers: tuple[tuple[Array, ...], ...]
    exported: Exported
    digests: Mapping[str, str]
    axes: tuple[Axis, ...] = ()
    classes: tuple[str, ...] = ()


def convert(source: SourceModel, data: Dataset, batch_sizes: Sequence[int], directory: Path) -> Conversion:
    """Export ``source`` into ``directory`` and run it on the probes.

    Raises BadInput if the source fails on the rows, ExportFailed if it cannot be exported.
    """
    rows = data.select(source.inputs)
    probes = axes.probes(rows, source.axes, batch_sizes)
    answers = tuple(tuple(source.run(probe.inputs)) for probe in probes)
    for probe, arrays in zip(probes, answers, strict=True):
        _check_rows(source.outputs, arrays, probe)
    graph = directory / GRAPH
    try:
        exported = source.export(rows.batch(EXAMPLE_ROWS), graph)
    except ExportFailed as error:
        raise ExportFailed(f"{source.reference}: {error}") from error
    return Conversion(
        source.reference, graph, source.inputs, source.outputs, probes, answers, exported, source.digests,
        source.axes, source.classes,
    )  # fmt: skip


def _check_rows(names: Sequence[str], arrays: Sequence[Array], probe: Probe) -> None:
    for name, array in zip(names, arrays, strict=True):
        if array.shape[:1] != (probe.batch_size,):
            raise BadInput(f"output {name!r} of the model is {list(array.shape)} at {probe}: axis 0 must be the rows")


def write(conversion: Conversion, directory: Path) -> None:
    """Write ``conversion`` to ``directory``, which already holds its graph. :func:`read` reads it."""
    arrays = {f"{at}:{name}": array for at, name, array in _answers(conversion)}
    np.savez(directory / ANSWERS, **arrays)  # type: ignore[arg-type]  # the stub mixes up arrays and allow_pickle
    body = {
        "inputs": conversion.inputs,
        "outputs": conversion.outputs,
        "exporter": conversion.exported.exporter,
        "messages": conversion.exported.messages,
        "axes": [asdict(axis) for axis in conversion.axes],
        "classes": conversion.classes,
        "digests": dict(conversion.digests),
    }
    (directory / RESULT).write_text(json.dumps(body), encoding="utf-8")


def read(directory: Path, reference: str, data: Dataset, batch_sizes: Sequence[int]) -> Conversion:
    """Read the conversion that another process wrote to ``directory``; nothing is executed. Raises BadInput."""
    try:
        body: dict[str, Any] = json.loads((directory / RESULT).read_text(encoding="utf-8"))
        inputs, outputs = tuple(map(str, body["inputs"])), tuple(map(str, body["outputs"]))
        found = tuple(Axis(str(row["input"]), int(row["position"]), str(row["name"])) for row in body["axes"])
        probes = axes.probes(data.select(inputs), found, batch_sizes)
        with np.load(directory / ANSWERS, allow_pickle=False) as archive:
            answers = tuple(tuple(archive[f"{at}:{name}"] for name in outputs) for at in range(len(probes)))
        exported = Exported(str(body["exporter"]), tuple(map(str, body["messages"])))
        digests = {str(key): str(value) for key, value in body["digests"].items()}
        classes = tuple(map(str, body["classes"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadInput(f"the process that converted {reference} wrote an unreadable result: {error}") from error
    return Conversion(reference, directory / GRAPH, inputs, outputs, probes, answers, exported, digests, found, classes)


def with_digest(conversion: Conversion, name: str, sha256: str) -> Conversion:
    return replace(conversion, digests={**conversion.digests, name: sha256})


def _answers(conversion: Conversion) -> list[tuple[int, str, Array]]:
    return [
        (at, name, array)
        for at, arrays in enumerate(conversion.answers)
        for name, array in zip(conversion.outputs, arrays, strict=True)
    ]
