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
from .replay import Codec, Layout, Replayed
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
MIN_REQUESTS = 500


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """What one record tells: its requests, the server's layout, its runs, and the mean times of its codec in ns.

    ``binary``: the bodies held binary tensors.
    """

    workload: Workload
    layout: Layout
    service: Service
    binary: bool

    @property
    def codec_ns(self) -> tuple[float, float]:
        return float(self.workload.decode_ns.mean()), float(self.workload.encode_ns.mean())


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
        raise NoForecast(f"{len(load.due_ns)} requests are too few for a p99, and {MIN_REQUESTS} are needed")
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
    replayed = _replays_itself(base)
    layout, runs = _target(base, change, others)
    codec = _codec(base, change, others)
    in_order = range(BLOCKS)
    before = [_as_it_was(base, in_order, seed) for seed in range(SEEDS)]
    after = [replay.play(base.workload, runs, layout, change, in_order, seed, codec) for seed in range(SEEDS)]
    _check(after[0], runs, _two_loads(base, others, layout))
    centre = {name: _log_ratio(before, after, q) for name, q in QUANTILES.items()}
    spread = _spread(base, runs, layout, change, codec, resamples)
    predictions = {}
    for name, q in QUANTILES.items():
        model = _model_error(name, errors)
        own = runs.table_error if set(after[0].sizes) - set(runs.ran) else 0.0
        half = TWO_SIDED * math.sqrt(spread[name] ** 2 + model**2 + (0.5 * own) ** 2)
        base_ms = float(np.quantile(base.workload.total_ns, q, method="inverted_cdf")) / 1e6
        predictions[name] = Prediction(
            base_ms, math.exp(centre[name]), math.exp(centre[name] - half), math.exp(centre[name] + half)
        )
    return Forecast(change, change.words, predictions, replayed, after[0].load, len(errors))


def _as_it_was(base: Measured, order: Sequence[int], seed: int) -> Replayed:
    return replay.play(base.workload, base.service, base.layout, Change(), order, seed)


def _replays_itself(base: Measured) -> dict[str, float]:
    """Simulated over measured percentiles of the run itself. Raises NoForecast where they differ by too much."""
    itself = _as_it_was(base, range(BLOCKS), 0)
    found = {}
    for name, q in QUANTILES.items():
        found[name] = itself.quantile_ns(q) / float(np.quantile(base.workload.total_ns, q, method="inverted_cdf"))
        if abs(found[name] - 1) > REPLAYS_WITHIN[name]:
            raise NoForecast(
                f"the simulation of the run itself gives {found[name]:.2f} times its {name}, and may differ by "
                f"{REPLAYS_WITHIN[name]:.0%}: something else than the queue decides"
            )
    return found


def _target(base: Measured, change: Change, others: Sequence[Measured]) -> tuple[Layout, Service]:
    """The layout after the change, and the runs to expect in it. Raises NoForecast where they were not measured."""
    layout, runs = base.layout.changed(change), base.service
    wanted = (layout.instances, layout.threads)
    if wanted != (base.layout.instances, base.layout.threads):
        found = next((one for one in others if (one.layout.instances, one.layout.threads) == wanted), None)
        if found is not None:
            runs, layout = found.service, replace(layout, contention=found.layout.contention)
        elif layout.threads != base.layout.threads or layout.instances > base.layout.instances:
            raise NoForecast(
                f"runs of {wanted[0]} instances with {wanted[1]} threads each were not measured: load such a server "
                "for some seconds, and pass its record as --also FILE"
            )
    if layout.instances > 1 and runs.crowding is None:
        raise NoForecast(
            "the slowdown of instances that run at the same time was not measured: it needs a record in which they do"
        )
    return layout, runs


def _codec(base: Measured, change: Change, others: Sequence[Measured]) -> Codec:
    if not change.binary:
        return Codec()
    if base.binary:
        raise NoForecast("the bodies of this record are binary already")
    found = next((one for one in others if one.binary), None)
    if found is None:
        raise NoForecast(
            "the time to read binary bodies was not measured: load the server for some seconds with --binary, and pass "
            "that record as --also FILE"
        )
    pairs = zip(found.codec_ns, base.codec_ns, strict=True)
    decode, encode = (new / old if old else 1.0 for new, old in pairs)
    return Codec(decode, encode)


def _two_loads(base: Measured, others: Sequence[Measured], layout: Layout) -> bool:
    """Whether runs were measured at two loads in this layout."""
    same = (layout.instances, layout.threads)
    rates = [one.workload.rate_per_s for one in (base, *others) if (one.layout.instances, one.layout.threads) == same]
    return len(rates) > 1 and max(rates) >= OTHER_LOAD * min(rates)


def _check(after: Replayed, runs: Service, two_loads: bool) -> None:
    if after.largest > runs.largest:
        raise NoForecast(
            f"there would be runs of {after.largest} rows, and only runs of up to {runs.largest} were measured"
        )
    if after.refused > MOST_REFUSED:
        raise NoForecast(f"the server would be overloaded: it would refuse {after.refused:.0%} of the requests")
    if after.load > SURE_LOAD and not two_loads:
        raise NoForecast(
            f"the load would be {after.load:.0%} of the capacity, where latency depends on how runs change with load: "
            "measure at another rate too, and pass that record as --also FILE"
        )


def _log_ratio(before: Sequence[Replayed], after: Sequence[Replayed], q: float) -> float:
    logs = [math.log(new.quantile_ns(q) / old.quantile_ns(q)) for old, new in zip(before, after, strict=True)]
    return sum(logs) / len(logs)


def _spread(
    base: Measured, runs: Service, layout: Layout, change: Change, codec: Codec, resamples: int
) -> dict[str, float]:
    """The standard deviation of the logarithm of each ratio over resampled blocks of time."""
    random = np.random.default_rng(BLOCKS)
    share = min(RESAMPLED_REQUESTS / len(base.workload.due_ns), 1.0)
    blocks = max(round(BLOCKS * share), 1)
    logs: dict[str, list[float]] = {name: [] for name in QUANTILES}
    for seed in range(resamples):
        order = random.integers(0, BLOCKS, blocks).tolist()
        old = _as_it_was(base, order, seed)
        new = replay.play(base.workload, runs, layout, change, order, seed, codec)
        for name, q in QUANTILES.items():
            logs[name].append(math.log(new.quantile_ns(q) / old.quantile_ns(q)))
    return {name: float(np.std(values, ddof=1)) * math.sqrt(blocks / BLOCKS) for name, values in logs.items()}


def _model_error(name: str, errors: Sequence[dict[str, float]]) -> float:
    """The error of the model: its prior, and the verifications as far as there are any."""
    known = [one[name] for one in errors if name in one]
    squares = sum(error**2 for error in known) + PRIOR_WEIGHT * MODEL_ERROR[name] ** 2
    return math.sqrt(squares / (len(known) + PRIOR_WEIGHT))
