"""Conversions: the exported graph of a source and the source's outputs, stored as files in one directory.

The process that loads the source writes only these files: an ONNX file, arrays and one JSON object.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from server.tensors import Array

from ..errors import BadInput, ExportFailed
from ..evaluation import dataset
from ..evaluation.dataset import ROWS_FIRST, Dataset, Layout
from . import Exported, SourceModel, axes
from .axes import Axis, Probe

GRAPH, ANSWERS, RESULT = "source.onnx", "answers.npz", "result.json"

EXAMPLE_ROWS = 2

CHUNK = 32
"""Rows in one run of the source over the evaluation rows."""

EVALUATION_S = 60.0
"""Longest time for running the source over the evaluation rows; the rows of a slow source that fit in are compared."""


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
    warnings: tuple[str, ...] = ()
    """Lines that the command shows to the user."""
    layout: Layout = ROWS_FIRST
    ranks: Mapping[str, int] = field(default_factory=dict)
    evaluation: tuple[Array, ...] = ()
    """The source's outputs for the rows of the data from the first on, one array per output; empty if not run."""

    def arranged(self, data: Dataset) -> Dataset:
        """Return the inputs of the source from ``data``, in the layout that the source takes."""
        return arranged(self.reference, data.select(self.inputs), self.layout, self.ranks)


def convert(source: SourceModel, data: Dataset, batch_sizes: Sequence[int], directory: Path) -> Conversion:
    """Export ``source`` into ``directory`` and run it on the probes.

    Raises BadInput if the source fails on the rows, ExportFailed if it cannot be exported.
    """
    rows = arranged(source.reference, data.select(source.inputs), source.layout, source.ranks)
    free, messages = axes.workable(source.run, rows, source.axes, required=source.axes_required)
    graph = directory / GRAPH
    try:
        exported = source.export(rows.batch(EXAMPLE_ROWS), graph, free)
    except ExportFailed as error:
        if not free or source.axes_required:
            raise ExportFailed(f"{source.reference}: {error}") from error
        free = ()
        messages = (*messages, f"the sizes of the data are fixed, because the export with free ones failed: {error}")
        exported = source.export(rows.batch(EXAMPLE_ROWS), graph, free)
    probes = axes.probes(rows, free, batch_sizes)
    answers = tuple(tuple(source.run(probe.inputs)) for probe in probes)
    if source.layout == ROWS_FIRST:
        for probe, arrays in zip(probes, answers, strict=True):
            _check_rows(source.outputs, arrays, probe)
    exported = replace(exported, messages=(*source.messages, *messages, *exported.messages))
    return Conversion(
        source.reference, graph, source.inputs, source.outputs, probes, answers, exported, source.digests,
        free, source.classes, (*source.messages, *messages), source.layout, source.ranks, _evaluated(source, rows),
    )  # fmt: skip


def chunks(data: Dataset) -> list[dict[str, Array]]:
    """The rows of ``data`` in runs of ``CHUNK``; none where the rows are not on axis 0 of every input."""
    if data.layout != ROWS_FIRST or data.shared:
        return []
    return [data.batch(min(CHUNK, data.rows - at), at) for at in range(0, data.rows, CHUNK)]


def _evaluated(source: SourceModel, rows: Dataset) -> tuple[Array, ...]:
    """The outputs of the source for ``rows``, as many as its time allows."""
    parts: list[list[Array]] = []
    began = time.monotonic()
    for chunk in chunks(rows):
        parts.append(source.run(chunk))
        if time.monotonic() - began > EVALUATION_S:
            break
    return joined(parts)


def joined(parts: Sequence[Sequence[Array]]) -> tuple[Array, ...]:
    """The outputs of several runs as one array per output; empty where rows have no common shape."""
    try:
        return tuple(np.concatenate(column) for column in zip(*parts, strict=True))
    except ValueError:
        return ()


def sample(data: Dataset) -> Dataset:
    """Return the rows of ``data`` in arrays that another process can take."""
    rows = data.take(np.arange(data.rows))
    return Dataset(dict(rows.inputs), None, data.sha256, data.layout)


