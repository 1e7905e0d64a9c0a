"""The cost table: how long a run takes by batch size, as measured. Scheduling decides from it."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterable, Mapping, Sequence

from .fastest_runs import FastestRuns

FORGETTING = 0.1
"""Weight of a new measurement against the average of the earlier ones."""

RELIEF = 0.3
"""Weight of a new measurement that is faster than the average. A run that was slow by chance makes its batch size
unattractive, and a size that is not run again would never be corrected."""

OUTLIER = 4.0
"""A single run counts as at most this many times the estimate: a preempted thread is not a slower model."""

WORTH_IT = 0.97
"""A batch size is good enough when its throughput is this share of the best: the smaller one answers sooner."""

STALE = 0.05
"""Predictions are computed anew when a measurement has moved by this share."""

RENEWAL_NS = 10_000_000
"""Least time spent in runs between two renewals: for a very cheap model a renewal costs as much as a run."""

UNMEASURED_NS = 1_000_000
"""What a run is predicted to take before any was measured: little, so that it is tried and measured;"""

UNMEASURED_ROW_NS = 50_000_000
"""and what a row that waits counts for until then: much, so that no long queue is admitted on a guess."""

SURE = 0.95
"""Share of the runs that take no longer than predicted times :attr:`CostTable.spread`,"""

SPREAD_STEP = 0.1
"""How fast the spread follows the measured runs."""

MOST_SPREAD = 2.0
"""The largest spread. Pauses of the whole machine are not planned for."""

NOISE = 0.02
"""A run is late from this share over the prediction on."""

AGING_NS = 10_000_000_000
"""In so much time an estimate that no run confirms goes half of the way to the best of its batch size. A size
that was slow for a while is not chosen again, so that no run would correct it."""

DRIFT = 1.5
"""Estimates up to this multiple of the best do not age: the speed of a machine drifts by as much."""


class CostTable:
    """Predicted nanoseconds of one run for every batch size from 1 to ``max_batch_size``.

    Between measured sizes the prediction is linear, below the smallest it is the smallest one's, beyond the largest
    it is proportional. It never falls with size: a smaller size takes no longer than a larger one. Steps (a kernel's
    tile, a padding bucket) are kept as measured; no line is fitted through them.
    """

    def __init__(self, max_batch_size: int, seeds: Iterable[tuple[int, float]], closed: Sequence[int] = ()) -> None:
        """``seeds``: (batch size, nanoseconds) from the manifest or a warm-up sweep. Without any, the first run that is
        recorded counts for all batch sizes, until others are measured. ``closed``: the only batch sizes that a device
        runs; others are padded to the next one and cost as much."""
        self.max_batch_size = max_batch_size
        self._closed = sorted(size for size in closed if size <= max_batch_size)
        self._measured: dict[int, float] = {size: float(ns) for size, ns in seeds if size <= max_batch_size}
        self._guessed = not self._measured
        if self._guessed:
            self._measured = dict.fromkeys((1, max_batch_size), float(UNMEASURED_NS))
        self.spread = 1.0
        """Nearly every run takes no longer than its prediction times this: 1 where all runs take the same."""
        self._seeds = {} if self._guessed else dict(self._measured)
        self._seeded = sorted(self._seeds)
        self._untried = set(self._seeds)  # sizes that no run has confirmed
        self._fastest = FastestRuns()
        self._seen_ns: dict[int, int] = {}  # when a run of each size was last recorded, or its estimate was aged
        self._aging_ns = AGING_NS
        self._spent_ns = 0
        self._rebuild()
        self._at_load = self._predictions

    def record(self, rows: int, duration_ns: int, now_ns: int = 0, probe: bool = False) -> None:
        """Learn from one run of ``rows`` rows, which ended at ``now_ns``.

        ``probe``: the run was predicted to be too slow, and was tried because nothing else ran. If it was faster, the
        model is fast again, and the run is believed as it is.
        """
        rows = self._run_size(rows)
        duration_ns = duration_ns or 1
        self._fastest.record(rows, duration_ns, now_ns)
        self._seen_ns[rows] = now_ns
        self._untried.discard(rows)
        if now_ns >= self._aging_ns:
            self.age(now_ns)
        if self._guessed:
            self._guessed = False
            self._measured = dict.fromkeys((1, self.max_batch_size), float(duration_ns))
            self._rebuild()
            return
        built = self._predictions.measured
        expected = built[rows] if rows in built else self._predictions.ns(rows)
        known = self._measured.get(rows, expected)
        if probe and duration_ns < known:
            self._rebase(rows, duration_ns, known)
            return
        if duration_ns > (self.spread + NOISE) * known or self.spread > 1.0:
            self._spread(duration_ns > (self.spread + NOISE) * known)
        weight = FORGETTING if duration_ns > known else RELIEF
        learnt = known + weight * (min(float(duration_ns), OUTLIER * known) - known)
        self._measured[rows] = learnt
        if learnt > self._predictions.ns(rows):
            self._lift(rows, learnt)
        self._spent_ns += duration_ns
        moved = abs(learnt - expected) > STALE * expected or learnt > (1 + STALE) * self._predictions.ns(rows)
        if moved and self._spent_ns >= RENEWAL_NS:
            self._rebuild()

    def age(self, now_ns: int) -> None:
        """Move estimates that no run has confirmed for a while towards the best of their size, but not below those of
        smaller sizes that were confirmed."""
        self._aging_ns = now_ns + AGING_NS
        confirmed_ns = 0.0
        aged = False
        for size, known in sorted(self._measured.items()):
            halvings = (now_ns - self._seen_ns.get(size, 0)) // AGING_NS
            if halvings < 1:
                confirmed_ns = max(confirmed_ns, known)
                continue
            self._seen_ns[size] = now_ns
            least_ns = max(self._best_ns(size, known), min(confirmed_ns, known))
            if known > DRIFT * least_ns:
                self._measured[size] = least_ns + (known - least_ns) * 0.5**halvings
                aged = True
        if aged:
            self._rebuild()

    def _rebase(self, rows: int, duration_ns: int, known: float) -> None:
        """Lower all estimates by the factor by which a run was faster than its own, none below the best of its size."""
        factor = duration_ns / known
        for size, ns in self._measured.items():
            self._measured[size] = max(ns * factor, self._best_ns(size, ns))
        self._measured[rows] = float(duration_ns)
        self._rebuild()

    def _best_ns(self, size: int, known: float) -> float:
        """What a run of this size takes at best: by the seeds, or by the fastest runs of the last minutes."""
        best_ns = self._fastest.ns(size, known)
        return min(best_ns, _interpolated(self._seeds, self._seeded, size)) if self._seeds else best_ns

    def _spread(self, beyond: bool) -> None:
        """Follow the quantile by steps that are in balance when it is met: up for a run beyond it, down for any other
        (stochastic approximation, H. Robbins and S. Monro, 1951)."""
        if beyond:
            self.spread = min(self.spread + SPREAD_STEP * SURE, MOST_SPREAD)
        else:
            self.spread = max(self.spread - SPREAD_STEP * (1 - SURE), 1.0)

    def _lift(self, rows: int, learnt: float) -> None:
        """Raise the averages of larger sizes that claim to be faster than the run just measured: they are old."""
        for size, known in self._measured.items():
            if size > rows and known < learnt:
                self._measured[size] = known + FORGETTING * (learnt - known)

    def predict_ns(self, rows: int) -> int:
        """Nanoseconds that ``rows`` rows will take, in as many runs as they need."""
        ns = self._predictions.known_ns.get(rows)
        if ns is None:
            full, rest = divmod(rows, self.max_batch_size)
            ns = full * self._predictions.ns(self.max_batch_size) + (self._predictions.ns(rest) if rest else 0.0)
        return int(ns)

    def least_ns(self, rows: int) -> int:
        """What :meth:`predict_ns` would be at best: by the seeds, and by the fastest runs of the last minutes."""
        best = {size: self._best_ns(size, ns) for size, ns in self._measured.items()}
        sizes = sorted(best)
        full, rest = divmod(rows, self.max_batch_size)
        least_ns = full * _interpolated(best, sizes, self.max_batch_size)
        least_ns += _interpolated(best, sizes, self._run_size(rest)) if rest else 0.0
        return min(int(least_ns), self.predict_ns(rows))

    def efficient_rows(self, waiting: int) -> int:
        """The batch size to run when ``waiting`` rows wait: the smallest whose throughput is within 3 % of the best."""
        return self._predictions.efficient(waiting if waiting < self.max_batch_size else self.max_batch_size)

    @property
    def row_ns(self) -> float:
        """Nanoseconds a row at the most efficient batch size: the inverse of the capacity."""
        return UNMEASURED_ROW_NS if self._guessed else self._predictions.row_ns

    def points(self) -> list[tuple[int, int]]:
        """(batch size, nanoseconds) as measured up to now, by size."""
        return [(size, int(ns)) for size, ns in sorted(self._measured.items())]

    def _follow(self) -> None:
        """Let the sizes that were not run since the warm-up change as their nearest size that was: what makes its runs
        longer or shorter, such as other work on the machine, is no property of a batch size. None becomes faster than a
        smaller one that was run."""
        tried = sorted(self._measured.keys() - self._untried)
        for size in self._untried if tried else ():
            near = min(tried, key=lambda one: abs(one - size))
            drift = self._measured[near] / self._at_load.ns(near)
            smaller = [self._measured[one] for one in tried if one < size]
            self._measured[size] = max([self._at_load.ns(size) * drift, *smaller])

    def _rebuild(self) -> None:
        self._spent_ns = 0
        self._follow()
        self._predictions = _Predictions(self.max_batch_size, dict(self._measured), self._closed)

    def _run_size(self, rows: int) -> int:
        return _run_size(self._closed, rows)


class _Predictions:
    """What follows from measurements. It is computed when it is asked for and then kept: a table of all sizes takes
    longer than the runs of a model with large batches."""

    __slots__ = ("_best_row_ns", "_closed", "_efficient", "_ends", "_later_ns", "_sizes", "known_ns", "measured")

    def __init__(self, max_batch_size: int, measured: dict[int, float], closed: Sequence[int]) -> None:
        self.measured = measured
        self._closed = closed
        self._sizes = sorted(measured)
        # Between two of these sizes a run is linear in its rows, or constant.
        self._ends = sorted({*self._sizes, *closed, max_batch_size})
        self._later_ns = [self._interpolated_ns(end) for end in self._ends]  # the least of each of them and larger ones
        for place in range(len(self._ends) - 2, -1, -1):
            self._later_ns[place] = min(self._later_ns[place], self._later_ns[place + 1])
        rows_ns = [ns / end for end, ns in zip(self._ends, self._later_ns, strict=True)]
        self._best_row_ns = list(itertools.accumulate(rows_ns, min))  # of each of them and smaller ones
        self.known_ns: dict[int, float] = {}
        self._efficient: dict[int, int] = {0: 0}

    @property
    def row_ns(self) -> float:
        """Nanoseconds a row at the most efficient batch size."""
        return self._best_row_ns[-1]

    def ns(self, rows: int) -> float:
        """Nanoseconds of one run of 1 to ``max_batch_size`` rows: no more than those of a larger one."""
        found = self.known_ns.get(rows)
        if found is None:
            found = min(self._interpolated_ns(rows), self._later_ns[bisect.bisect_left(self._ends, rows)])
            self.known_ns[rows] = found
        return found

    def efficient(self, waiting: int) -> int:
        """The smallest size, up to ``waiting``, whose throughput is ``WORTH_IT`` of the best."""
        found = self._efficient.get(waiting)
        if found is None:
            found = self._efficient[waiting] = self._smallest_efficient(waiting)
        return found

    def _smallest_efficient(self, waiting: int) -> int:
        place = bisect.bisect_left(self._ends, waiting)
        best_ns = self.ns(waiting) / waiting
        if place:
            best_ns = min(best_ns, self._best_row_ns[place - 1])

        def is_good(size: int) -> bool:
            return WORTH_IT * self.ns(size) / size <= best_ns

        first = 1
        for end in (*self._ends[:place], waiting):
            if is_good(first):
                return first
            if is_good(end):  # between two ends the good sizes are the last ones, if the first one is none
                return bisect.bisect_left(range(first, end), True, key=is_good) + first
            first = end + 1
        return waiting

    def _interpolated_ns(self, rows: int) -> float:
        return _interpolated(self.measured, self._sizes, _run_size(self._closed, rows))


def _run_size(closed: Sequence[int], rows: int) -> int:
    """The batch size that runs for so many rows."""
    place = bisect.bisect_left(closed, rows)
    return closed[place] if place < len(closed) else rows


def _interpolated(measured: Mapping[int, float], sizes: Sequence[int], rows: int) -> float:
    """Nanoseconds of ``rows`` rows: linear between the measured ``sizes``, in rising order, proportional beyond."""
    place = bisect.bisect_left(sizes, rows)
    if place == len(sizes):
        return measured[sizes[-1]] * rows / sizes[-1]
    high = sizes[place]
    if high == rows or place == 0:
        return measured[high]
    low = sizes[place - 1]
    share = (rows - low) / (high - low)
    return measured[low] * (1 - share) + measured[high] * share
