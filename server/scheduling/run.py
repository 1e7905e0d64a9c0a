"""One run of a batch: its rows are assembled, the model computes, and a failed batch is halved and tried again."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from time import perf_counter_ns

import numpy as np

from ..errors import CLIENT_ERRORS, DeviceLost, ModelFailed, OutOfMemory, SlipwayError
from ..tensors import Array
from .batch import Batch, Slice
from .padding import Padding

log = logging.getLogger("slipway.executor")

RunModel = Callable[[tuple[Array, ...]], list[Array]]
Join = Callable[[Sequence[Sequence[Array]]], tuple[Array, ...]]
"""Joins the arrays of several requests where the model reads them."""

Failures = list[tuple[Slice, SlipwayError]]


def run(
    batch: Batch,
    model: RunModel,
    padding: Padding | None = None,
    clock: Callable[[], int] = perf_counter_ns,
    shared: bool = False,
    join: Join | None = None,
) -> Failures:
    """Run a batch and set its time stamps and outputs. Returns the slices that failed, which ``batch`` then lacks.
    Raises nothing.

    A failed batch is halved and each half tried again, so that one poisonous row fails alone. A single request for
    which the device has no memory is halved too. On a device that is lost nothing is tried again. ``shared``: the
    outputs will be joined with others. ``join``: joins requests instead of :func:`assemble`, without its copy.
    """
    slices = batch.slices
    try:
        batch.arrays = assemble(batch, padding) if join is None or len(slices) == 1 else join(parts_of(slices))
        batch.assembled_ns = clock()
        batch.outputs = _checked(model(batch.arrays), batch, shared)
    except BaseException as error:  # noqa: BLE001 - a model may raise anything, even SystemExit
        try:
            failures = _bisect(batch, model, padding, error, clock)
        except BaseException as second:  # noqa: BLE001 - such as outputs of the halves that do not fit together
            failures = _all_failed(batch, slices, second)
    else:
        failures = []
    batch.computed_ns = clock()
    batch.assembled_ns = batch.assembled_ns or batch.computed_ns
    return failures


def assemble(batch: Batch, padding: Padding | None = None) -> tuple[Array, ...]:
    """The input arrays of a batch. A request that runs alone is not copied."""
    slices = batch.slices
    request, start, stop = slices[0]
    if len(slices) == 1 and batch.length in (0, request.length):
        whole = start == 0 and stop == request.rows
        return request.arrays if whole else tuple(array[start:stop] for array in request.arrays)
    if padding is not None and any(request.length != batch.length for request, _, _ in slices):
        return padding.join(slices, batch.length)
    return tuple(
        np.concatenate([request.arrays[index][start:stop] for request, start, stop in slices])
        for index in range(len(request.arrays))
    )


def parts_of(slices: Sequence[Slice]) -> list[tuple[Array, ...]]:
    """The arrays of each slice, not copied."""
    return [
        request.arrays if start == 0 and stop == request.rows else tuple(array[start:stop] for array in request.arrays)
        for request, start, stop in slices
    ]


def _checked(outputs: list[Array], batch: Batch, shared: bool) -> list[Array]:
    """The outputs, checked: where rows are cut or joined, each input row must have one output row."""
    request, start, stop = batch.slices[0]
    whole = len(batch.slices) == 1 and stop - start == request.rows
    if (shared or not whole) and any(array.shape[:1] != (batch.rows,) for array in outputs):
        raise ModelFailed("the model returned another number of rows than it was given")
    return outputs


def _all_failed(batch: Batch, slices: list[Slice], error: BaseException) -> Failures:
    """Fail all slices of a batch with one error."""
    log.error("a batch failed rows=%d", batch.rows, exc_info=error)
    batch.bucket, batch.slices, batch.outputs = None, [], []
    failure = ModelFailed("the model failed on this input; the server's log has the details")
    return [(one, failure) for one in slices]


def _in_halves(batch: Batch, model: RunModel, padding: Padding | None, clock: Callable[[], int]) -> Failures:
    """Run the rows of a single request in two parts, because the device has no memory for all of them."""
    whole = batch.slices[0]
    request, start, stop = whole
    middle = start + (stop - start) // 2
    log.warning("a request does not fit into memory; trying its halves rows=%d", stop - start)
    outputs = []
    for part in ((request, start, middle), (request, middle, stop)):
        half = Batch(None, [part], part[2] - part[1], batch.picked_ns, batch.length)
        failures = run(half, model, padding, clock, shared=True)
        if failures:
            batch.slices, batch.outputs = [], []
            return [(whole, failures[0][1])]
        outputs.append(half.outputs)
    batch.outputs = [np.concatenate(parts) for parts in zip(*outputs, strict=True)]
    return []


def _bisect(
    batch: Batch, model: RunModel, padding: Padding | None, error: BaseException, clock: Callable[[], int]
) -> Failures:
    slices = batch.slices
    if isinstance(error, OutOfMemory):
        batch.out_of_memory = True
    else:
        batch.bucket = None  # the time of a failed run says nothing about the cost of a run
    if isinstance(error, DeviceLost):
        log.critical("the device is lost rows=%d error=%s", batch.rows, error, exc_info=error)
        batch.slices = []
        return [(one, error) for one in slices]
    if len(slices) == 1 and batch.out_of_memory and batch.rows > 1:
        return _in_halves(batch, model, padding, clock)
    if len(slices) == 1:
        batch.slices = []
        if not isinstance(error, SlipwayError):
            log.error("the model failed rows=%d", batch.rows, exc_info=error)
            error = ModelFailed("the model failed on this input; the server's log has the details")
        elif isinstance(error, CLIENT_ERRORS):
            log.info("the model refuses an input code=%s error=%s", error.code, error)
        elif error.__cause__ is not None:
            log.error("the model failed code=%s error=%s cause=%s", error.code, error, error.__cause__)
        return [(slices[0], error)]
    level = logging.INFO if isinstance(error, CLIENT_ERRORS) else logging.WARNING
    log.log(level, "a batch failed; trying its halves rows=%d error=%s", batch.rows, error)
    middle = len(slices) // 2
    halves = []
    failures: Failures = []
    for part in (slices[:middle], slices[middle:]):
        half = Batch(None, part, sum(stop - start for _, start, stop in part), batch.picked_ns, batch.length)
        failures += run(half, model, padding, clock, shared=True)
        halves.append(half)
    batch.slices = [one for half in halves for one in half.slices]
    computed = [half.outputs for half in halves if half.slices]
    batch.outputs = (
        [np.concatenate(parts) for parts in zip(*computed, strict=True)]
        if len(computed) > 1
        else (computed[0] if computed else [])
    )
    return failures
