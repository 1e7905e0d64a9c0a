"""Dispersion: how bursty the offered load was, which no mean rate tells."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

WINDOWS_S = (0.01, 0.1, 1.0)
MIN_WINDOWS = 20
MIN_PER_WINDOW = 0.5


@dataclass(frozen=True, slots=True)
class Dispersion:
    """Var / mean of the number of arrivals in windows of ``window_s``: 0 even, 1 Poisson, above 1 bursty."""

    window_s: float
    windows: int
    index: float


def dispersion(due_ns: NDArray[np.int64], start_s: float, end_s: float) -> tuple[Dispersion, ...]:
    """The index of dispersion for counts at each time scale that the run is long and busy enough for.

    ``due_ns``: int64 [n], intended instants in [start_s, end_s) after the start of the load.
    """
    found = []
    for window_s in WINDOWS_S:
        windows = int((end_s - start_s) / window_s + 1e-9)
        if windows < MIN_WINDOWS:
            continue
        edges = start_s * 1e9 + np.arange(windows + 1) * window_s * 1e9
        counts, _ = np.histogram(due_ns, bins=edges)
        mean = float(counts.mean())
        if mean >= MIN_PER_WINDOW:
            found.append(Dispersion(window_s, windows, float(counts.var(ddof=1)) / mean))
    return tuple(found)
