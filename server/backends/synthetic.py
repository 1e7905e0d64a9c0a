"""Synthetic rows: plausible inputs for a model that has no samples, found by trying.

Floats are standard normal, with rows of different scale; 8- and 16-bit integers take all their values; wider integers
are 0 or 1, which every embedding and category has; masks are 1; texts are short and distinct.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import prod
from time import perf_counter_ns

import numpy as np

from ..errors import SlipwayError
from ..tensors import Array, ModelSpec, TensorSpec

Run = Callable[[Sequence[Array]], list[Array]]

SIZES = (8, 64, 1, 224, 640, 4_096, 16_384, 240_000)
"""Sizes of variable axes, tried in this order: what a model takes is found by asking it."""

MOST_VALUES = 2_000_000
"""Values of one input that are made up at most: larger sizes are tried only for inputs with few other axes."""

INTEGERS_BELOW = 2
"""Every embedding and category has the values 0 and 1."""

SCALES = (1.0, 0.1, 10.0, 3.0, 0.0, 0.3)
"""Scales of float rows in turn: rows that differ in scale show what depends on the largest value of a batch."""

LARGE, FEW_ROWS = 4_096, 2
"""Rows with axes from this size on are made two at a time: their values take longer to make than to compute."""

SEARCH_NS = 300_000_000
"""The search ends after this long, but not before two tries."""


def find_inputs(run: Run, spec: ModelSpec, rows: int, *, clock: Callable[[], int] = perf_counter_ns) -> list[Array]:
    """Inputs that the model takes: ``rows`` rows where its first axes can be a batch axis.

    Raises the model's last error when it refuses all inputs that were tried.
    """
    until_ns = clock() + SEARCH_NS
    refusal: SlipwayError | None = None
    for tries, inputs in enumerate(_candidates(spec, rows)):
        if tries > 1 and clock() > until_ns:
            break
        one = [array[:1] for array in inputs] if spec.batchable else inputs
        try:
            run(one)
        except SlipwayError as error:
            refusal = error
        else:
            return inputs
    assert refusal is not None
    raise refusal


def make_inputs(
    spec: ModelSpec, rows: int, size: int = SIZES[0], *, high: int = INTEGERS_BELOW, seed: int = 0
) -> list[Array]:
    """One set of inputs with ``size`` for every variable axis that is not the batch axis. Not tried with any model.

    ``high``: wide integers are below it; 1 makes zeros of all inputs.
    """
    random = np.random.default_rng(seed)
    return [_make(one, _shape(one, spec.batchable, rows, size), random, high) for one in spec.inputs]


def make_like(spec: ModelSpec, inputs: Sequence[Array], *, high: int, seed: int) -> list[Array]:
    """Other inputs of the same shapes. ``high`` as in :func:`make_inputs`."""
    random = np.random.default_rng(seed)
    return [_make(one, array.shape, random, high) for one, array in zip(spec.inputs, inputs, strict=True)]


def _candidates(spec: ModelSpec, rows: int) -> Iterator[list[Array]]:
    limited = any(one.dtype.numpy.kind != "f" for one in spec.inputs)  # zeros are in the range of every embedding
    variable = any(-1 in _shape(one, spec.batchable, rows, -1) for one in spec.inputs)
    for size in SIZES if variable else SIZES[:1]:
        if all(prod(_shape(one, spec.batchable, 1, size)) <= MOST_VALUES for one in spec.inputs):
            for high in (INTEGERS_BELOW, 1) if limited else (INTEGERS_BELOW,):
                yield make_inputs(spec, rows if size < LARGE else FEW_ROWS, size, high=high)


def _shape(one: TensorSpec, batchable: bool, rows: int, size: int) -> tuple[int, ...]:
    shape = tuple(size if axis == -1 else axis for axis in one.shape)
    return (rows, *shape[1:]) if batchable else shape


def _make(one: TensorSpec, shape: tuple[int, ...], random: np.random.Generator, high: int) -> Array:
    dtype = one.dtype.numpy
    if dtype.kind == "O":
        texts = np.empty(shape, object)
        texts[...] = ""
        if high > 1:
            texts.ravel()[:] = [str(number) for number in range(texts.size)]
        return texts
    if high == 1:
        return np.zeros(shape, dtype)
    if "mask" in one.name.lower():
        return np.ones(shape, dtype)
    if dtype.kind == "f":
        scales = np.resize(np.array(SCALES), shape[:1]).reshape(-1, *(1 for _ in shape[1:])) if shape else 1.0
        return np.asarray(random.standard_normal(shape) * scales, dtype, order="C")
    if dtype.kind == "b" or dtype.itemsize > 2:
        return np.asarray(random.integers(0, 2 if dtype.kind == "b" else high, shape), dtype, order="C")
    limits = np.iinfo(dtype)
    return np.asarray(random.integers(max(limits.min, -128), min(limits.max, 255) + 1, shape), dtype, order="C")
