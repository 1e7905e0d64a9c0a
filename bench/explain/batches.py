"""Batches: the runs of the model, found in the rows of their requests, and the law of their time."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .stages import TERMS, Account

# Two runs of one size may have equal stage times in all digits of the header, but not within this time.
SAME_RUN_NS = 50_000_000
MIN_RUNS_PER_SIZE = 5
MIN_SIZES = 2
MAX_STEPS = 3
MIN_STEP_SHARE = 0.10
MIN_STEP_SIGMAS = 4.0
MIN_R2, MIN_R2_OF_CLEAR = 0.25, 0.02
CLEAR_SIGMAS = 5.0

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Runs:
    """Runs of the model, each [m]: ``rows`` computed together, ``compute_ns``, and ``requests`` of this load in it."""

    rows: Integers
    compute_ns: Integers
    requests: Integers


@dataclass(frozen=True, slots=True)
class SizeCost:
    """The time of the runs of one size. ``cv``: standard deviation over mean."""

    rows: int
    runs: int
    requests: int
    mean_ms: float
    cv: float


@dataclass(frozen=True, slots=True)
class Step:
    """A jump of ``ms`` for runs of more than ``above_rows`` rows: a padding bucket, or a cache that is too small."""

    above_rows: int
    ms: float


@dataclass(frozen=True, slots=True)
class BatchLaw:
    """S(b) = ``fixed_ms`` + ``per_row_ms`` b + the ``steps`` below b: the time of a run of b rows.

    Fields with ``error`` are standard errors. ``residual_cv``: scatter of single runs around the law, as a share of it.
    ``r2``: weighted, over single runs. ``fixed_share``: fixed / (fixed + per row). Near 1 batching is almost free, near
    0 it only adds waiting. ``smallest`` and ``largest``: the range of sizes in which the law holds.
    """

    fixed_ms: float
    fixed_error_ms: float
    per_row_ms: float
    per_row_error_ms: float
    steps: tuple[Step, ...]
    residual_cv: float
    r2: float
    fixed_share: float
    smallest: int
    largest: int

    def ms(self, rows: float) -> float:
        """The time of a run of ``rows`` rows."""
        return self.fixed_ms + self.per_row_ms * rows + sum(step.ms for step in self.steps if rows > step.above_rows)

    def capacity_per_s(self, instances: int = 1) -> float:
        """Rows per second of instances that always run the largest batch of this load."""
        return instances * self.largest / self.ms(self.largest) * 1e3


def reconstruct(account: Account) -> Runs:
    """The runs behind the requests, found by the size and the stage times that the requests of one run share.

    Responses carry no batch id. A run holds at most as many requests as rows, and its responses leave together.
    """
    order, first = group(account)
    compute = account.terms_ns[order, TERMS.index("compute")]
    return Runs(account.batch[order][first], compute[first], np.diff(np.append(first, len(order))))


def group(account: Account) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The requests run after run (indices of the account), and the places among them where a run begins."""
    known = np.flatnonzero(account.batch > 0)
    rows = account.batch[known]
    assemble, compute = (account.terms_ns[known, TERMS.index(name)] for name in ("assemble", "compute"))
    ended = (account.due_ns + account.total_ns)[known]
    # One key sorts faster than three. Requests of one run stay in the order of the schedule, and so of their end.
    order = np.argsort(compute * 1_000_003 + assemble * 1_009 + rows, kind="stable")
    rows, assemble, compute, ended = rows[order], assemble[order], compute[order], ended[order]
    new = np.ones(len(rows), dtype=bool)
    same = (np.diff(rows) == 0) & (np.diff(assemble) == 0) & (np.diff(compute) == 0)
    new[1:] = ~(same & (np.abs(np.diff(ended)) <= SAME_RUN_NS))
    starts = np.flatnonzero(new)
    place = np.arange(len(rows)) - np.repeat(starts, np.diff(np.append(starts, len(rows))))
    return known[order], np.flatnonzero(new | (place % np.maximum(rows, 1) == 0))


def costs(runs: Runs) -> tuple[SizeCost, ...]:
    """The time of the runs of each size, ascending."""
    sizes = _by_size(runs)
    requests = np.bincount(runs.rows, weights=runs.requests) if len(runs.rows) else np.empty(0)
    found = []
    table = np.stack([sizes.rows, sizes.runs, sizes.mean_ms, sizes.squares_ms2], axis=1)
    for size, count, mean, squares in table.tolist():
        deviation = math.sqrt(squares / (count - 1)) if count > 1 else 0.0
        cv = deviation / mean if mean > 0 else 0.0
        found.append(SizeCost(int(size), int(count), int(requests[int(size)]), mean, cv))
    return tuple(found)


def fit(runs: Runs) -> BatchLaw | None:
    """The law by weighted least squares; None unless two sizes have five runs each, and for a law that the runs do not
    follow: one whose rows cost nothing, or that explains next to nothing of the spread.

    Service times scatter in proportion to their mean, so that the weight of a run is the inverse square of the expected
    time of its size. Steps are added one by one, while a step is significant at four standard errors and adds a tenth
    of the time.
    """
    sizes = _by_size(runs, MIN_RUNS_PER_SIZE)
    if len(sizes.rows) < MIN_SIZES or (sizes.mean_ms <= 0).any():
        return None
    above: tuple[int, ...] = ()
    while len(above) < MAX_STEPS:
        added = _best_step(sizes, above)
        if added is None:
            break
        above = (*above, added)
    found = _law(sizes, tuple(sorted(above)))
    return found if _follows(found) else None


