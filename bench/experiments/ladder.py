"""The ladder: short runs at rising rates, until the server is saturated."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ..errors import Unusable
from ..result.record import RunRecord
from ..result.statistics import Percentile

ATTEMPTS = 3
KEPT_UP = 0.95
"""The server is saturated if its goodput is below this share of the offered rate."""


@dataclass(frozen=True, slots=True)
class Rung:
    """The result of one rate, or of one number of users.

    ``generator``: the load generator was the limit, not the server. ``latency``: None for an invalid run; a percentile
    that is refused is missing. ``errors``: the most frequent failure with its first message; empty without one.
    ``offered_per_s``: the rate of the arrivals that were drawn, which in a short run is not the asked ``rate_per_s``.
    """

    rate_per_s: float | None
    users: int | None
    seed: int
    sent_per_s: float
    goodput_per_s: float
    error_share: float
    requests: int
    latency: dict[str, Percentile] | None
    generator: bool
    reasons: tuple[str, ...]
    errors: str = ""
    offered_per_s: float | None = None

    @property
    def name(self) -> str:
        return f"{self.rate_per_s:g} requests/s" if self.rate_per_s is not None else f"{self.users} users"

    @property
    def saturated(self) -> bool:
        offered = self.offered_per_s if self.offered_per_s is not None else self.rate_per_s
        return offered is not None and self.goodput_per_s < KEPT_UP * offered


Measure = Callable[[float, int | None], Rung]
"""Measures a rate, with the configured seed (None) or another one."""


def rung(record: RunRecord) -> Rung:
    """A run as one point of a curve."""
    return Rung(
        rate_per_s=record.load.rate_per_s,
        users=record.load.users,
        seed=record.load.seed,
        sent_per_s=record.throughput.sent_per_s,
        goodput_per_s=record.throughput.goodput_per_s,
        error_share=sum(one.share for one in record.errors),
        requests=record.window.requests,
        latency=record.latency.corrected,
        generator=record.validity.generator_bound,
        reasons=record.validity.reasons,
        errors=_most_frequent(record),
        offered_per_s=record.throughput.offered_per_s if record.load.mode == "open" else None,
    )


def _most_frequent(record: RunRecord) -> str:
    if not record.errors:
        return ""
    first = record.errors[0]
    return f"{first.kind}: {first.message}" if first.message else first.kind


def rates(text: str) -> tuple[float, ...]:
    """``50,100,200``, or ``50..800x5`` for five in equal ratios. Raises Unusable."""
    try:
        if ".." not in text:
            found = [float(one) for one in text.split(",")]
        else:
            first, _, rest = text.partition("..")
            last, _, steps = rest.partition("x")
            low, high, count = float(first), float(last), int(steps or "6")
            found = [low * (high / low) ** (step / (count - 1)) for step in range(count)]
    except (ValueError, ZeroDivisionError) as error:
        raise Unusable(f"cannot read {text!r}: write 50,100,200 or 50..800x5") from error
    if not found or not all(math.isfinite(one) and one > 0 for one in found):
        raise Unusable(f"cannot read {text!r}: write positive numbers")
    return tuple(round(one, 3) for one in sorted(found))


def climb(measure: Measure, steps: Iterable[float]) -> list[Rung]:
    """Every step in turn, until the first saturated one. Higher rates would only lengthen the queue.

    A step in which the generator was the limit is measured again, because other programs may have used its machine.
    """
    climbed = []
    for step in steps:
        climbed.append(patiently(measure, step))
        if climbed[-1].saturated or climbed[-1].generator:
            break
    return climbed


def patiently(measure: Measure, rate_per_s: float, seed: int | None = None) -> Rung:
    """The first measurement without the generator as the limit, or the last of ``ATTEMPTS``, each with a new seed."""
    found = measure(rate_per_s, seed)
    for attempt in range(1, ATTEMPTS):
        if not found.generator:
            break
        found = measure(rate_per_s, None if seed is None else seed + attempt)
    return found


def capacity_per_s(climbed: Iterable[Rung]) -> float | None:
    """The highest goodput per second; None if no rate saturated the server, which leaves the capacity unknown."""
    rungs = list(climbed)
    if not any(one.saturated and not one.generator for one in rungs):
        return None
    return max(one.goodput_per_s for one in rungs)


def first_rates(floor_ms: float, usable_per_s: float, count: int) -> tuple[float, ...]:
    """``count`` rates for a first ladder, from the latency of a single caller.

    They reach from a tenth of its rate to eight times that rate, which batching and several instances may give, and at
    most to the reliable rate of the generator.
    """
    alone = 1e3 / max(floor_ms, 1e-3)
    low, high = alone / 10, min(8 * alone, usable_per_s)
    return rates(f"{min(low, high / 4)}..{high}x{count}")
