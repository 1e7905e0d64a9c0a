"""Decisions: who is accurate enough, who is faster, and with how many threads. Pure: numbers in, sentences out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from . import bootstrap
from .bootstrap import Interval
from .candidates import FLOAT32
from .evaluate import Accuracy, Allowance
from .measure import Cell, Layout, Timings

Objective = Literal["throughput", "latency"]

WORTH_IT = 1.02
"""A candidate has to earn two percent: every step away from the reference is one more thing that can go wrong."""

THREAD_GAIN = 1.05
"""More threads or instances have to earn five percent: what they occupy is taken from everything else on the host."""

FINALISTS = 5
"""So many candidates, besides the reference, are measured at length."""

BEHIND = 0.7
"""Whoever reaches less than this share of the fastest in the heat does not reach the final, even if there is room."""


def not_accurate(metric: str, accuracy: Accuracy, reference: Accuracy, allowed: Allowance) -> str | None:
    """Why a candidate is not accurate enough, or None when it is.

    The upper end of the drop's interval has to stay within the allowance, not just the drop: with few rows a small
    drop proves nothing. (A test of non-inferiority at 2.5 %, one-sided.)
    """
    limit = allowed.limit(reference.score.value)
    scores = f"{metric} {accuracy.score.value:.4g} against {reference.score.value:.4g}, allowed drop {allowed.text}"
    if accuracy.drop.value > limit:
        return f"not accurate enough: {scores}"
    if accuracy.drop.high > limit:
        return (
            f"not shown to be accurate enough: {scores}; with these {accuracy.rows} rows "
            f"the drop may be as large as {accuracy.drop.high:.3g}, more than {limit:.3g}"
        )
    return None


def best_cell(timings: Timings, candidate: str, objective: Objective) -> Cell:
    """Where this candidate does best: the shortest run of the smallest batch, or the most rows a second of all sizes.

    Cells with fewer threads, then with smaller batches, are preferred until a gain of ``THREAD_GAIN`` or ``WORTH_IT``.
    """
    cells = [cell for cell in timings if cell.candidate == candidate]
    smallest = min(cell.batch_size for cell in cells)
    eligible = [cell for cell in cells if objective == "throughput" or cell.batch_size == smallest]
    best, *others = sorted(eligible, key=lambda cell: (cell.threads, cell.batch_size))
    for cell in others:
        needed = THREAD_GAIN if cell.threads > best.threads else WORTH_IT
        if _rows_per_s(timings, cell) >= needed * _rows_per_s(timings, best):
            best = cell
    return best


def speed_up(timings: Timings, cell: Cell, reference: Cell, seed: int) -> Interval:
    """How many times the rows of ``reference`` go through ``cell``: ratios taken round by round, their median."""
    ours = cell.batch_size / np.array(timings[cell].rounds_us)
    theirs = reference.batch_size / np.array(timings[reference].rounds_us)
    return bootstrap.median(ours / theirs, seed)


def left_behind(timings: Timings, objective: Objective) -> dict[str, str]:
    """Candidates that a short measurement shows to be too slow for the long one, with the sentence for each.

    The fastest ``FINALISTS`` go on, as far as they are within ``BEHIND`` of the first; the reference always does.
    """
    rates = {cell.candidate: 0.0 for cell in timings}
    for name in rates:
        rates[name] = _rows_per_s(timings, best_cell(timings, name, objective))
    home = rates.pop(FLOAT32)
    ordered = sorted(rates, key=lambda name: -rates[name])
    fastest = max(rates.values())
    return {
        name: f"slower in the heat: {rates[name] / home:.2f}x against {fastest / home:.2f}x of {ordered[0]}"
        for place, name in enumerate(ordered)
        if place >= FINALISTS or rates[name] < BEHIND * fastest
    }


def not_faster(ratio: Interval) -> str | None:
    """Why a candidate that is right does not replace the reference, or None when it is worth its place."""
    figures = f"{ratio.value:.2f}x ({ratio.low:.2f} to {ratio.high:.2f})"
    if ratio.high < 1:
        return f"not faster: {figures}"
    if ratio.low <= 1:
        return f"not distinguishable from float32: {figures}"
    if ratio.value < WORTH_IT:
        return f"not worth it: {figures}, less than {WORTH_IT:.2f}x"
    return None


def beaten(ratio: Interval, winner: str, winning: Interval) -> str:
    """Why a candidate that would do is not the one: it is slower."""
    return f"slower than {winner}: {ratio.value:.2f}x against {winning.value:.2f}x"


def tied(sqnr_db: float, winner: str, winning_sqnr_db: float) -> str:
    """Why a candidate that would do is not the one: it is as fast, and its outputs are further from the reference's."""
    return f"as fast as {winner}, but less exact: signal to noise {sqnr_db:.1f} dB against {winning_sqnr_db:.1f} dB"


def thread_counts(cores: int) -> tuple[int, ...]:
    """Thread counts worth measuring: powers of two, and all cores."""
    powers = [1 << power for power in range(cores.bit_length()) if 1 << power <= cores]
    return tuple(sorted({*powers, cores}))


def layouts(cores: int, threads: Sequence[int]) -> list[tuple[int, int]]:
    """(instances, threads) worth measuring: the cores shared out among instances of each count, and one alone."""
    shared = {(max(1, cores // count), count) for count in threads if count <= cores}
    return sorted(shared | {(1, count) for count in threads})


def best_layout(measured: Sequence[Layout]) -> Layout:
    """The layout with the most rows a second; one that occupies fewer threads wins until ``THREAD_GAIN``."""
    ordered = sorted(measured, key=lambda layout: (layout.instances * layout.threads, layout.instances))
    best = ordered[0]
    for layout in ordered[1:]:
        if layout.rows_per_s >= THREAD_GAIN * best.rows_per_s:
            best = layout
    return best


def _rows_per_s(timings: Timings, cell: Cell) -> float:
    return cell.batch_size / timings[cell].p50_us * 1e6
