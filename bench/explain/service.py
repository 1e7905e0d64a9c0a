"""The service: how long runs of the model took in a record, by rows, beside each other, and from moment to moment."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from server.scheduling.batch import Batch

from . import batches
from .stages import TERMS, Account
from .workload import NoForecast

LEAST_RUNS = 5
"""Runs of one size whose mean is taken; below it, the server's cost table says more."""
LEAST_TOGETHER = 30
"""Runs beside another one, below which their slowdown is not known."""
MOST_FACTOR = 2.0
"""A run that takes longer than that was stopped for a time, which another run of any size would have been too."""
NEARBY = 8

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Service:
    """Runs of the model. ``alone_ns``: by rows, the time of a run with none beside it.

    ``seen``: the sizes that ran in the record, or that the server measured. ``table_error``: the relative error of
    sizes that only the server's table has, against those that ran. ``crowding``: the share by which each further
    run at the same time makes a run longer; None where it was not measured. ``begun_ns`` [m], ``factor`` [m] and
    ``stopped_ns`` [m]: of each run, when it began, its time over that of its size, and what it was stopped for.
    """

    alone_ns: Mapping[int, float]
    ran: frozenset[int]
    table_error: float
    crowding: float | None
    begun_ns: Integers
    factor: Floats
    stopped_ns: Integers

    @property
    def largest(self) -> int:
        return max(self.alone_ns)

    def ns(self, rows: int) -> float:
        """The time of a run of ``rows`` rows alone."""
        known = self.alone_ns.get(rows)
        if known is None:
            sizes = sorted(self.alone_ns)
            known = float(np.interp(rows, sizes, [self.alone_ns[size] for size in sizes]))
        return known

    def run_ns_per_request(self, account: Account) -> float:
        """The time of all runs of the record, by its requests."""
        order, first = batches.group(account)
        leaders = order[first]
        took_ns = sum(account.terms_ns[leaders, TERMS.index(name)] for name in ("assemble", "compute"))
        return float(np.sum(took_ns)) / len(account.total_ns)

    def moments(self, order: Sequence[int], width_ns: int, seed: int) -> Callable[[int], tuple[float, float]]:
        """Factor and stop of a run that begins at an instant, as the machine was in the blocks of ``order`` then.

        A stop happens once, whichever run it hits. A run that falls on a moment that was used takes one nearby.
        """
        starts, factors, stops = self.begun_ns.tolist(), self.factor.tolist(), self.stopped_ns.tolist()
        jitter = np.random.default_rng(seed).integers(-NEARBY, NEARBY + 1, 4096).tolist()
        used: set[tuple[int, int]] = set()

        def at(now_ns: int) -> tuple[float, float]:
            place, inside_ns = divmod(now_ns, width_ns)
            block = order[place % len(order)]
            found = max(bisect.bisect_right(starts, block * width_ns + inside_ns) - 1, 0)
            if (place, found) not in used:
                used.add((place, found))
                return factors[found], stops[found]
            near = found + jitter[len(used) % len(jitter)]
            return factors[min(max(near, 0), len(factors) - 1)], 0.0

        return at


def measure(account: Account, due_ns: Integers, table_ns: Mapping[int, float], instances: int) -> Service:
    """The service of a record. ``due_ns`` [n]: intended instants without pauses. ``table_ns``: the server's cost table.

    Raises NoForecast without runs.
    """
    order, first = batches.group(account)
    if len(first) < LEAST_TOGETHER:
        raise NoForecast(f"the record has {len(first)} runs of the model, and {LEAST_TOGETHER} are needed")
    leaders = order[first]
    terms = account.terms_ns[leaders]
    before = terms[:, : TERMS.index("assemble")].sum(axis=1)
    took_ns = terms[:, TERMS.index("assemble")] + terms[:, TERMS.index("compute")]
    begun_ns, rows = due_ns[leaders] + before, account.batch[leaders]
    by_time = np.argsort(begun_ns, kind="stable")
    begun_ns, took_ns, rows = begun_ns[by_time], np.maximum(took_ns[by_time], 1), rows[by_time]
    beside = _beside(begun_ns, took_ns) if instances > 1 else np.zeros(len(rows))
    crowding = _crowding(rows, took_ns, beside) if instances > 1 else None
    slow = 1 + (crowding or 0.0) * beside
    usual = _usual_ns(rows, took_ns / slow)
    alone, error = _with_table(usual, rows, table_ns)
    expected = np.array([alone[size] for size in rows.tolist()]) * slow
    ratio = took_ns / expected
    factor = np.minimum(ratio, MOST_FACTOR)
    return Service(
        alone_ns=alone,
        ran=frozenset(usual),
        table_error=error,
        crowding=crowding,
        begun_ns=begun_ns,
        factor=factor,
        stopped_ns=np.maximum(took_ns - factor * expected, 0).astype(np.int64),
    )


