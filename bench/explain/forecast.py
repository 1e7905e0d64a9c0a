"""The forecast: percentiles after a change, as ratios to the measured ones, from a simulation of the server's queue.

A forecast is refused, with the reason, where the simulation does not reproduce the run itself, and where the change
leads to what was not measured.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ..observe.model_work import ModelWork
from ..observe.timeline import Span
from . import replay, service, stages, workload
from .changes import Change
from .replay import Layout, Replayed
from .service import Service
from .workload import BLOCKS, Columns, NoForecast, Workload

QUANTILES = {"p50": 0.50, "p90": 0.90, "p99": 0.99}
REPLAYS_WITHIN = {"p50": 0.10, "p90": 0.12, "p99": 0.15}
"""How far the replay of the run itself may be from what was measured."""
MODEL_ERROR = {"p50": 0.06, "p90": 0.07, "p99": 0.08}
"""Standard error of the logarithm of a forecast beyond what resampling shows, until verifications tell it."""
PRIOR_WEIGHT = 4
"""The number of verifications that outweigh it."""
RESAMPLES = 12
RESAMPLED_REQUESTS = 3_000
"""Requests in one resample, at the rate of the record; the spread shrinks with the root of their number."""
SEEDS = 3
SURE_LOAD = 0.85
OTHER_LOAD = 1.25
"""Two loads tell how runs depend on load if one rate is this many times the other."""
MOST_REFUSED = 0.01
TWO_SIDED = 2.0
ANOTHER_RATE = "measure at another rate too, and pass that record as --also FILE"
MIN_REQUESTS = 500


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """What one record tells: its requests, the server's layout, and its runs. ``binary``: the bodies held binary
    tensors. ``late``: percentiles around which the load generator was late. ``busy``: the share of the cores of the
    server's machine that all programs used, the load generator too if it is there; None if unknown."""

    workload: Workload
    layout: Layout
    service: Service
    binary: bool
    late: tuple[str, ...] = ()
    busy: float | None = None


@dataclass(frozen=True, slots=True)
class Prediction:
    """One percentile: ``base_ms`` as measured, ``ratio`` after the change, and the interval of that ratio."""

    base_ms: float
    ratio: float
    low: float
    high: float

    @property
    def ms(self) -> float:
        return self.base_ms * self.ratio

    @property
    def low_ms(self) -> float:
        return self.base_ms * self.low

    @property
    def high_ms(self) -> float:
        return self.base_ms * self.high


@dataclass(frozen=True, slots=True)
class Forecast:
    """A forecast. ``replayed``: by percentile, simulated over measured, without any change.

    ``load``: after the change, over what the server can do in its best batches. ``checked``: earlier verifications
    whose errors are in the intervals.
    """

    change: Change
    words: str
    predictions: dict[str, Prediction]
    replayed: dict[str, float]
    load: float
    checked: int
    notes: tuple[str, ...] = field(default=())


def measured(
    window: Columns,
    stretches: Sequence[Span],
    works: Sequence[ModelWork],
    *,
    binary: bool,
    loop_ns: float | None = None,
) -> Measured:
    """What the measured rows of a record tell. ``loop_ns``: CPU time of the server's busiest thread for each request,
    which a model on the event loop needs. Raises NoForecast with what is missing."""
    layout = replay.layout_of(works)
    window, stretches = workload.shortened(window, stretches)
    load = workload.of_record(window, stretches)
    if len(load.due_ns) < MIN_REQUESTS:
        raise NoForecast(
            f"{len(load.due_ns)} requests are too few for a p99, and {MIN_REQUESTS} are needed: run longer"
        )
    account = stages.join(window)
    runs = service.measure(account, load.due_ns, layout.table_ns, layout.instances)
    if layout.inline:
        if loop_ns is None:
            raise NoForecast(
                "the model runs on the event loop, and what the loop itself costs is only known of a server on this "
                "machine: measure there, or start the server with --inline-below-us 0"
            )
        load = replay.with_loop(load, account, runs, layout, loop_ns)
    return Measured(load, layout, runs, binary)


def forecast(
    base: Measured,
    change: Change,
    others: Sequence[Measured] = (),
    errors: Sequence[dict[str, float]] = (),
    resamples: int = RESAMPLES,
) -> Forecast:
    """The forecast for a change of the run ``base``. ``others``: further records of the same server. ``errors``: of
    earlier verifications, the logarithm of observed over forecast by percentile. ``resamples``: of blocks of time, for
    the interval. Raises NoForecast.
    """
    replayed = _replays_itself(base, "the run itself")
    like = _like(base, change, others)
    changed = _changed(base, like, change)
    in_order = range(BLOCKS)
    before = [_play(base, Change(), in_order, seed) for seed in range(SEEDS)]
    after = [_play(changed, change, in_order, seed) for seed in range(SEEDS)]
    _check(after[0], changed, change, _two_loads(base, others, changed.layout))
    centre = {name: _log_ratio(before, after, q) for name, q in QUANTILES.items()}
    spread = _spread(base, changed, change, resamples)
    guessed = after[0].outside(changed.service.ran)
    predictions = {}
    for name, q in QUANTILES.items():
        model = _model_error(name, errors)
        # The slowest requests may all be in the few runs of sizes that only the table has.
        own = changed.service.table_error * min(guessed / (1 - q), 1.0)
        half = TWO_SIDED * math.sqrt(spread[name] ** 2 + model**2 + (0.5 * own) ** 2)
        base_ms = float(np.quantile(base.workload.total_ns, q, method="inverted_cdf")) / 1e6
        predictions[name] = Prediction(
            base_ms, math.exp(centre[name]), math.exp(centre[name] - half), math.exp(centre[name] + half)
        )
    return Forecast(change, change.words, predictions, replayed, after[0].load, len(errors))


