"""The schedule: the intended instants of all requests, fixed before the first one is sent."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from ..errors import Unusable
from . import arrivals
from .arrivals import Process, Recorded

MAX_ARRIVALS = 5_000_000


@dataclass(frozen=True, slots=True, eq=False)
class Schedule:
    """Arrivals of an open loop.

    ``offsets_ns``: int64 [n], ascending, nanoseconds after the start of the load, all in [0, ``duration_s``). They are
    fixed before the start and never moved: a request that is sent late is late. ``first`` and ``step`` number them: the
    i-th is request ``first + i * step`` of the whole load, of which this may be one process's share.
    ``payload_names``: the payload that a trace names for each request; empty without a trace.
    """

    rate_per_s: float
    duration_s: float
    offsets_ns: NDArray[np.int64]
    payload_names: tuple[str | None, ...] = field(default=())
    first: int = 0
    step: int = 1

    def share(self, part: int, parts: int) -> Schedule:
        """Every ``parts``-th arrival, from the ``part``-th: the shares together are exactly this schedule.

        Shares are dealt by index and not drawn again at rate / parts, so that a seed means the same load for any number
        of processes.
        """
        offsets_ns = np.ascontiguousarray(self.offsets_ns[part::parts])
        return replace(self, rate_per_s=self.rate_per_s / parts, offsets_ns=offsets_ns, first=part, step=parts)


def build(spec: str | Process, rate_per_s: float | None, duration_s: float, seed: int) -> Schedule:
    """The schedule of a process of arrivals, or of a user's text for one.

    ``duration_s`` is ignored by processes that have their own, and a rate beside theirs is refused. Raises Unusable for
    a rate or duration that makes no load.
    """
    process = arrivals.parse(spec) if isinstance(spec, str) else spec
    rate, lasts_s = _rate_per_s(process, rate_per_s), process.duration_s or duration_s
    if not (math.isfinite(lasts_s) and lasts_s > 0):
        raise Unusable(f"the duration must be a positive number of seconds, not {lasts_s:g}")
    if rate * lasts_s > MAX_ARRIVALS:
        raise Unusable(
            f"{rate:g} requests/s for {lasts_s:g} s is more than {MAX_ARRIVALS:,} requests: "
            "shorten the run or lower the rate"
        )
    offsets = process.offsets_ns(rate, lasts_s, seed)
    names = process.recorded.payloads if isinstance(process, Recorded) else ()
    return Schedule(rate, lasts_s, offsets, names[: len(offsets)])


def _rate_per_s(process: Process, asked: float | None) -> float:
    if process.rate_per_s is not None:
        if asked is not None:
            raise Unusable(f"the arrivals {process.spec!r} have a rate of their own: leave --rate out")
        return process.rate_per_s
    if asked is None:
        raise Unusable(f"the arrivals {process.spec!r} need a rate: give --rate")
    if not (math.isfinite(asked) and asked > 0):
        raise Unusable(f"the rate must be a positive number of requests per second, not {asked:g}")
    return asked
