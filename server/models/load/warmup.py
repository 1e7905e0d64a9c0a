"""Warm-up: every batch size and length is run before the first request, and its cost measured."""

from __future__ import annotations

import logging
import statistics
import zipfile
import zlib
from collections.abc import Mapping
from time import perf_counter_ns

import numpy as np

from ... import artifact as artifacts
from ...artifact import Artifact, Batching, CostPoint
from ...backends import Session
from ...backends.independence import ROWS
from ...backends.synthetic import find_inputs, make_inputs
from ...errors import BrokenArtifact, SlipwayError
from ...scheduling.padding import Padding
from ...tensors import Array, ModelSpec

log = logging.getLogger("slipway.models")

WARM_RUNS = 5
WARM_BUDGET_NS = 1_000_000_000
"""The sweep over batch sizes stops once it has taken this long, so that a slow model still starts."""

LONG_RUN_NS = WARM_BUDGET_NS // 10
"""A run that takes longer is measured once."""

LENGTHS_BUDGET_NS = 2_000_000_000
"""The sweep over lengths stops once it has taken this long."""

UNMEASURED_NS = 1_000_000
"""The cost that a model starts from when it refuses synthetic rows."""

UNREADABLE = (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile, zlib.error)
"""What numpy raises for a file that is no archive of plain arrays."""

Seeds = list[tuple[int, float]]
"""(rows, nanoseconds), for a cost table."""

UNKNOWN: Mapping[int, int] = {}


def warm_up(
    session: Session,
    artifact: Artifact,
    batching: Batching,
    sample: list[Array],
    known_ns: Mapping[int, int] = UNKNOWN,
    spent_ns: int = 0,
) -> tuple[int, Seeds]:
    """Run every batch size, so that no request pays for first-time allocation.

    ``sample``: rows to run it with. ``known_ns``: costs of runs that were done before, by rows; long ones are not
    repeated, and ``spent_ns`` of the time for the sweep was spent on them. Returns the largest batch size that the
    model takes, and (batch size, nanoseconds) for the cost table.
    Raises BrokenArtifact when the model cannot run its own samples.
    """
    sizes = batching.batch_sizes if session.spec.batchable else (1,)
    seeds: Seeds = []
    begun_ns = perf_counter_ns() - spent_ns
    for size in sizes:
        try:
            cost_ns = known_ns.get(size, 0)
            seeds.append((size, cost_ns if cost_ns > LONG_RUN_NS else _warm_size(session, sample, size)))
        except SlipwayError as error:
            if artifact.declared:
                raise BrokenArtifact(f"the model cannot run its own samples at batch size {size}: {error}") from error
            if seeds:
                most = seeds[-1][0]
                log.warning(
                    "batch size refused by the model rows=%d max_batch_size=%d error=%r", size, most, str(error)
                )
                return most, seeds
            log.warning("no warm-up: the model refuses synthetic rows error=%r; costs are learnt", str(error))
            break
        if perf_counter_ns() - begun_ns > WARM_BUDGET_NS:
            break
    return max(sizes), _with_declared(seeds, artifact.manifest.cost) or _unmeasured(max(sizes))


def _warm_size(session: Session, sample: list[Array], size: int) -> float:
    inputs = resized(session.spec, sample, size)
    session.run(inputs)
    return _measure(session, inputs)


def _unmeasured(max_batch_size: int) -> Seeds:
    """Equal costs for the smallest and the largest batch, so that batches are tried and their costs learnt: from one
    size alone the table would predict larger batches to be proportionally dearer, and none would be tried."""
    return [(size, UNMEASURED_NS) for size in sorted({1, max_batch_size})]


def _with_declared(seeds: Seeds, declared: tuple[CostPoint, ...]) -> Seeds:
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
    session: Session, artifact: Artifact, padding: Padding, max_batch_size: int, sample: list[Array]
) -> dict[int, Seeds]:
    """What one row and a full batch cost at every length that the manifest names, for the cost tables.

    Lengths beyond the time budget are estimated as proportional to the longest length that was measured.
    """
    declared = artifact.manifest.padding
    assert declared is not None
    costs: dict[int, Seeds] = {}
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


def time_row(session: Session, sample: list[Array]) -> int | None:
    """Nanoseconds of one row, the second time; None when the model refuses it."""
    inputs = resized(session.spec, sample, 1)
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
        if sum(taken) > LONG_RUN_NS:
            break
    return statistics.median(taken)


def resized(spec: ModelSpec, sample: list[Array], rows: int) -> list[Array]:
    """``rows`` rows out of a sample, repeated as needed; the sample itself for a model without a batch axis."""
    return [np.resize(array, (rows, *array.shape[1:])) for array in sample] if spec.batchable else sample


def sample_of(session: Session, artifact: Artifact) -> list[Array]:
    """Rows to measure with: the artifact's own samples, else synthetic rows that the model takes.

    A model that refuses all synthetic rows gets the usual ones, and refuses them again where they are run.
    Raises BrokenArtifact when the samples cannot be read.
    """
    stored = stored_samples(session.spec, artifact)
    if stored is not None:
        return stored
    try:
        return find_inputs(session.run, session.spec, ROWS)
    except SlipwayError:
        return make_inputs(session.spec, ROWS)


def stored_samples(spec: ModelSpec, artifact: Artifact) -> list[Array] | None:
    """The real inputs of an artifact; None where it has none. Raises BrokenArtifact when they cannot be read."""
    path = artifact.root / artifacts.SAMPLES
    if not artifact.declared or not path.is_file():
        return None
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            return [np.asarray(stored[f"input:{one.name}"], one.dtype.numpy, order="C") for one in spec.inputs]
    except KeyError as error:
        raise BrokenArtifact(f"{artifacts.SAMPLES} lacks an input: {error}") from error
    except UNREADABLE as error:
        raise BrokenArtifact(f"{artifacts.SAMPLES} cannot be read: {error}") from error