def _follows(law: BatchLaw) -> bool:
    """Whether the runs follow the law. Pauses spread single runs widely around a slope that is clear nevertheless."""
    if law.per_row_ms <= 0:
        return False
    clear = law.per_row_ms >= CLEAR_SIGMAS * law.per_row_error_ms
    return law.r2 >= (MIN_R2_OF_CLEAR if clear else MIN_R2)


@dataclass(frozen=True, slots=True, eq=False)
class _Sizes:
    """The runs by size [k]: their number, their mean, and the sum of their squared deviations from it.

    Weights depend on the size alone, so that a fit of the means equals a fit of the single runs.
    """

    rows: Floats
    runs: Floats
    mean_ms: Floats
    squares_ms2: Floats


@dataclass(frozen=True, slots=True, eq=False)
class _Solution:
    """Coefficients (fixed, per row, one per step), their standard errors; by size the expected ms and the weight."""

    values: Floats
    errors: Floats
    expected_ms: Floats
    weights: Floats


def _by_size(runs: Runs, at_least: int = 1) -> _Sizes:
    rows, of, counts = np.unique(runs.rows, return_inverse=True, return_counts=True)
    times_ms = runs.compute_ns / 1e6
    means = np.bincount(of, weights=times_ms, minlength=len(rows)) / np.maximum(counts, 1)
    squares = np.bincount(of, weights=(times_ms - means[of]) ** 2, minlength=len(rows)).astype(np.float64)
    kept = counts >= at_least
    return _Sizes(rows[kept].astype(np.float64), counts[kept].astype(np.float64), means[kept], squares[kept])


def _law(sizes: _Sizes, above: tuple[int, ...]) -> BatchLaw:
    solved = _solve(sizes, above)
    fixed, per_row = float(solved.values[0]), float(solved.values[1])
    around = sizes.squares_ms2 + sizes.runs * (sizes.mean_ms - solved.expected_ms) ** 2
    centre = float(np.average(sizes.mean_ms, weights=sizes.runs * solved.weights))
    spread = float((solved.weights * (sizes.squares_ms2 + sizes.runs * (sizes.mean_ms - centre) ** 2)).sum())
    whole = fixed + per_row
    return BatchLaw(
        fixed_ms=fixed,
        fixed_error_ms=float(solved.errors[0]),
        per_row_ms=per_row,
        per_row_error_ms=float(solved.errors[1]),
        steps=tuple(Step(at, float(ms)) for at, ms in zip(above, solved.values[2:], strict=True)),
        residual_cv=math.sqrt(float((around / solved.expected_ms**2).sum() / sizes.runs.sum())),
        r2=1 - float((solved.weights * around).sum()) / spread if spread > 0 else 0.0,
        fixed_share=min(max(fixed / whole, 0.0), 1.0) if whole > 0 else 0.0,
        smallest=int(sizes.rows.min()),
        largest=int(sizes.rows.max()),
    )


def _solve(sizes: _Sizes, above: tuple[int, ...]) -> _Solution:
    """Least squares, weighted again with the expected times of the first fit."""
    steps = ((sizes.rows > at).astype(np.float64) for at in above)
    design = np.column_stack([np.ones_like(sizes.rows), sizes.rows, *steps])
    expected: Floats = sizes.mean_ms
    for _ in range(2):
        weights = expected**-2.0
        of_runs = sizes.runs * weights
        inverse = np.linalg.pinv(design.T @ (design * of_runs[:, None]))
        values = inverse @ (design.T @ (of_runs * sizes.mean_ms))
        # A line may pass below zero where runs are few, but a weight must be positive.
        expected = np.maximum(design @ values, 0.1 * sizes.mean_ms)
    around = sizes.squares_ms2 + sizes.runs * (sizes.mean_ms - design @ values) ** 2
    freedom = max(float(sizes.runs.sum()) - design.shape[1], 1.0)
    errors = np.sqrt(np.maximum(np.diag(inverse), 0) * float((weights * around).sum()) / freedom)
    return _Solution(values, errors, expected, weights)


def _best_step(sizes: _Sizes, taken: tuple[int, ...]) -> int | None:
    """The size below the most significant further step; None without a significant step."""
    best, best_sigmas = None, MIN_STEP_SIGMAS
    # A line fits any two sizes exactly, and a line with one step fits any three.
    if len(sizes.rows) < len(taken) + 4:
        return None
    for at in (int(size) for size in sizes.rows[:-1] if size not in taken):
        solved = _solve(sizes, (*taken, at))
        jump, error = float(solved.values[-1]), float(solved.errors[-1])
        there = float(solved.expected_ms[sizes.rows > at].min())
        sigmas = jump / max(error, 1e-12)
        if sigmas > best_sigmas and jump >= MIN_STEP_SHARE * there:
            best, best_sigmas = at, sigmas
    return best