def _play(one: Measured, change: Change, order: Sequence[int], seed: int) -> Replayed:
    return replay.play(one.workload, one.service, one.layout, change, order, seed)


def _replays_itself(one: Measured, what: str) -> dict[str, float]:
    """Simulated over measured percentiles of a record without any change. Raises NoForecast where they differ by too
    much."""
    itself = _play(one, Change(), range(BLOCKS), 0)
    found = {}
    for name, q in QUANTILES.items():
        found[name] = itself.quantile_ns(q) / float(np.quantile(one.workload.total_ns, q, method="inverted_cdf"))
        if abs(found[name] - 1) > REPLAYS_WITHIN[name]:
            raise NoForecast(
                f"the simulation of {what} gives {found[name]:.2f} times its {name}, and may differ by "
                f"{REPLAYS_WITHIN[name]:.0%}: something else than the queue decides"
            )
    return found


def _like(base: Measured, change: Change, others: Sequence[Measured]) -> Measured:
    """The record with the instances, the threads and the kind of bodies that there would be. Raises NoForecast."""
    layout = base.layout.changed(change)
    if change.binary and base.binary:
        raise NoForecast("the bodies of this record are binary already")
    wanted = (layout.instances, layout.threads, base.binary or change.binary)
    for one in (base, *others):
        if (one.layout.instances, one.layout.threads, one.binary) == wanted:
            return one
    if change.binary:
        raise NoForecast(
            "the time to read binary bodies was not measured: load such a server for some seconds with --binary, and "
            "pass that record as --also FILE"
        )
    if layout.threads != base.layout.threads or layout.instances > base.layout.instances:
        raise NoForecast(
            f"runs of {layout.instances} instances with {layout.threads} threads each were not measured: load such a "
            "server for some seconds, and pass its record as --also FILE"
        )
    return base


def _changed(base: Measured, like: Measured, change: Change) -> Measured:
    """The requests of ``base`` on the changed server. What was not set but found out there is that of ``like``: its
    runs, and what requests wait for around them. Raises NoForecast where it was not measured."""
    layout = base.layout.changed(change)
    workload, runs = base.workload, like.service
    if like is not base:
        _replays_itself(like, "the record of such a server")
        longer = workload.seconds / like.workload.seconds
        runs = replace(runs, begun_ns=(runs.begun_ns * longer).astype(np.int64))
        workload = workload.surrounded_as(like.workload)
        layout = replace(layout, contention=like.layout.contention, table_ns=like.layout.changed(change).table_ns)
    if layout.instances > 1 and runs.crowding is None:
        raise NoForecast(
            "the slowdown of instances that run at the same time was not measured: it needs a record in which they do"
        )
    return replace(like, workload=workload, layout=layout, service=runs)


def _two_loads(base: Measured, others: Sequence[Measured], layout: Layout) -> bool:
    """Whether runs were measured at two loads in this layout."""
    same = (layout.instances, layout.threads)
    rates = [one.workload.rate_per_s for one in (base, *others) if (one.layout.instances, one.layout.threads) == same]
    return len(rates) > 1 and max(rates) >= OTHER_LOAD * min(rates)


def _check(after: Replayed, changed: Measured, change: Change, two_loads: bool) -> None:
    if after.largest > changed.service.largest:
        raise NoForecast(
            f"there would be runs of {after.largest} rows, and only runs of up to {changed.service.largest} were "
            "measured"
        )
    if after.refused > MOST_REFUSED:
        raise NoForecast(f"the server would be overloaded: it would refuse {after.refused:.0%} of the requests")
    if two_loads:
        return
    if after.load > SURE_LOAD:
        raise NoForecast(
            f"the load would be {after.load:.0%} of the capacity, where latency depends on how runs change with load: "
            f"{ANOTHER_RATE}"
        )
    if change.rate > 1 and changed.busy is not None and changed.busy * change.rate > SURE_LOAD:
        raise NoForecast(
            f"all programs together would want {changed.busy * change.rate:.0%} of the cores of the server's machine, "
            f"where runs wait for cores that the load generator or others hold: {ANOTHER_RATE}"
        )


def _log_ratio(before: Sequence[Replayed], after: Sequence[Replayed], q: float) -> float:
    logs = [math.log(new.quantile_ns(q) / old.quantile_ns(q)) for old, new in zip(before, after, strict=True)]
    return sum(logs) / len(logs)


def _spread(base: Measured, changed: Measured, change: Change, resamples: int) -> dict[str, float]:
    """The standard deviation of the logarithm of each ratio over resampled blocks of time."""
    random = np.random.default_rng(BLOCKS)
    share = min(RESAMPLED_REQUESTS / len(base.workload.due_ns), 1.0)
    blocks = max(round(BLOCKS * share), 1)
    logs: dict[str, list[float]] = {name: [] for name in QUANTILES}
    for seed in range(resamples):
        order = random.integers(0, BLOCKS, blocks).tolist()
        old = _play(base, Change(), order, seed)
        new = _play(changed, change, order, seed)
        for name, q in QUANTILES.items():
            logs[name].append(math.log(new.quantile_ns(q) / old.quantile_ns(q)))
    return {name: float(np.std(values, ddof=1)) * math.sqrt(blocks / BLOCKS) for name, values in logs.items()}


def _model_error(name: str, errors: Sequence[dict[str, float]]) -> float:
    """The error of the model: its prior, and the verifications as far as there are any."""
    known = [one[name] for one in errors if name in one]
    squares = sum(error**2 for error in known) + PRIOR_WEIGHT * MODEL_ERROR[name] ** 2
    return math.sqrt(squares / (len(known) + PRIOR_WEIGHT))
