"""The comparison of two servers, or of two records: a ratio of percentiles, its interval and a verdict."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from statistics import fmean, stdev

import numpy as np
from numpy.typing import NDArray

from ..errors import Unusable
from ..result.objective import quantile
from ..result.statistics import order_statistic, percentile_name, t_975

RESAMPLES = 400
RESAMPLED_BLOCKS = 20
"""Blocks of consecutive requests in each bootstrap sample."""
SCHEMA = "slipway.bench.compare/1"


@dataclass(frozen=True, slots=True)
class Gate:
    """A limit for CI: at ``quantile``, B may be slower than A by the share ``allowed`` (0.05: 5 %)."""

    quantile: float
    allowed: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """The result of a comparison.

    ``ratio``: B's percentile over A's, with a 95 % interval; above 1, B is slower. ``verdict``: faster, slower, or no
    difference beyond the margin; undecided if the interval is too wide. ``pairs``: the ratio of each pair of blocks, if
    both servers were loaded in turn. ``notes``: differences between the two loads. ``partial``: the load ended before
    the last pair, by Ctrl-C or by a lost server.
    """

    quantile: float
    ratio: float
    low: float
    high: float
    margin: float
    verdict: str
    method: str
    pairs: tuple[float, ...]
    partial: bool = False
    notes: tuple[str, ...] = ()
    schema: str = field(default=SCHEMA)


def gate(text: str) -> Gate:
    """The gate that ``p99:+5%`` describes. Raises Unusable."""
    match = re.fullmatch(r"(p[\d.]+):\+?(\d+(?:\.\d+)?)%", text)
    if match is None:
        raise Unusable(f"cannot read the gate {text!r}: write p99:+5%")
    return Gate(quantile(match[1]), float(match[2]) / 100)


def order(pairs: int) -> Iterator[str]:
    """The order of the blocks: AB, BA, AB, ... A drift of the machine then slows both sides alike."""
    for index in range(pairs):
        yield "AB" if index % 2 == 0 else "BA"


def of_pairs(q: float, a_ms: Sequence[float], b_ms: Sequence[float], margin: float) -> Comparison:
    """The comparison of paired blocks, from the percentile of each block: Student's interval over log ratios."""
    ratio, low, high = ratio_of_pairs(a_ms, b_ms)
    ratios = tuple(b / a for a, b in zip(a_ms, b_ms, strict=True))
    return _comparison(q, ratio, low, high, margin, "interleaved pairs", ratios)


def ratio_of_pairs(a: Sequence[float], b: Sequence[float]) -> tuple[float, float, float]:
    """The geometric mean of b/a over pairs of positive values, and its 95 % interval (unbounded for one pair)."""
    logs = [math.log(b_value / a_value) for a_value, b_value in zip(a, b, strict=True)]
    mean = fmean(logs)
    half = t_975(len(logs) - 1) * stdev(logs) / math.sqrt(len(logs)) if len(logs) > 1 else math.inf
    return math.exp(mean), math.exp(mean - half), math.exp(min(mean + half, 700.0))


def of_records(q: float, a_ns: NDArray[np.int64], b_ns: NDArray[np.int64], margin: float) -> Comparison:
    """The comparison of two runs at different times, by a circular block bootstrap of each.

    ``a_ns``, ``b_ns``: int64 [n], latencies in the order of intended instants. A drift of the machine between the runs
    changes the ratio, and the interval does not cover it.
    """
    ratio = _quantile(b_ns, q) / _quantile(a_ns, q)
    random = np.random.default_rng(0)
    ratios = [_resampled(b_ns, q, random) / _resampled(a_ns, q, random) for _ in range(RESAMPLES)]
    low, high = np.quantile(ratios, [0.025, 0.975])
    return _comparison(q, ratio, float(low), float(high), margin, "block bootstrap", ())


def failed(comparison: Comparison, limit: Gate) -> bool:
    """Whether the best estimate exceeds what the gate allows, and the whole interval lies above 1."""
    return comparison.ratio > 1 + limit.allowed and comparison.low > 1


def holds(comparison: Comparison, limit: Gate) -> bool:
    """Whether the whole interval lies within what the gate allows. A gate that neither holds nor fails is undecided."""
    return comparison.high <= 1 + limit.allowed


def summary(comparison: Comparison) -> str:
    """The result in one line of text."""
    name = percentile_name(comparison.quantile)
    interval = f"[{comparison.low:.3f}, {comparison.high:.3f}]"
    return f"{name} of B is {comparison.ratio:.3f} times that of A {interval}: {comparison.verdict}"


def _comparison(
    q: float, ratio: float, low: float, high: float, margin: float, method: str, pairs: tuple[float, ...]
) -> Comparison:
    if low > 1 + margin:
        verdict = f"B is slower, by more than {margin:.0%}"
    elif high < 1 / (1 + margin):
        verdict = f"B is faster, by more than {margin:.0%}"
    elif low >= 1 / (1 + margin) and high <= 1 + margin:
        verdict = f"no difference beyond {margin:.0%}"
    elif low > 1:
        verdict = "B is slower"
    elif high < 1:
        verdict = "B is faster"
    else:
        verdict = "undecided: more or longer blocks are needed"
    return Comparison(q, ratio, low, high, margin, verdict, method, pairs)


def _quantile(latency_ns: NDArray[np.int64], q: float) -> int:
    return max(order_statistic(np.sort(latency_ns), q), 1)


def _resampled(latency_ns: NDArray[np.int64], q: float, rng: np.random.Generator) -> int:
    """The quantile of one bootstrap sample, in ns. Blocks that reach past the last request continue at the first."""
    count = len(latency_ns)
    length = max(1, count // RESAMPLED_BLOCKS)
    starts = rng.integers(0, count, size=math.ceil(count / length))
    sample = latency_ns[((starts[:, None] + np.arange(length)) % count).ravel()[:count]]
    rank = math.ceil(q * count) - 1
    return max(int(np.partition(sample, rank)[rank]), 1)
