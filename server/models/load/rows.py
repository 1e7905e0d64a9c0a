"""Rows: whether a model's requests may share a run or be cut, by declaration or by proof."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ...artifact import Artifact, Batching
from ...backends import Session
from ...backends.independence import CONSTANT, HALF, MOST_ROWS, ROWS, SINGLE, Independence, prove, prove_synthetic
from ...backends.onnx_file import branch_on_data
from ...settings.options import Settings
from ...target import CPU
from ...tensors import Array
from .placement import device_of
from .single_row import SingleRowSession, takes_single_rows

log = logging.getLogger("slipway.models")

UNSHOWN = Independence(False, CONSTANT)
WHOLE = "its tensors have no common batch axis"


def with_rows(session: Session, settings: Settings) -> Session:
    """The session of a model, or, for a fixed batch of one row, a session that takes requests of any number of rows."""
    if settings.batching == "off" or not takes_single_rows(session.spec):
        return session
    return SingleRowSession(session)


def rows_of(
    session: Session, artifact: Artifact, sample: Sequence[Array], most_rows: int, settings: Settings
) -> Independence:
    """Whether rows are independent: as declared, or as shown with ``sample`` in batches up to ``most_rows``.

    Logs the reason of a model whose requests are run one at a time.
    """
    found = Independence(True) if isinstance(session, SingleRowSession) else declared(artifact, settings)
    found = found or _branching(artifact) or _shown(session, sample, most_rows, _tolerance(artifact, settings))
    if not found.independent:
        log.info("requests do not share runs model=%s reason=%r", artifact.manifest.name, found.reason)
    return found


def sizes_of(artifact: Artifact, session: Session, batching: Batching, found: Independence) -> tuple[int, ...]:
    """The batch sizes that the model may run: no larger than a config.pbtxt says, and 1 where rows run alone."""
    most = min(artifact.declaration.max_batch_size or batching.max_batch_size, batching.max_batch_size)
    if isinstance(session, SingleRowSession) or not found.independent:
        most = 1
    return (*(size for size in batching.batch_sizes if size < most), most)


def declared(artifact: Artifact, settings: Settings) -> Independence | None:
    """What settings, a config.pbtxt or the manifest say, in this order; None where none of them does."""
    batching = artifact.manifest.batching
    if settings.batching == "off":
        return Independence(False, "--batching off")
    if artifact.declaration.max_batch_size == 0:
        return Independence(False, f"{artifact.declaration.file} has max_batch_size: 0")
    if batching is not None and batching.independent is not None:
        return Independence(batching.independent, "" if batching.independent else batching.reason or "by the manifest")
    return None


def _branching(artifact: Artifact) -> Independence | None:
    """Not decidable for a graph that runs one part or another by the values of a whole batch; None for other graphs.

    A few rows need not take all ways.
    """
    path = artifact.model_path
    operator = branch_on_data(path) if path.suffix == ".onnx" and path.is_file() else ""
    if not operator:
        return None
    return Independence(False, f"not decidable: the operator {operator} decides by the values of the batch")


def _shown(session: Session, sample: Sequence[Array], most_rows: int, tolerance: float) -> Independence:
    """As :func:`_tried` with a full usual batch: small batches are cuts of larger requests, which must give the same
    answers. A model that refuses so many rows is tried with as many as it may run."""
    found = _tried(session, sample, max(most_rows, MOST_ROWS), tolerance)
    if found.refuses_rows and most_rows < MOST_ROWS:
        found = _tried(session, sample, max(most_rows, 2), tolerance)
    costs_ns = {rows: ns for rows, ns in found.costs_ns.items() if rows <= most_rows}
    return replace(found, costs_ns=costs_ns)


def _tried(session: Session, sample: Sequence[Array], most_rows: int, tolerance: float) -> Independence:
    """Whether the rows of a model are shown to be independent in runs of up to ``most_rows`` rows."""
    spec = session.spec
    if not spec.batchable:
        return Independence(False, WHOLE)
    rows = distinct(sample)
    found = UNSHOWN
    if rows:
        found = prove(session.run, spec, rows, most_rows=most_rows, tolerance=tolerance)
    if found.reason == CONSTANT:
        found = prove_synthetic(session.run, spec, most_rows=most_rows, tolerance=tolerance)
    return found


def _tolerance(artifact: Artifact, settings: Settings) -> float:
    """On GPUs the kernels of different batch sizes round differently, and some multiply in shorter formats (TF32)."""
    return SINGLE if device_of(artifact.manifest, settings) == CPU else HALF


def distinct(sample: Sequence[Array]) -> list[Array]:
    """Up to a few different rows of a sample; from a single row others are made, of the same values in other places.

    Empty where no other row can be made.
    """
    kept: list[int] = []
    for index in range(len(sample[0])):
        if len(kept) < ROWS and not any(_equal(sample, index, other) for other in kept):
            kept.append(index)
    rows = [array[kept] for array in sample]
    if len(kept) > 1:
        return rows
    turned = [np.concatenate([array, *(np.roll(array, shift, axis=-1) for shift in (1, 2))]) for array in rows]
    different = not all(_equal(turned, index, 0) for index in (1, 2))
    return turned if different else []


def _equal(rows: Sequence[Array], one: int, other: int) -> bool:
    return all(np.array_equal(array[one], array[other], equal_nan=array.dtype.kind == "f") for array in rows)
