"""Repeats: several runs of one load with different seeds, as one set of rows on one clock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..load.arrivals import NS_PER_S
from ..load.measurements import COLUMNS
from ..load.raw_run import RawRun
from ..load.server_timing import MISSING
from . import warmup
from .record import RepeatRecord, WindowRecord, measured

Columns = dict[str, NDArray[np.int64]]
AUTO = "auto"
INSTANTS = ("due_ns", "picked_ns", "send_ns", "sent_ns", "first_byte_ns", "last_byte_ns")


@dataclass(frozen=True, slots=True, eq=False)
class Repeat:
    """One repeat. ``cut_ns``: the end of its warm-up, ``end_s``: its end, both after its own start.

    ``shift_ns``: its start after the start of the first repeat. ``steady``: None if the cut does not test it.
    """

    number: int
    seed: int
    raw: RawRun
    cut_ns: int
    end_s: float
    shift_ns: int
    steady: bool | None

    @property
    def rows(self) -> Columns:
        """The rows after the warm-up, on the clock of this repeat."""
        inside = self.raw.columns["due_ns"] >= self.cut_ns
        return {name: column[inside] for name, column in self.raw.columns.items()}

    @property
    def lasts_s(self) -> float:
        return self.end_s - self.cut_ns / NS_PER_S

    def record(self) -> RepeatRecord:
        shift_s = self.shift_ns / NS_PER_S
        count = int((self.raw.columns["due_ns"] >= self.cut_ns).sum())
        return RepeatRecord(self.number, self.seed, shift_s + self.cut_ns / NS_PER_S, shift_s + self.end_s, count)


def cut(raws: Sequence[RawRun], seed: int, warmup_s: float | None, end_s: float) -> tuple[Repeat, ...]:
    """The repeats with their warm-ups cut: after ``warmup_s``, or by MSER-5 (None)."""
    found = []
    for number, raw in enumerate(raws):
        cut_ns, steady = _auto(raw) if warmup_s is None else (round(warmup_s * NS_PER_S), None)
        shift_ns = raw.start_ns - raws[0].start_ns
        found.append(Repeat(number, seed + number, raw, cut_ns, _end_s(raw, cut_ns, end_s), shift_ns, steady))
    return tuple(found)


def _end_s(raw: RawRun, cut_ns: int, planned_s: float) -> float:
    """The end of a repeat: the planned one, or the last event before Ctrl-C."""
    if not raw.interrupted:
        return planned_s
    last_ns = max(
        (int(raw.columns[name].max()) for name in ("due_ns", "last_byte_ns") if len(raw.columns[name])), default=0
    )
    return min(max(last_ns, cut_ns) / NS_PER_S, planned_s)


def _auto(raw: RawRun) -> tuple[int, bool]:
    latency_ns = raw.columns["last_byte_ns"] - raw.columns["due_ns"]
    where = warmup.mser5(latency_ns)
    return int(raw.columns["due_ns"][where.rows]) if where.rows else 0, where.steady


def join(repeats: Sequence[Repeat]) -> Columns:
    """All rows, warm-ups included, on the clock of the first repeat."""
    shifted = [_shifted(one) for one in repeats]
    return {name: np.concatenate([columns[name] for columns in shifted]) for name in COLUMNS}


def window(repeats: Sequence[Repeat], columns: Columns) -> tuple[WindowRecord, Columns]:
    """The measured time, and the measured rows of ``columns``, which ``join`` returned."""
    each = tuple(one.record() for one in repeats)
    inside = measured(columns, each)
    found = WindowRecord(
        method="as asked" if repeats[0].steady is None else "MSER-5",
        start_s=each[0].start_s,
        end_s=each[-1].end_s,
        requests=int(inside.sum()),
        steady=None if repeats[0].steady is None else all(one.steady for one in repeats),
        repeats=each,
    )
    return found, {name: column[inside] for name, column in columns.items()}


def _shifted(repeat: Repeat) -> Columns:
    columns = dict(repeat.raw.columns)
    columns["repeat"] = np.full(len(columns["index"]), repeat.number, dtype=np.int64)
    for name in INSTANTS if repeat.shift_ns else ():
        column = columns[name]
        columns[name] = np.where(column == MISSING, MISSING, column + repeat.shift_ns)
    return columns
