"""Warm-up: every batch size and length is run before the first request, and its cost measured."""

from __future__ import annotations

import logging
import statistics
import zipfile
import zlib
from time import perf_counter_ns

import numpy as np

from ... import artifact as artifacts
from ...artifact import Artifact, Batching, CostPoint
from ...backends import Session
from ...errors import BrokenArtifact, SlipwayError
from ...scheduling.padding import Padding
from ...tensors import Array, ModelSpec

log = logging.getLogger("slipway.models")

WARM_RUNS = 5
WARM_BUDGET_NS = 1_000_000_000
"""The sweep over batch sizes stops once it has taken this long, so that a slow model still starts."""

LENGTHS_BUDGET_NS = 2_000_000_000
"""The sweep over lengths stops once it has taken this long."""

UNMEASURED_NS = 1_000_000
"""The cost that a model starts from when it refuses synthetic rows."""

UNREADABLE = (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile, zlib.error)
"""What numpy raises for a file that is no archive of plain arrays."""

Seeds = list[tuple[int, float]]
"""(rows, nanoseconds), for a cost table."""


def warm_up(
    session: Session, artifact: Artifact, batching: Batching, given: list[Array] | None = None
) -> tuple[int, Seeds, bool]:
    """Run every batch size, so that no request pays for first-time allocation. ``given``: rows to run it with.

    Returns the largest batch size that the model can really take, (batch size, nanoseconds) for the cost table, and
    whether the model gives one row of output for each row of input.
    Raises BrokenArtifact when the model cannot run its own samples.
    """
    sample = given or samples(session.spec, artifact)
    sizes = batching.batch_sizes if session.spec.batchable else (1,)
    seeds: list[tuple[int, float]] = []
    begun_ns = perf_counter_ns()
    for size in sizes:
        inputs = _resized(session.spec, sample, size)
        try:
            outputs = session.run(inputs)
        except SlipwayError as error:
            if artifact.declared:
                raise BrokenArtifact(f"the model cannot run its own samples at batch size {size}: {error}") from error
            if seeds:
                log.warning(
                    "batch size refused by the model rows=%d max_batch_size=%d error=%r", size, seeds[-1][0], str(error)
                )
                return seeds[-1][0], seeds, True
            log.warning(
                "no warm-up: the model refuses synthetic rows; costs are learnt from requests error=%r", str(error)
            )
            break
        if session.spec.batchable and any(array.shape[:1] != (size,) for array in outputs):
            log.warning("requests do not share a run: outputs do not have one row for each row of input rows=%d", size)
            return 1, [one for one in seeds if one[0] == 1] or [(1, UNMEASURED_NS)], False
        seeds.append((size, _measure(session, inputs)))
        if perf_counter_ns() - begun_ns > WARM_BUDGET_NS:
            break
    return max(sizes), _with_declared(seeds, artifact.manifest.cost) or _unmeasured(max(sizes)), True


def _unmeasured(max_batch_size: int) -> Seeds:
    """Equal costs for the smallest and the largest batch, so that batches are tried and their costs learnt: from one
    size alone the table would predict larger batches to be proportionally dearer, and none would be tried."""
    return [(size, UNMEASURED_NS) for size in sorted({1, max_batch_size})]


def _with_declared(seeds: list[tuple[int, float]], declared: tuple[CostPoint, ...]) -> list[tuple[int, float]]:
    """Measured costs, and for sizes beyond them the manifest's, scaled by how this machine compares to its own.

    The sweep of a slow model ends early; without the manifest its larger batches would never look worth while.
    """
    known = {point.batch_size: point.p50_us * 1_000 for point in declared if point.p50_us > 0}
    common = [size for size, _ in seeds if size in known]
    if not common:
        return seeds
    scale = dict(seeds)[common[-1]] / known[common[-1]]
    return [*seeds, *((size, ns * scale) for size, ns in sorted(known.items()) if size > seeds[-1][0])]


def warm_up_lengths(
    session: Session, artifact: Artifact, padding: Padding, max_batch_size: int, given: list[Array] | None = None
) -> dict[int, list[tuple[int, float]]]:
    """What one row and a full batch cost at every length that the manifest names, for the cost tables.

    Lengths beyond the time budget are estimated as proportional to the longest length that was measured.
    """
    declared = artifact.manifest.padding
    assert declared is not None
    sample = given or samples(session.spec, artifact)
    costs: dict[int, list[tuple[int, float]]] = {}
    measured = 0
    begun_ns = perf_counter_ns()
    for length in declared.sizes:
        if measured and perf_counter_ns() - begun_ns > LENGTHS_BUDGET_NS:
            costs[length] = [(rows, ns * length / measured) for rows, ns in costs[measured]]
            continue
        costs[length] = []
        for rows in sorted({1, max_batch_size}):
            inputs = [np.resize(array, (rows, *array.shape[1:])) for array in padding.resized(sample, length)]
            costs[length].append((rows, _measure(session, inputs)))
        measured = length
    return costs


def time_row(session: Session, artifact: Artifact) -> int | None:
    """Nanoseconds of one row, the second time; None when the model refuses synthetic rows."""
    inputs = synthetic_rows(session.spec, artifact, 1)
    try:
        session.run(inputs)
        begun_ns = perf_counter_ns()
        session.run(inputs)
    except SlipwayError:
        return None
    return perf_counter_ns() - begun_ns


def _measure(session: Session, inputs: list[Array]) -> float:
    """Median nanoseconds of a few runs; one run is enough for a model that is slow."""
    taken = []
    for _ in range(WARM_RUNS):
        begun_ns = perf_counter_ns()
        session.run(inputs)
        taken.append(perf_counter_ns() - begun_ns)
        if sum(taken) > WARM_BUDGET_NS / 10:
            break
    return statistics.median(taken)


def synthetic_rows(spec: ModelSpec, artifact: Artifact, rows: int) -> list[Array]:
    """``rows`` rows to measure with, from the artifact's samples if it has any.

    Raises BrokenArtifact when the samples cannot be read."""
    return _resized(spec, samples(spec, artifact), rows)


def _resized(spec: ModelSpec, sample: list[Array], rows: int) -> list[Array]:
    return [np.resize(array, (rows, *array.shape[1:])) for array in sample] if spec.batchable else sample


def samples(spec: ModelSpec, artifact: Artifact) -> list[Array]:
    """Real inputs where the artifact has some; zeros, and eight of everything variable, where it has not."""
    path = artifact.root / artifacts.SAMPLES
    if artifact.declared and path.is_file():
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
                return [np.asarray(stored[f"input:{one.name}"], one.dtype.numpy, order="C") for one in spec.inputs]
        except KeyError as error:
            raise BrokenArtifact(f"{artifacts.SAMPLES} lacks an input: {error}") from error
        except UNREADABLE as error:
            raise BrokenArtifact(f"{artifacts.SAMPLES} cannot be read: {error}") from error
    samples = []
    for one in spec.inputs:
        shape = tuple(8 if size == -1 else size for size in one.shape)
        if spec.batchable:
            shape = (1, *shape[1:])
        samples.append(np.full(shape, "", object) if one.dtype.itemsize == 0 else np.zeros(shape, one.dtype.numpy))
    return samples
