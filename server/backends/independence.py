"""Independence of rows: whether the answer to a row is the same alone, among others, at another place, and cut.

Only then may rows of several requests share a run, and may a request be cut. A recurrent network over its first axis, a
softmax over a batch or a graph network fails this; so does dynamic quantization with one scale for a whole batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import perf_counter_ns

import numpy as np

from ..errors import SlipwayError
from ..tensors import Array, ModelSpec
from .synthetic import Run, find_inputs, make_like

ROWS, MIN_ROWS = 6, 2
"""Distinct rows of a proof, and of that of a slow model."""

MOST_ROWS = 32
"""Rows of a full batch, where the caller does not say."""

SLOW_NS = 2_000_000
"""A model whose row takes longer is shown with two rows alone and both together, and further as time allows. Quicker
ones pass all checks, whatever the clock says: some sixty rows."""

BUDGET_NS = 60_000_000
"""Time for the further runs of a slow model: none is begun that would take longer than what is left."""

HALF, SINGLE = 1e-2, 1e-3
"""Largest difference as a share of a row's largest value, for 16-bit floats and for longer ones: kernels for one row
and for several add up in another order."""

HALF_BYTES = 2
ABSOLUTE = 1e-6
CONSTANT = "not decidable: all rows have the same answer"
REFUSES = "not decidable: the model refuses rows that it takes alone"
OTHERS = ((100.0, 8), (1.0, 32), (1_000.0, 100), (0.01, 1_000), (10_000.0, 10_000))
"""(factor of floats, bound of integers) of rows that are tried where the usual ones have all the same answer."""

HOSTILE, HOSTILE_ROWS = 1_000.0, 4
"""How much larger the values of hostile neighbours are, and how many of these there are: above, below, zeros, and the
largest values of the format."""


@dataclass(frozen=True, slots=True)
class Independence:
    """Whether rows are independent, and why not.

    ``costs_ns``: of the last run at each number of rows. ``one_each``: no run gave another number of rows than it got.
    """

    independent: bool
    reason: str = ""
    costs_ns: dict[int, int] = field(default_factory=dict)
    one_each: bool = True

    @property
    def refuses_rows(self) -> bool:
        """Whether the model refused several rows in one run."""
        return self.reason.startswith(REFUSES)


class Dependent(Exception):
    """The rows are not independent, or that could not be decided; its text is the reason. Stays in this module."""


class OtherRows(Dependent):
    """A run gave another number of rows than it got."""


class _Proof:
    """The runs of one proof, with their costs. ``rows``: the distinct rows, batch axis first."""

    def __init__(
        self, run: Run, spec: ModelSpec, rows: Sequence[Array], tolerance: float, clock: Callable[[], int]
    ) -> None:
        self.costs_ns: dict[int, int] = {}
        self.rows = rows
        self.alone: list[list[Array]] = []
        self._run = run
        self._spec = spec
        self._tolerance = tolerance
        self._clock = clock

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        begun_ns = self._clock()
        with np.errstate(over="ignore", invalid="ignore"):  # hostile rows overflow where a session computes in numpy
            outputs = self._run(inputs)
        self.costs_ns[len(inputs[0])] = self._clock() - begun_ns
        for spec, array in zip(self._spec.outputs, outputs, strict=True):
            if array.shape[:1] != (len(inputs[0]),):
                raise OtherRows(
                    f"output {spec.name!r} has shape {list(array.shape)} for {len(inputs[0])} rows of input"
                )
        return outputs

    def predict_ns(self, rows: int) -> int:
        """What a run takes at most, by the costs of those before."""
        return max(ns * rows // size for size, ns in self.costs_ns.items() if size <= rows)

    def run_alone(self, index: int) -> None:
        """Run the next row alone; later runs are compared with its answer."""
        self.alone.append(self.run([array[index : index + 1] for array in self.rows]))

    def compare(self, order: Sequence[int], what: str, hostile: int = 0) -> None:
        """Run rows together, in this order, and compare each with its answer alone. ``hostile``: so many rows of
        :func:`_hostile` come first."""
        inputs = [array[list(order)] for array in self.rows]
        if hostile:
            inputs = [np.concatenate([_hostile(array[:1])[:hostile], array]) for array in inputs]
        outputs = self.run(inputs)
        for place, index in enumerate(order, start=hostile):
            self._compare_row(index, [array[place : place + 1] for array in outputs], what)

    def _compare_row(self, index: int, answer: Sequence[Array], what: str) -> None:
        for spec, alone, here in zip(self._spec.outputs, self.alone[index], answer, strict=True):
            if alone.shape != here.shape:
                raise Dependent(
                    f"output {spec.name!r} has shape {list(alone.shape[1:])} for a row alone and "
                    f"{list(here.shape[1:])} {what}"
                )
            if not same(alone, here, HALF if spec.dtype.itemsize == HALF_BYTES else self._tolerance):
                raise Dependent(f"output {spec.name!r} of a row alone differs from its answer {what}")


def prove(
    run: Run,
    spec: ModelSpec,
    rows: Sequence[Array],
    *,
    most_rows: int = MOST_ROWS,
    tolerance: float = SINGLE,
    clock: Callable[[], int] = perf_counter_ns,
) -> Independence:
    """Compare distinct rows alone with the same rows together, in another order, cut and beside a hostile row.

    ``rows``: inputs in the order of ``spec.inputs``, two rows or more. ``most_rows``: the most that one run takes.
    ``tolerance``: for floats of more than 16 bits.
    """
    proof = _Proof(run, spec, rows, tolerance, clock)
    try:
        _prove(proof, min(len(rows[0]), most_rows, ROWS), most_rows, clock)
    except Dependent as reason:
        return Independence(False, str(reason), proof.costs_ns, not isinstance(reason, OtherRows))
    except SlipwayError as error:
        return Independence(False, f"{REFUSES}: {error}", proof.costs_ns)
    return Independence(True, "", proof.costs_ns)


def prove_synthetic(
    run: Run,
    spec: ModelSpec,
    *,
    most_rows: int = MOST_ROWS,
    tolerance: float = SINGLE,
    clock: Callable[[], int] = perf_counter_ns,
) -> Independence:
    """As :func:`prove`, with synthetic rows. Not decidable where the model refuses them, or answers all alike."""
    try:
        rows = find_inputs(run, spec, ROWS, clock=clock)
    except SlipwayError as error:
        return Independence(False, f"not decidable: the model refuses synthetic rows: {error}")
    found = prove(run, spec, rows, most_rows=most_rows, tolerance=tolerance, clock=clock)
    if found.reason == CONSTANT:
        rows = _telling_rows(run, spec, rows, clock)
        if rows:
            return prove(run, spec, rows, most_rows=most_rows, tolerance=tolerance, clock=clock)
    return found


def _telling_rows(run: Run, spec: ModelSpec, rows: Sequence[Array], clock: Callable[[], int]) -> list[Array]:
    """Rows with different answers, where the first ones had the same: of other scales, as thresholds may lie anywhere.

    Empty where none is found in time.
    """
    until_ns = clock() + BUDGET_NS
    first = run([array[:1] for array in rows])
    for seed, (scale, high) in enumerate(OTHERS, start=1):
        made = [_scaled(array, scale) for array in make_like(spec, rows, high=high, seed=seed)]
        for index in range(len(made[0])):
            if clock() > until_ns:
                return []
            row = [array[index : index + 1] for array in made]
            try:
                answer = run(row)
            except SlipwayError:
                continue
            if not _alike([first, answer]):
                return [np.concatenate([old[:1], new]) for old, new in zip(rows, row, strict=True)]
    return []


def _prove(proof: _Proof, count: int, most_rows: int, clock: Callable[[], int]) -> None:
    begun_ns = clock()
    proof.run_alone(0)
    first_ns = proof.costs_ns[1]
    if count < MIN_ROWS:
        raise Dependent("not decidable: there is only one row")
    proof.run_alone(1)
    slow = min(first_ns, proof.costs_ns[1]) > SLOW_NS  # the lower one: a thread may be kept waiting
    count = MIN_ROWS if slow else count
    for index in range(MIN_ROWS, count):
        proof.run_alone(index)
    try:
        proof.compare(range(count - 1, -1, -1), "among other rows")
    except SlipwayError:
        if count == MIN_ROWS:
            raise
        count = most_rows = MIN_ROWS  # some models take few rows at a time
        proof.compare((1, 0), "among other rows")
    if _alike(proof.alone):
        raise Dependent(CONSTANT)
    for rows, what, hostile in _checks(count, most_rows):
        if slow and clock() + proof.predict_ns(len(rows) + hostile) > begun_ns + BUDGET_NS:
            return
        proof.compare(rows, what, hostile)


def _checks(count: int, most_rows: int) -> list[tuple[list[int], str, int]]:
    """(order of the rows, what it is, how many hostile rows come first), the most telling ones first."""
    order = list(range(count))
    hostile = min(HOSTILE_ROWS, most_rows - 1)
    return [
        (order[: most_rows - hostile], "beside rows of huge values and of zeros", hostile),
        (order, "at another place", 0),
        ([order[-1], 0], "among fewer rows", 0),
        ([0, 0], "beside itself", 0),
        ([index % count for index in range(most_rows)], "in a full batch", 0),
    ]


def same(alone: Array, here: Array, tolerance: float) -> bool:
    """Whether two answers are equal: floats within a share of the largest value, other types exactly."""
    if alone.dtype.kind != "f":
        return bool(np.array_equal(alone, here))
    one, other = alone.astype(np.float64), here.astype(np.float64)
    finite = one[np.isfinite(one)]
    largest = float(np.abs(finite).max(initial=0.0))
    allowed = tolerance * largest + ABSOLUTE
    with np.errstate(invalid="ignore"):
        close = (np.abs(one - other) <= allowed) | (one == other) | (np.isnan(one) & np.isnan(other))
    return bool(close.all())


def _alike(answers: Sequence[Sequence[Array]]) -> bool:
    """Whether no output tells two rows apart, or all of it is NaN."""
    first = answers[0]
    return all(
        all(np.array_equal(a, b, equal_nan=a.dtype.kind == "f") for a, b in zip(first, other, strict=True))
        for other in answers[1:]
    )


def _hostile(row: Array) -> Array:
    """Four rows made of one: huge values, the same below zero, zeros, and the largest values of the format, whose sum
    is infinite. Integers and texts stay as they are."""
    if row.dtype.kind != "f":
        return np.concatenate([row] * HOSTILE_ROWS)
    largest = np.full_like(row, np.finfo(row.dtype).max)
    with np.errstate(over="ignore"):
        huge: Array = (np.abs(row) + 1) * row.dtype.type(HOSTILE)
    huge = np.where(np.isfinite(huge), huge, largest)
    return np.concatenate([huge, -huge, np.zeros_like(row), largest])


def _scaled(array: Array, scale: float) -> Array:
    return np.asarray(array * array.dtype.type(scale)) if array.dtype.kind == "f" else array
