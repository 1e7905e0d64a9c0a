"""Decisions: which candidates are accurate enough, which are faster, with how many threads. Pure functions."""

from __future__ import annotations

from typing import Literal

import numpy as np

from ..evaluation import bootstrap
from ..evaluation.bootstrap import Interval
from ..evaluation.evaluate import Accuracy, Allowance
from .candidates import FLOAT32
from .timing import Cell, Timings

Objective = Literal["throughput", "latency"]

Relation = Literal["faster", "alike", "slower", "open"]
"""What the interval of a speed ratio shows; ``open``: neither faster, nor slower, nor alike."""

WORTH_IT = 1.02
"""A candidate must gain two percent over float32, because every change to the model is a risk."""

EQUAL = 1.05
"""Two candidates are alike when the whole interval of their speed ratio lies within five percent of one.

A wide interval around one shows nothing. (Two one-sided tests: D. Schuirmann, A comparison of the two one-sided tests
procedure, 1987.)
"""

THREAD_GAIN = 1.05
"""More threads must gain five percent, because they take cores from everything else on the host."""

FINALISTS = 5
"""Candidates, besides float32, that the final round measures."""

BEHIND = 0.7
"""A candidate below this share of the fastest one's speed in the first round does not reach the final round."""


def not_accurate(metric: str, accuracy: Accuracy, reference: Accuracy, allowed: Allowance) -> str | None:
    """Why a candidate is not accurate enough, or None when it is.

    The upper end of the drop's interval must be within the allowed drop: with few rows a small drop proves nothing.
    (A test of non-inferiority at 2.5 %, one-sided.)
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
    """The best cell of a candidate: the fastest run of the smallest batch, or the most rows per second of all sizes.

    Fewer threads, then smaller batches, are preferred until more gain ``THREAD_GAIN`` or ``WORTH_IT``.
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
    """Rows per second of ``cell`` over those of ``reference``: the median of the ratios of all rounds."""
    ours, theirs = timings[cell].by_round, timings[reference].by_round
    both = sorted(ours.keys() & theirs.keys())
    scale = cell.batch_size / reference.batch_size
    return bootstrap.median(np.array([scale * theirs[at] / ours[at] for at in both]), seed)


def relation(ratio: Interval) -> Relation:
    """What the ratio of one candidate's speed to another's shows about the first."""
    if ratio.low >= 1 / EQUAL and ratio.high <= EQUAL:
        return "alike"
    if ratio.high < 1:
        return "slower"
    return "faster" if ratio.low > 1 else "open"


def too_close(timings: Timings, objective: Objective, seed: int) -> frozenset[Cell]:
    """The cells that need more rounds: of candidates not yet told apart from the fastest one, or from float32."""
    ranks = _Ranks(timings, objective, seed)
    fastest, reference = ranks.cells[ranks.ordered[0]], ranks.cells[FLOAT32]
    close = {
        cell
        for name, cell in ranks.cells.items()
        if name != FLOAT32
        and "open" in (relation(speed_up(timings, cell, fastest, seed)), relation(ranks.ratios[name]))
    }
    return frozenset(close | {fastest, reference}) if close else frozenset()


def left_behind(timings: Timings, objective: Objective, seed: int) -> dict[str, str]:
    """The candidates that the first round eliminates, with the reason of each.

    The fastest ``FINALISTS`` go on, and so does every other that is not shown to be slower than the last of them. A
    candidate that is shown to be below ``BEHIND`` of the first one's speed is out. Float32 always goes on.
    """
    ranks = _Ranks(timings, objective, seed)
    first, last = ranks.ordered[0], ranks.ordered[:FINALISTS][-1]
    sentences = {}
    for place, name in enumerate(ranks.ordered):
        to_first, to_last = (speed_up(timings, ranks.cells[name], ranks.cells[one], seed) for one in (first, last))
        if to_first.high < BEHIND or (place >= FINALISTS and relation(to_last) == "slower"):
            figures = f"{ranks.ratios[name].value:.2f}x against {ranks.ratios[first].value:.2f}x of {first}"
            sentences[name] = f"slower in the first round: {figures}"
    return sentences


def first_round_open(timings: Timings, objective: Objective, seed: int) -> frozenset[Cell]:
    """The cells for which the first round must go on: it is not yet clear whether their candidates are out."""
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
    """Why an accurate candidate does not replace float32, or None when it is fast enough to."""
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
    """The reason of an accurate candidate that is slower than the winner."""
    return f"slower than {winner}: {ratio.value:.2f}x against {winning.value:.2f}x"


def unsettled(ratio: Interval, winner: str, winning: Interval, between: Interval) -> str:
    """The reason of an accurate candidate that seems slower than the winner, without a settled measurement."""
    return (
        f"seems slower than {winner}: {ratio.value:.2f}x against {winning.value:.2f}x, but it was not settled "
        f"({between.low:.2f} to {between.high:.2f} of its speed)"
    )


def tied(sqnr_db: float, winner: str, winning_sqnr_db: float) -> str:
    """The reason of an accurate candidate that is as fast as the winner and further from float32's outputs."""
    return f"as fast as {winner}, but less exact: signal to noise {sqnr_db:.1f} dB against {winning_sqnr_db:.1f} dB"


def thread_counts(cores: int) -> tuple[int, ...]:
    """Thread counts worth measuring: powers of two, and all cores."""
    powers = [1 << power for power in range(cores.bit_length()) if 1 << power <= cores]
    return tuple(sorted({*powers, cores}))


class _Ranks:
    """The best cell of every candidate and its speed ratio to float32; ``ordered``: names, the fastest first."""

    def __init__(self, timings: Timings, objective: Objective, seed: int) -> None:
        names = dict.fromkeys(cell.candidate for cell in timings)
        self.cells = {name: best_cell(timings, name, objective) for name in names}
        self.ratios = {name: speed_up(timings, cell, self.cells[FLOAT32], seed) for name, cell in self.cells.items()}
        others = [name for name in names if name != FLOAT32]
        self.ordered = sorted(others, key=lambda name: -self.ratios[name].value) or [FLOAT32]


def _rows_per_s(timings: Timings, cell: Cell) -> float:
    return cell.batch_size / timings[cell].usual_us * 1e6
