"""Decisions: who is accurate enough, who is faster, and with how many threads. Pure: numbers in, sentences out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from ..evaluation import bootstrap
from ..evaluation.bootstrap import Interval
from ..evaluation.evaluate import Accuracy, Allowance
from .benchmark import Cell, Layout, Timings
from .candidates import FLOAT32

Objective = Literal["throughput", "latency"]

Relation = Literal["faster", "alike", "slower", "open"]
"""What a ratio's interval shows; ``open`` is nothing."""

WORTH_IT = 1.02
"""A candidate has to earn two percent: every step away from the reference is one more thing that can go wrong."""

EQUAL = 1.05
"""Two candidates are as fast as each other when the whole interval of their ratio lies within five percent of one. A
wide interval around one says nothing: that they could not be told apart is not that they are alike. (Two one-sided
tests: D. Schuirmann, A comparison of the two one-sided tests procedure, 1987.)"""

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
    ours, theirs = timings[cell].by_round, timings[reference].by_round
    both = sorted(ours.keys() & theirs.keys())
    scale = cell.batch_size / reference.batch_size
    return bootstrap.median(np.array([scale * theirs[at] / ours[at] for at in both]), seed)


def relation(ratio: Interval) -> Relation:
    """What this ratio of speeds, one's over another's, shows about the one."""
    if ratio.low >= 1 / EQUAL and ratio.high <= EQUAL:
        return "alike"
    if ratio.high < 1:
        return "slower"
    return "faster" if ratio.low > 1 else "open"


def too_close(timings: Timings, objective: Objective, seed: int) -> frozenset[Cell]:
    """The cells that more rounds are for: of whoever cannot be told apart yet from the fastest, or from float32."""
    ranks = _Ranks(timings, objective, seed)
    fastest, home = ranks.cells[ranks.ordered[0]], ranks.cells[FLOAT32]
    close = {
        cell
        for name, cell in ranks.cells.items()
        if name != FLOAT32
        and "open" in (relation(speed_up(timings, cell, fastest, seed)), relation(ranks.ratios[name]))
    }
    return frozenset(close | {fastest, home}) if close else frozenset()


def left_behind(timings: Timings, objective: Objective, seed: int) -> dict[str, str]:
    """Candidates that a short measurement shows to be too slow for the long one, with the sentence for each.

    The fastest ``FINALISTS`` go on, and whoever is not slower than the last of them beyond doubt; but nobody who is
    beyond doubt below ``BEHIND`` of the first. The reference always goes on.
    """
    ranks = _Ranks(timings, objective, seed)
    first, last = ranks.ordered[0], ranks.ordered[:FINALISTS][-1]
    sentences = {}
    for place, name in enumerate(ranks.ordered):
        to_first, to_last = (speed_up(timings, ranks.cells[name], ranks.cells[one], seed) for one in (first, last))
        if to_first.high < BEHIND or (place >= FINALISTS and relation(to_last) == "slower"):
            figures = f"{ranks.ratios[name].value:.2f}x against {ranks.ratios[first].value:.2f}x of {first}"
            sentences[name] = f"slower in the heat: {figures}"
    return sentences


def heat_open(timings: Timings, objective: Objective, seed: int) -> frozenset[Cell]:
    """The cells that a longer heat is for: of whoever may or may not be behind."""
    ranks = _Ranks(timings, objective, seed)
    first, last = (ranks.cells[name] for name in (ranks.ordered[0], ranks.ordered[:FINALISTS][-1]))
    close: set[Cell] = set()
    for place, name in enumerate(ranks.ordered):
        cell = ranks.cells[name]
        to_first, to_last = (speed_up(timings, cell, one, seed) for one in (first, last))
        if to_first.low < BEHIND <= to_first.high or (place >= FINALISTS and relation(to_last) == "open"):
            close |= {cell, first, last}
    return frozenset(close)


def not_faster(ratio: Interval) -> str | None:
    """Why a candidate that is right does not replace the reference, or None when it is worth its place."""
    figures = f"{ratio.value:.2f}x ({ratio.low:.2f} to {ratio.high:.2f})"
    if ratio.high < 1:
        return f"not faster: {figures}"
    if ratio.low <= 1:
        if relation(ratio) == "alike":
            return f"not distinguishable from float32: {figures}"
        return f"not shown to be faster: {figures}; the rounds differ too much: try a quieter machine"
    if ratio.value < WORTH_IT:
        return f"not worth it: {figures}, less than {WORTH_IT:.2f}x"
    return None


def beaten(ratio: Interval, winner: str, winning: Interval) -> str:
    """Why a candidate that would do is not the one: it is slower."""
    return f"slower than {winner}: {ratio.value:.2f}x against {winning.value:.2f}x"


def unsettled(ratio: Interval, winner: str, winning: Interval, between: Interval) -> str:
    """Why a candidate that would do is not the one: it seems slower, and the measurement could not make sure."""
    return (
        f"seems slower than {winner}: {ratio.value:.2f}x against {winning.value:.2f}x, but it was not settled "
        f"({between.low:.2f} to {between.high:.2f} of its speed)"
    )


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


class _Ranks:
    """Everyone's best cell and its ratio to float32; ``ordered`` are the candidates, the fastest first."""

    def __init__(self, timings: Timings, objective: Objective, seed: int) -> None:
        names = dict.fromkeys(cell.candidate for cell in timings)
        self.cells = {name: best_cell(timings, name, objective) for name in names}
        self.ratios = {name: speed_up(timings, cell, self.cells[FLOAT32], seed) for name, cell in self.cells.items()}
        rivals = [name for name in names if name != FLOAT32]
        self.ordered = sorted(rivals, key=lambda name: -self.ratios[name].value) or [FLOAT32]


def _rows_per_s(timings: Timings, cell: Cell) -> float:
    return cell.batch_size / timings[cell].usual_us * 1e6
