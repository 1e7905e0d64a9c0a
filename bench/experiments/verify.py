"""Verification: a forecast against the observation, with the server as it was and as it is changed, in turn."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from statistics import geometric_mean

from ..errors import Unusable
from ..explain.changes import Change
from ..explain.forecast import REPLAYS_WITHIN, Forecast
from ..explain.ratio import Ratio
from ..explain.workload import NoForecast
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
    sides: dict[str, Variant],
    rounds: int,
    watch: Callable[[], Watch | None],
    created: str,
) -> Verification:
    """Load both sides in turn, and hold the forecast against what was observed. Raises Outdated, and what
    ``blocks.in_turn`` raises."""
    seen = blocks.in_turn(sides, rounds, watch)
    _check_record(found, [one["old"] for one in seen])
    observed = {name: blocks.ratio(seen, "new", "old", name) for name in blocks.NAMES}
    told = {name: Ratio(one.ratio, one.low, one.high) for name, one in found.predictions.items()}
    kind = SLOWDOWN if found.change.extra_us else found.change.kind
    return Verification(created, kind, found.words, told, observed)


def _check_record(found: Forecast, unchanged: Sequence[Milliseconds]) -> None:
    """Raises Outdated where the unchanged server differs from its record by more than a replay of the record may."""
    for name, within in REPLAYS_WITHIN.items():
        now_ms = geometric_mean([one[name] for one in unchanged])
        ratio = now_ms / found.predictions[name].base_ms
        if abs(math.log(ratio)) > math.log1p(within):
            raise Outdated(
                f"the unchanged server has {ratio:.2f} times the {name} of its record now, and may differ by "
                f"{within:.0%}: record it again"
            )