def arranged(reference: str, data: Dataset, layout: Layout, ranks: Mapping[str, int]) -> Dataset:
    """Return ``data`` in the layout of a source. Raises BadInput if the source cannot take it."""
    if ranks:
        return dataset.arranged(data, ranks, layout)
    if data.shared:
        raise BadInput(f"{data.shared[0]!r} has no rows on axis 0, and {reference} needs one value of it per row")
    return data


def _check_rows(names: Sequence[str], arrays: Sequence[Array], probe: Probe) -> None:
    for name, array in zip(names, arrays, strict=True):
        if array.shape[:1] != (probe.batch_size,):
            raise BadInput(f"output {name!r} of the model is {list(array.shape)} at {probe}: axis 0 must be the rows")


def write(conversion: Conversion, directory: Path) -> None:
    """Write ``conversion`` to ``directory``, which already holds its graph. :func:`read` reads it."""
    arrays = {f"{at}:{name}": dataset.storable(array) for at, name, array in _answers(conversion)}
    for name, array in zip(conversion.outputs, conversion.evaluation, strict=False):
        arrays[f"{len(conversion.answers)}:{name}"] = dataset.storable(array)
    np.savez(directory / ANSWERS, **arrays)  # type: ignore[arg-type]  # the stub mixes up arrays and allow_pickle
    body = {
        "inputs": conversion.inputs,
        "outputs": conversion.outputs,
        "exporter": conversion.exported.exporter,
        "messages": conversion.exported.messages,
        "axes": [asdict(axis) for axis in conversion.axes],
        "classes": conversion.classes,
        "warnings": conversion.warnings,
        "layout": asdict(conversion.layout),
        "ranks": dict(conversion.ranks),
        "digests": dict(conversion.digests),
    }
    (directory / RESULT).write_text(json.dumps(body), encoding="utf-8")


def read(directory: Path, reference: str, data: Dataset, batch_sizes: Sequence[int]) -> Conversion:
    """Read the conversion that another process wrote to ``directory``; nothing is executed. Raises BadInput."""
    try:
        body: dict[str, Any] = json.loads((directory / RESULT).read_text(encoding="utf-8"))
        inputs, outputs = tuple(map(str, body["inputs"])), tuple(map(str, body["outputs"]))
        found = tuple(_axis(row) for row in body["axes"])
        layout, ranks = _layout(body["layout"]), {str(key): int(rank) for key, rank in body["ranks"].items()}
        probes = axes.probes(arranged(reference, data.select(inputs), layout, ranks), found, batch_sizes)
        with np.load(directory / ANSWERS, allow_pickle=False) as archive:
            answers = tuple(
                tuple(dataset.loaded(archive[f"{at}:{name}"]) for name in outputs) for at in range(len(probes))
            )
            later = {int(key.partition(":")[0]) for key in archive.files} - set(range(len(probes)))
            evaluation = joined([[dataset.loaded(archive[f"{at}:{name}"]) for name in outputs] for at in sorted(later)])
        exported = Exported(str(body["exporter"]), tuple(map(str, body["messages"])))
        digests = {str(key): str(value) for key, value in body["digests"].items()}
        classes = tuple(map(str, body["classes"]))
        warnings = tuple(map(str, body["warnings"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadInput(f"the process that converted {reference} wrote an unreadable result: {error}") from error
    return Conversion(
        reference, directory / GRAPH, inputs, outputs, probes, answers, exported, digests, found, classes, warnings,
        layout, ranks, evaluation,
    )  # fmt: skip


def _layout(row: Mapping[str, Any]) -> Layout:
    places = {str(key): None if axis is None else int(axis) for key, axis in row["row_axes"].items()}
    return Layout(places, None if row["run_rows"] is None else int(row["run_rows"]))


def _axis(row: Mapping[str, Any]) -> Axis:
    return Axis(str(row["input"]), int(row["position"]), str(row["name"]), tuple(map(int, row["sizes"])))


def with_digest(conversion: Conversion, name: str, sha256: str) -> Conversion:
    return replace(conversion, digests={**conversion.digests, name: sha256})


def _answers(conversion: Conversion) -> list[tuple[int, str, Array]]:
    return [
        (at, name, array)
        for at, arrays in enumerate(conversion.answers)
        for name, array in zip(conversion.outputs, arrays, strict=True)
    ]
