"""Dispersion: the burstiness of the offered load."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..observe.timeline import Span

WINDOWS_S = (0.01, 0.1, 1.0)
MIN_WINDOWS = 20
MIN_PER_WINDOW = 0.5


@dataclass(frozen=True, slots=True)
class Dispersion:
    """Var / mean of the number of arrivals in windows of ``window_s``: 0 even, 1 Poisson, above 1 bursty."""

    window_s: float
    windows: int
    index: float


def dispersion(due_ns: NDArray[np.int64], stretches: Sequence[Span]) -> tuple[Dispersion, ...]:
    """The index of dispersion for counts at each time scale with enough windows and arrivals.

    ``due_ns``: int64 [n], ascending intended instants. Windows lie within a measured stretch.
    """
    found = []
    for window_s in WINDOWS_S:
        counts = np.concatenate([_counts(due_ns, *stretch, window_s) for stretch in stretches])
        if len(counts) < MIN_WINDOWS:
            continue
        mean = float(counts.mean())
        if mean >= MIN_PER_WINDOW:
            found.append(Dispersion(window_s, len(counts), float(counts.var(ddof=1)) / mean))
    return tuple(found)


def _counts(due_ns: NDArray[np.int64], start_s: float, end_s: float, window_s: float) -> NDArray[np.int64]:
    windows = int((end_s - start_s) / window_s + 1e-9)
    edges = start_s * 1e9 + np.arange(windows + 1) * window_s * 1e9
    return np.diff(np.searchsorted(due_ns, edges))
