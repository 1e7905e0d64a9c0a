"""Verification: a forecast against the observation, with the server as it was and as it is changed, in turn."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..errors import Unusable
from ..explain.changes import Change
from ..explain.forecast import QUANTILES, REPLAYS_WITHIN, TWO_SIDED, Forecast
from ..explain.ratio import Ratio
from ..explain.workload import NoForecast, Workload
from ..load import target
from ..load.payload_set import PayloadSet
from ..load.raw_run import Watch
from ..result.verifications import SLOWDOWN, Verification
from . import blocks
from .blocks import Milliseconds, Variant
from .config import RunConfig
from .slowdown import Slower, check, slowed

SPARE_S = 30.0
"""A slowdown ends by itself that long after its block should have ended."""

KNOWN_WITHIN = 1.15
"""The upper end of the interval of an observed ratio, over the ratio."""


class Outdated(NoForecast):
    """The server as it was is not that of the record any more."""


@dataclass(frozen=True, slots=True)
class Other:
    """Where the changed side of a verification differs from the recorded one: another server, or binary bodies."""

    url: str | None = None
    payload: PayloadSet | None = None


def variants(config: RunConfig, change: Change, other: Other, timer_us: int | None) -> dict[str, Variant]:
    """The load as it was (``old``), and with the change (``new``).

    ``timer_us``: the server's batch timer, if it is known. Raises Unusable if the change needs a server of its own, or
    one that slows its stages down.
    """
    new = config if config.rate_per_s is None else replace(config, rate_per_s=config.rate_per_s * change.rate)
    if change.binary:
        if other.payload is None:
            raise Unusable("binary bodies need a generated payload: the record's command names files")
        new = replace(new, payload=other.payload)
    if other.url is not None:
        place = target.parse(other.url)
        new = replace(new, target=target.parse(place.root + config.target.path))
        return {"old": Variant(config), "new": Variant(new)}
    return {"old": Variant(config), "new": Variant(new, _changed(config, change, timer_us))}


def _changed(config: RunConfig, change: Change, timer_us: int | None) -> Callable[[], AbstractContextManager[None]]:
    """What is changed on the server itself, while it runs."""
    left = replace(change, rate=1.0, binary=False, extra_us=0, max_queue_delay_us=None)
    if left != Change():
        raise Unusable(f"start a server with {left.words}, and pass its address as --server URL")
    what = []
    if change.extra_us:
        what.append(Slower("compute", change.extra_us))
    if change.max_queue_delay_us is not None:
        if timer_us is None:
            raise Unusable("the server does not tell its batch timer: pass --server URL of one with the other timer")
        what.append(Slower("queue_timer", change.max_queue_delay_us - timer_us))
    if len(what) > 1:
        raise Unusable("one stage can be changed at a time: verify the timer and the slowdown one after the other")
    if not what:
        return contextlib.nullcontext
    check(config.target)
    return functools.partial(slowed, config.target, what[0], config.total_s + SPARE_S)


def verify(
    found: Forecast,
    base: Workload,
    sides: dict[str, Variant],
    rounds: int,
    watch: Callable[[], Watch | None],
    created: str,
) -> Verification:
    """Load both sides in turn, and hold the forecast, which was made from ``base``, against what was observed.

    ``rounds``: at least; up to twice as many and two more until the observed p99 is known within ``KNOWN_WITHIN``.
    Raises Outdated, and what ``blocks.in_turn`` raises.
    """
    seen = blocks.in_turn(sides, rounds, watch, most_rounds=2 * rounds + 2, enough=_is_known)
    _check_record(base, sides["old"].config.duration_s, [one["old"] for one in seen])
    observed = {name: blocks.ratio(seen, "new", "old", name) for name in blocks.NAMES}
    told = {name: Ratio(one.ratio, one.low, one.high) for name, one in found.predictions.items()}
    kind = SLOWDOWN if found.change.extra_us else found.change.kind
    return Verification(created, kind, found.words, told, observed)


def _is_known(seen: Sequence[Mapping[str, Milliseconds]]) -> bool:
    if len(seen) < 2:
        return False
    p99 = blocks.ratio(seen, "new", "old", "p99")
    return p99.high <= KNOWN_WITHIN * p99.value


def _check_record(base: Workload, block_s: float, unchanged: Sequence[Milliseconds]) -> None:
    """Raises Outdated where the unchanged server surely differs from its record by more than a replay of it may.

    The record is cut into blocks of the same length: the p99 of all of it also holds its rare bad moments.
    """
    for name, within in REPLAYS_WITHIN.items():
        then = np.log(base.quantile_in_blocks_ms(QUANTILES[name], block_s))
        now = np.log([one[name] for one in unchanged])
        drift = float(now.mean() - then.mean())
        if abs(drift) - TWO_SIDED * _standard_error(then, now) > math.log1p(within):
            raise Outdated(
                f"the unchanged server has {math.exp(drift):.2f} times the {name} of its record now, and may differ by "
                f"{within:.0%}: record it again"
            )


def _standard_error(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Of the difference of the two means, with one variance for both; 0 where neither has two values."""
    free = len(one) + len(other) - 2
    if free < 1:
        return 0.0
    squares = float(((one - one.mean()) ** 2).sum() + ((other - other.mean()) ** 2).sum())
    return math.sqrt(squares / free * (1 / len(one) + 1 / len(other)))
