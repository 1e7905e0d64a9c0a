"""Transfer: the time of bodies on the link, and the rate of the link that follows from it.

Measured: the first and the last written byte of a request, the instant at which the server had the last byte
(``receive``), the first and the last byte of the response, and the same with an echo server on this machine. Inferred:
the rate of the link. An effective rate is a lower bound, because overlapping requests share the link.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..load.measurements import Outcome
from ..load.server_timing import MISSING, STAGES

MIN_PER_SIZE = 20
MIN_RATIO = 2.0
"""The smallest ratio of sizes that shows a slope."""
Columns = dict[str, NDArray[np.int64]]


@dataclass(frozen=True, slots=True)
class Loopback:
    """Calibration without a network: a body of ``body_bytes`` took ``extra_us`` longer than an empty one."""

    body_bytes: int
    extra_us: float


@dataclass(frozen=True, slots=True)
class Slope:
    """The time outside the server's stages over the size of the request.

    ``us_per_kb``: cost of each kB. ``base_ms``: cost at any size (round trip, accepting).
    """

    us_per_kb: float
    base_ms: float
    sizes: int

    @property
    def bytes_per_s(self) -> float | None:
        """The rate of the link by the slope; None if larger bodies were not slower."""
        return 1e9 / self.us_per_kb if self.us_per_kb > 0 else None


def slope(window: Columns) -> Slope | None:
    """A line through the median of each size of request, weighted by its count; None with too few sizes."""
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
