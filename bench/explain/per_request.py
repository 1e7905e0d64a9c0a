"""Figures per request: what the server says of single requests, for typical and slow ones: queue, padding, cache."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from . import batches
from .stages import TERMS, Account

MOST_UNTOLD = 0.5
"""Of the requests that a figure needs; with more the figure is unknown."""
Indices = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class PerRequest:
    """A figure is None where the server does not tell what it needs.

    ``ahead``, ``ahead_slow``: rows that waited in the queue when a typical request, and one around p99, joined it.
    ``padded_ms``, ``padded_slow_ms``: the part of their runs that went into padding, by positions (rows x length).
    ``cached``: the share of the requests that the response cache answered, within ``cached_ms`` (median); ``ran_ms``:
    median latency of the others, and ``compute_ms`` the median time of their runs; None without any of them.
    """

    ahead: float | None = None
    ahead_slow: float | None = None
    padded_ms: float | None = None
    padded_slow_ms: float | None = None
    cached: float = 0.0
    cached_ms: float | None = None
    ran_ms: float | None = None
    compute_ms: float | None = None


def of(account: Account, typical: Indices, tail: Indices) -> PerRequest | None:
    """What the server told; None for one that tells nothing. ``typical``, ``tail``: requests of the account."""
    about = account.about
    if not (about["rows"] > 0).any():
        return None
    compute_ns = account.terms_ns[:, TERMS.index("compute")]
    cached = about["cached"] > 0
    lost_ms = _padded_ms(account, compute_ns)
    ahead = np.where(about["ahead"] >= 0, about["ahead"], np.nan)
    return PerRequest(
        ahead=_mean(ahead, typical),
        ahead_slow=_mean(ahead, tail),
        padded_ms=_mean(lost_ms, typical),
        padded_slow_ms=_mean(lost_ms, tail),
        cached=float(cached.mean()),
        cached_ms=_median_ms(account.total_ns[cached]),
        ran_ms=_median_ms(account.total_ns[~cached]),
        compute_ms=_median_ms(compute_ns[~cached]),
    )


def _padded_ms(account: Account, compute_ns: NDArray[np.int64]) -> NDArray[np.float64]:
    """The time that each request's run spent on padding, of all requests in it; NaN where lengths are unknown."""
    lost = np.full(len(account.batch), np.nan)
    order, first = batches.group(account)
    if not len(first):
        return lost
    rows, length, padded = (account.about[name][order] for name in ("rows", "length", "padded"))
    known = (rows > 0) & (length > 0) & (padded > 0)
    own = np.add.reduceat(np.where(known, rows * length, 0), first)
    whole = np.add.reduceat(np.where(known, rows * padded, 0), first)
    waste = np.repeat(1 - own / np.maximum(whole, 1), np.diff(np.append(first, len(order))))
    lost[order] = np.where(known, waste * compute_ns[order] / 1e6, np.nan)
    return lost


def _mean(values: NDArray[np.float64], members: Indices) -> float | None:
    of = values[members]
    untold = np.isnan(of)
    return float(of[~untold].mean()) if len(of) and untold.mean() <= MOST_UNTOLD else None


def _median_ms(values_ns: NDArray[np.int64]) -> float | None:
    return float(np.median(values_ns)) / 1e6 if len(values_ns) else None
