"""Transfer: how long bodies were on their way, what that says of the link, and what it cannot say.

Measured: when a request's first and last byte were written, when its server had the last one (its ``receive``), when
the reply's first and last byte came, and the same against an echo server on this machine. Inferred: the rate of the
link, of which an effective rate is a lower bound, since requests that overlap share it and small ones hardly use it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..load.measurements import Outcome
from ..load.server_timing import MISSING, STAGES

MIN_PER_SIZE = 20
MIN_RATIO = 2.0
"""Sizes closer together than this say nothing of a slope."""
Columns = dict[str, NDArray[np.int64]]


@dataclass(frozen=True, slots=True)
class Loopback:
    """What calibration measured here, without a network: a body of so many bytes took ``extra_us`` longer to be
    answered than an empty one."""

    body_bytes: int
    extra_us: float


@dataclass(frozen=True, slots=True)
class Slope:
    """Time outside the server's work over the request's size: ``us_per_kb`` is what the way costs each kB, and
    ``base_ms`` what it costs whatever the size (round trip, accepting)."""

    us_per_kb: float
    base_ms: float
    sizes: int

    @property
    def bytes_per_s(self) -> float | None:
        """The link's rate as the slope has it; None where a larger body was not slower."""
        return 1e9 / self.us_per_kb if self.us_per_kb > 0 else None


def slope(window: Columns) -> Slope | None:
    """A line through the median of each size of request, weighted by how many there were; None for too few sizes."""
    worked = sum(np.maximum(window[f"{stage}_ns"], 0) for stage in STAGES if stage != "receive")
    known = (window["outcome"] == Outcome.OK) & (window["send_ns"] != MISSING)
    way_ms = ((window["last_byte_ns"] - window["send_ns"] - worked) / 1e6)[known]
    sizes, of, counts = np.unique(window["bytes_out"][known], return_inverse=True, return_counts=True)
    kept = np.flatnonzero(counts >= MIN_PER_SIZE)
    if len(kept) < 2 or sizes[kept[-1]] < MIN_RATIO * max(int(sizes[kept[0]]), 1):
        return None
    medians = np.array([np.median(way_ms[of == at]) for at in kept])
    per_byte_ms, base_ms = np.polyfit(sizes[kept].astype(np.float64), medians, 1, w=np.sqrt(counts[kept]))
    return Slope(float(per_byte_ms) * 1e6, float(base_ms), len(kept))
