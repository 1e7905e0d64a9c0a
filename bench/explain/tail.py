"""The tail: what slow requests take on top of typical ones, term by term, and how sure that is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .stages import TERMS, Account, at_quantile, band_around, tail_contributions

MEDIAN, TAIL = 0.50, 0.99
BLOCKS = 32
RESAMPLES = 400
CONFIDENCE = 0.95
# Below this many requests the two bands hold too few to resample: the point estimate stands alone.
MIN_REQUESTS = 1_000

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Contribution:
    """What one term adds to the gap between median and tail, in ms and as a share of the gap; 95 % intervals.

    Shares add up to 1. One of them is above 1 when another term shrinks towards the tail. None where the gap is not
    above zero (``share``) or the run too short for an interval.
    """

    ms: float
    low_ms: float | None
    high_ms: float | None
    share: float | None
    low_share: float | None
    high_share: float | None


@dataclass(frozen=True, slots=True)
class Attribution:
    """The gap between the band around p50 and the band around p99, and the terms that it is made of."""

    median_band: tuple[float, float]
    tail_band: tuple[float, float]
    median_ms: float
    tail_ms: float
    gap_ms: float
    low_ms: float | None
    high_ms: float | None
    terms: dict[str, Contribution]
    method: str | None


def attribute(account: Account, seed: int = 0) -> Attribution | None:
    """Charge the gap between p50 and p99 to the terms of the account; None when there are too few requests.

    Intervals: block bootstrap over 32 stretches of time, because requests that shared a queue, a pause or a burst are
    not independent. The same run and seed give the same intervals.
    """
    median, tail = at_quantile(account, MEDIAN), at_quantile(account, TAIL)
    if median is None or tail is None:
        return None
    gap_ms = tail.total_ms - median.total_ms
    points = tail_contributions(median, tail)
    drawn = _resampled_gaps(account, seed) if len(account.total_ns) >= MIN_REQUESTS else None
    terms = {
        name: _contribution(points[name], gap_ms, drawn[:, at] if drawn is not None else None, drawn)
        for at, name in enumerate(TERMS)
    }
    low_ms, high_ms = _interval(drawn.sum(axis=1)) if drawn is not None else (None, None)
    return Attribution(
        median_band=(median.low, median.high),
        tail_band=(tail.low, tail.high),
        median_ms=median.total_ms,
        tail_ms=tail.total_ms,
        gap_ms=gap_ms,
        low_ms=low_ms,
        high_ms=high_ms,
        terms=terms,
        method=f"block bootstrap over {BLOCKS} stretches of time" if drawn is not None else None,
    )


def variance_shares(account: Account) -> dict[str, float] | None:
    """Cov(term, total) / Var(total) of each term: shares of the variance of latency over all requests, adding up to 1.

    The companion of the bands: it looks at every request, and is ruled by the slowest. None where nothing varies.
    """
    if len(account.total_ns) < 2:
        return None
    total = account.total_ns - account.total_ns.mean()
    variance = float(total @ total)
    if variance <= 0:
        return None
    # The mean of the terms cancels, because the centred total sums to zero.
    shares = np.asarray(total @ account.terms_ns, dtype=np.float64) / variance
    return dict(zip(TERMS, shares.tolist(), strict=True))


def _contribution(ms: float, gap_ms: float, own: Floats | None, drawn: Floats | None) -> Contribution:
    share = ms / gap_ms if gap_ms > 0 else None
    if own is None or drawn is None:
        return Contribution(ms, None, None, share, None, None)
    low_ms, high_ms = _interval(own)
    if share is None:
        return Contribution(ms, low_ms, high_ms, None, None, None)
    gaps = drawn.sum(axis=1)
    positive = gaps > 0
    low_share, high_share = _interval(own[positive] / gaps[positive]) if positive.any() else (None, None)
    return Contribution(ms, low_ms, high_ms, share, low_share, high_share)


def _interval(values: Floats) -> tuple[float, float]:
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)


def _resampled_gaps(account: Account, seed: int) -> Floats:
    """The contribution of each term, in ms, in each of ``RESAMPLES`` redrawn runs: float64 [resamples, terms].

    Requests are put into bins by their rank once, and sums are kept by block and bin; a redrawn run is a weighted sum
    of blocks, so that its cost does not depend on how many requests there were.
    """
    counts, sums_ms = _by_block_and_bin(account)
    weights = np.random.default_rng(seed).multinomial(BLOCKS, np.full(BLOCKS, 1 / BLOCKS), size=RESAMPLES)
    gaps = np.empty((RESAMPLES, len(TERMS)))
    flat = sums_ms.reshape(BLOCKS, -1)
    for at, weight in enumerate(weights):
        count = weight @ counts
        sums = (weight @ flat).reshape(len(count), len(TERMS))
        means = sums / np.maximum(count, 1)[:, None]
        gaps[at] = _band_mean(count, means, TAIL) - _band_mean(count, means, MEDIAN)
    return gaps


def _by_block_and_bin(account: Account) -> tuple[Floats, Floats]:
    """How many requests each block of time has in each bin of latency [blocks, bins], and their terms' sums in ms."""
    total = len(account.total_ns)
    # Ranks need fine bins only where a band's edges may come to lie in a redrawn run.
    edges = np.concatenate([np.linspace(0, 0.3, 10), np.linspace(0.3, 0.7, 201), np.linspace(0.7, 0.94, 25)])
    edges = np.unique(np.round(np.concatenate([edges, np.linspace(0.94, 1, 601)]) * total).astype(np.int64))
    bins = len(edges) - 1
    bin_of = np.empty(total, dtype=np.int64)
    bin_of[account.order] = np.repeat(np.arange(bins), np.diff(edges))
    # As many requests in each: between two repeats is time in which nothing was asked.
    block_of = np.arange(total) * BLOCKS // total
    cell = block_of * bins + bin_of
    counts = np.bincount(cell, minlength=BLOCKS * bins).reshape(BLOCKS, bins).astype(np.float64)
    sums = [np.bincount(cell, weights=term, minlength=BLOCKS * bins) for term in account.terms_ns.T]
    return counts, np.stack(sums, axis=-1).reshape(BLOCKS, bins, len(TERMS)) / 1e6


def _band_mean(count: Floats, means: Floats, quantile: float) -> Floats:
    """The mean of each term between a band's two ranks; a bin that an edge cuts counts in part."""
    above = np.cumsum(count)
    low, high = (bound * above[-1] for bound in band_around(quantile))
    inside = np.clip(np.minimum(above, high) - np.maximum(above - count, low), 0, None)
    return np.asarray(inside @ means / inside.sum(), dtype=np.float64)
