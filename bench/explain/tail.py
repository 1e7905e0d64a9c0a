"""The tail: the time that slow requests add to typical ones, term by term, with intervals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .stages import TERMS, Account, at_quantile, band_around, tail_contributions

MEDIAN, TAIL = 0.50, 0.99
BLOCKS = 32
RESAMPLES = 400
CONFIDENCE = 0.95
# With fewer requests the two bands are too small to resample, and the point estimate has no interval.
MIN_REQUESTS = 1_000

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Contribution:
    """The part of one term in the gap between median and tail, in ms and as a share, with 95 % intervals.

    Shares add up to 1. A share exceeds 1 if another term shrinks towards the tail. ``share``: None unless the gap is
    above 0. Intervals: None for a short run.
    """

    ms: float
    low_ms: float | None
    high_ms: float | None
    share: float | None
    low_share: float | None
    high_share: float | None


@dataclass(frozen=True, slots=True)
class Attribution:
    """The gap between the bands around p50 and p99, and its terms. ``method``: of the intervals, None without them."""

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
    """Attribute the gap between p50 and p99 to the terms of the account; None with too few requests.

    Intervals: block bootstrap over 32 stretches of time, because requests in the same queue, pause or burst are not
    independent. The same run and seed give the same intervals.
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

    Unlike the bands it uses every request, and the slowest ones dominate it. None without variance.
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
    """The contribution of each term, in ms, in each bootstrap sample: float64 [RESAMPLES, terms].

    Requests are binned by rank once, with sums by block and bin. A bootstrap sample is a weighted sum of blocks, so
    that its cost does not depend on the number of requests.
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
    """The number of requests by block of time and bin of latency [blocks, bins], and the sums of their terms in ms."""
    total = len(account.total_ns)
    # Fine bins are needed only where the edges of a band may lie in a bootstrap sample.
    edges = np.concatenate([np.linspace(0, 0.3, 10), np.linspace(0.3, 0.7, 201), np.linspace(0.7, 0.94, 25)])
    edges = np.unique(np.round(np.concatenate([edges, np.linspace(0.94, 1, 601)]) * total).astype(np.int64))
    bins = len(edges) - 1
    bin_of = np.empty(total, dtype=np.int64)
    bin_of[account.order] = np.repeat(np.arange(bins), np.diff(edges))
    # Blocks of equal counts, because no request is sent between two repeats.
    block_of = np.arange(total) * BLOCKS // total
    cell = block_of * bins + bin_of
    counts = np.bincount(cell, minlength=BLOCKS * bins).reshape(BLOCKS, bins).astype(np.float64)
    sums = [np.bincount(cell, weights=term, minlength=BLOCKS * bins) for term in account.terms_ns.T]
    return counts, np.stack(sums, axis=-1).reshape(BLOCKS, bins, len(TERMS)) / 1e6


def _band_mean(count: Floats, means: Floats, quantile: float) -> Floats:
    """The mean of each term in a band; a bin across its edge counts in part."""
    above = np.cumsum(count)
    low, high = (bound * above[-1] for bound in band_around(quantile))
    inside = np.clip(np.minimum(above, high) - np.maximum(above - count, low), 0, None)
    return np.asarray(inside @ means / inside.sum(), dtype=np.float64)