def run_ns(
    service: Service, moments: Callable[[int], tuple[float, float]], compute: float, extra_ns: int = 0
) -> Callable[[Batch], int]:
    """The time of a simulated run alone: ``compute`` times as long as it was, and ``extra_ns`` more."""

    def cost_ns(batch: Batch) -> int:
        factor, stopped_ns = moments(batch.picked_ns)
        return int(service.ns(batch.rows) * compute * factor + stopped_ns) + extra_ns

    return cost_ns


def _usual_ns(rows: Integers, took_ns: Floats) -> dict[int, float]:
    """The time of a run by size, without what single runs were stopped for; sizes with few runs are left out."""
    found = {}
    for size in np.unique(rows).tolist():
        of_size = took_ns[rows == size]
        if len(of_size) >= LEAST_RUNS:
            found[size] = float(np.minimum(of_size, MOST_FACTOR * np.median(of_size)).mean())
    return found


def _with_table(
    usual: dict[int, float], rows: Integers, table_ns: Mapping[int, float]
) -> tuple[dict[int, float], float]:
    """The sizes that ran, and others from the server's table in proportion; with the scatter of that proportion."""
    both = [size for size in usual if size in table_ns]
    ratios = np.array([usual[size] / table_ns[size] for size in both])
    scale = float(np.exp(np.log(ratios).mean())) if both else 1.0
    found = {size: ns * scale for size, ns in table_ns.items() if ns > 0} | usual
    if not found:
        raise NoForecast("no size of run occurred often enough, and the server tells no cost table")
    for size in set(np.unique(rows).tolist()) - set(found):
        sizes = sorted(found)
        found[size] = float(np.interp(size, sizes, [found[one] for one in sizes]))
    return found, float(np.log(ratios).std()) if len(both) > 1 else 0.1


def _beside(begun_ns: Integers, took_ns: Integers) -> Floats:
    """The mean number of other runs while each run lasted; ``begun_ns`` ascends."""
    ended_ns = begun_ns + took_ns
    beside = np.zeros(len(begun_ns))
    for at in range(len(begun_ns)):
        later = at + 1
        while later < len(begun_ns) and begun_ns[later] < ended_ns[at]:
            common = min(ended_ns[at], ended_ns[later]) - begun_ns[later]
            beside[at] += common / took_ns[at]
            beside[later] += common / took_ns[later]
            later += 1
    return beside


def _crowding(rows: Integers, took_ns: Integers, beside: Floats) -> float | None:
    """The share by which a run beside another takes longer, by least squares within the sizes of runs."""
    together = beside > 0.5
    if together.sum() < LEAST_TOGETHER or (~together).sum() < LEAST_TOGETHER:
        return None
    spread = product = 0.0
    ratios, counts = [], []
    for size in np.unique(rows).tolist():
        of_size = rows == size
        if of_size.sum() < LEAST_RUNS:
            continue
        typical = float(np.median(took_ns[of_size]))
        ratio = np.minimum(took_ns[of_size] / typical, MOST_FACTOR)
        ratios.append(ratio)
        counts.append(beside[of_size])
        x = beside[of_size] - beside[of_size].mean()
        product += float((x * (ratio - ratio.mean())).sum())
        spread += float((x * x).sum())
    if not spread:
        return None
    slope = product / spread
    alone = float(np.concatenate(ratios).mean() - slope * np.concatenate(counts).mean())
    return max(slope / max(alone, 0.1), 0.0)
