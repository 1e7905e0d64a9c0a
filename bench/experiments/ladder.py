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

    ``generator``: the load generator was the limit, not the server. ``latency``: None for an invalid run; refused
    percentiles are missing. ``errors``: the most frequent failure with its first message; empty without failures.
    ``offered_per_s``: the rate of the random arrivals, which in a short run differs from the configured ``rate_per_s``.
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
"""Measures a rate in requests/s with a seed; None for the configured seed."""


def rung(record: RunRecord) -> Rung:
    """A run as one point of the curve of latency over rate."""
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
    """The rates that ``50,100,200`` lists, or five in equal ratios for ``50..800x5``; ascending.

    Raises Unusable for another text, and for rates that are not positive.
    """
    try:
        if ".." not in text:
            parsed = [float(rate) for rate in text.split(",")]
        else:
            first, _, rest = text.partition("..")
            last, _, steps = rest.partition("x")
            low, high, count = float(first), float(last), int(steps or "6")
            parsed = [low * (high / low) ** (step / (count - 1)) for step in range(count)]
    except (ValueError, ZeroDivisionError) as error:
        raise Unusable(f"cannot read {text!r}: write 50,100,200 or 50..800x5") from error
    if not parsed or not all(math.isfinite(rate) and rate > 0 for rate in parsed):
        raise Unusable(f"cannot read {text!r}: write positive numbers")
    return tuple(round(rate, 3) for rate in sorted(parsed))


def climb(measure: Measure, steps: Iterable[float]) -> list[Rung]:
    """Measure the steps in turn, until the server is saturated or the generator is the limit.

    At higher rates the queue only grows. A step in which the generator was the limit is measured up to ``ATTEMPTS``
    times, because other programs may have used its machine.
    """
    rungs = []
    for step in steps:
        rungs.append(patiently(measure, step))
        if rungs[-1].saturated or rungs[-1].generator:
            break
    return rungs


def patiently(measure: Measure, rate_per_s: float, seed: int | None = None) -> Rung:
    """The first measurement in which the generator was not the limit, or the last of ``ATTEMPTS``.

    Each attempt after the first adds one to ``seed``; None keeps the configured seed.
    """
    result = measure(rate_per_s, seed)
    for attempt in range(1, ATTEMPTS):
        if not result.generator:
            break
        result = measure(rate_per_s, None if seed is None else seed + attempt)
    return result


def capacity_per_s(curve: Iterable[Rung]) -> float | None:
    """The highest goodput in requests/s; None if no rate saturated the server, so that its capacity is unknown."""
    rungs = list(curve)
    if not any(one.saturated and not one.generator for one in rungs):
        return None
    return max(one.goodput_per_s for one in rungs)


def first_rates(floor_ms: float, usable_per_s: float, count: int) -> tuple[float, ...]:
    """``count`` rates for a first ladder. ``floor_ms``: the latency of a single caller in a closed loop.

    The rates range from a tenth of the rate of that caller to eight times its rate, which batching and several
    instances may reach. ``usable_per_s``: the reliable rate of the generator, which limits them.
    """
    single_caller_per_s = 1e3 / max(floor_ms, 1e-3)
    low, high = single_caller_per_s / 10, min(8 * single_caller_per_s, usable_per_s)
    return rates(f"{min(low, high / 4)}..{high}x{count}")
