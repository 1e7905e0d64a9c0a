"""Warm-up: every batch size and length is run before the first request, and its cost measured."""

from __future__ import annotations

import logging
import zipfile
import zlib
from collections.abc import Mapping
from time import perf_counter_ns
from typing import TypeVar

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

WARM_RUNS, MOST_RUNS = 5, 50
"""Least and most runs of a size that is not slow."""

WARM_NS = 10_000_000
"""Least time over which the runs of quick sizes are spread: another process holds a core for a few milliseconds."""

WARM_BUDGET_NS = 1_000_000_000
"""Once the sweep over batch sizes has taken this long it runs no more, so that a slow model still starts. Larger sizes
count where they are known already."""

LONG_RUN_NS = WARM_BUDGET_NS // 10
"""A size is not run again when its runs would have taken longer."""

LENGTHS_BUDGET_NS = 2_000_000_000
"""The sweep over lengths stops once it has taken this long."""

UNMEASURED_NS = 1_000_000
"""The cost that a model starts from when it refuses synthetic rows."""

UNREADABLE = (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile, zlib.error)
"""What numpy raises for a file that is no archive of plain arrays."""

Seeds = list[tuple[int, float]]
"""(rows, nanoseconds), for a cost table."""

UNKNOWN: Mapping[int, int] = {}

Key = TypeVar("Key")


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
    largest = max(sizes)
    costs_ns: dict[int, float] = {}
    again: dict[int, list[Array]] = {}
    begun_ns = perf_counter_ns() - spent_ns
    for size in sizes:
        is_over = bool(costs_ns) and perf_counter_ns() - begun_ns > WARM_BUDGET_NS
        if is_over and size not in known_ns:
            continue
        try:
            cost_ns = known_ns.get(size, 0)
            if cost_ns <= LONG_RUN_NS and not is_over:
                inputs = resized(session.spec, sample, size)
                session.run(inputs)
                cost_ns = _timed(session, inputs)
                again[size] = inputs
            costs_ns[size] = cost_ns
        except SlipwayError as error:
            if artifact.declared:
                raise BrokenArtifact(f"the model cannot run its own samples at batch size {size}: {error}") from error
            if costs_ns:
                largest = max(costs_ns)
                log.warning(
                    "batch size refused by the model rows=%d max_batch_size=%d error=%r", size, largest, str(error)
                )
            else:
                log.warning("no warm-up: the model refuses synthetic rows error=%r; costs are learnt", str(error))
            break
    _repeat(session, again, costs_ns, begun_ns + WARM_BUDGET_NS)
    return largest, _with_declared(list(costs_ns.items()), artifact.manifest.cost) or _unmeasured(largest)


def _repeat(session: Session, inputs: Mapping[Key, list[Array]], costs_ns: dict[Key, float], until_ns: int) -> None:
    """Run all of these again and again, and keep the fastest run of each in ``costs_ns``.

    Whatever else the machine does only adds to a run. The sizes take turns, so that it does not meet the runs of some.
    """
    begun_ns = now_ns = perf_counter_ns()
    for turn in range(1, MOST_RUNS):
        if turn >= WARM_RUNS and now_ns - begun_ns > WARM_NS:
            return
        for key, arrays in inputs.items():
            if turn * costs_ns[key] <= LONG_RUN_NS and now_ns < until_ns:
                costs_ns[key] = min(costs_ns[key], _timed(session, arrays))
                now_ns = perf_counter_ns()


def _timed(session: Session, inputs: list[Array]) -> int:
    """Nanoseconds of one run."""
    begun_ns = perf_counter_ns()
    session.run(inputs)
    return perf_counter_ns() - begun_ns


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
    costs_ns: dict[tuple[int, int], float] = {}
    again: dict[tuple[int, int], list[Array]] = {}
    measured = 0
    begun_ns = perf_counter_ns()
    for length in declared.sizes:
        if measured and perf_counter_ns() - begun_ns > LENGTHS_BUDGET_NS:
            break
        for rows in sorted({1, max_batch_size}):
            inputs = [np.resize(array, (rows, *array.shape[1:])) for array in padding.resized(sample, length)]
            costs_ns[length, rows] = _timed(session, inputs)
            if costs_ns[length, rows] <= LONG_RUN_NS:  # the first run of a quick one does what happens only once
                costs_ns[length, rows] = _timed(session, inputs)
            again[length, rows] = inputs
        measured = length
    _repeat(session, again, costs_ns, begun_ns + LENGTHS_BUDGET_NS)
    return {
        length: [
            (rows, costs_ns[min(length, measured), rows] * max(length / measured, 1.0))
            for rows in sorted({1, max_batch_size})
        ]
        for length in declared.sizes
    }


def time_row(session: Session, sample: list[Array]) -> float | None:
    """Nanoseconds of one row, without the first time; None when the model refuses it."""
    inputs = resized(session.spec, sample, 1)
    try:
        session.run(inputs)
        costs_ns: dict[int, float] = {1: _timed(session, inputs)}
        _repeat(session, {1: inputs}, costs_ns, perf_counter_ns() + WARM_BUDGET_NS)
    except SlipwayError:
        return None
    return costs_ns[1]


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
