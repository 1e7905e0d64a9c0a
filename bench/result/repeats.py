"""Repeats: several runs of one load with different seeds, joined into one set of rows with one clock."""

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
"""Raw rows by column, int64 [n] each."""
INSTANTS = ("due_ns", "picked_ns", "send_ns", "sent_ns", "first_byte_ns", "last_byte_ns")
"""The columns that hold instants, in ns after the start of a repeat."""


@dataclass(frozen=True, slots=True, eq=False)
class Repeat:
    """One repeat. ``cut_ns``: the end of its warm-up, and ``end_s``: its end, both after the start of this repeat.

    ``shift_ns``: its start, after the start of the first repeat. ``steady``: whether a steady state was found; None if
    that was not tested.
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
        is_measured = self.raw.columns["due_ns"] >= self.cut_ns
        return {name: column[is_measured] for name, column in self.raw.columns.items()}

    @property
    def measured_s(self) -> float:
        return self.end_s - self.cut_ns / NS_PER_S

    def record(self) -> RepeatRecord:
        shift_s = self.shift_ns / NS_PER_S
        count = int((self.raw.columns["due_ns"] >= self.cut_ns).sum())
        return RepeatRecord(self.number, self.seed, shift_s + self.cut_ns / NS_PER_S, shift_s + self.end_s, count)


def cut(raws: Sequence[RawRun], seed: int, warmup_s: float | None, end_s: float) -> tuple[Repeat, ...]:
    """The repeats, with the end of each warm-up: after ``warmup_s``, or found by MSER-5 for None.

    ``seed``: of the first repeat. ``end_s``: the planned end of each repeat.
    """
    repeats = []
    for number, raw in enumerate(raws):
        cut_ns, steady = _mser5(raw) if warmup_s is None else (round(warmup_s * NS_PER_S), None)
        shift_ns = raw.start_ns - raws[0].start_ns
        repeats.append(Repeat(number, seed + number, raw, cut_ns, _end_s(raw, cut_ns, end_s), shift_ns, steady))
    return tuple(repeats)


def _end_s(raw: RawRun, cut_ns: int, planned_s: float) -> float:
    """The end of a repeat in seconds after its start: the planned one, or the last event before Ctrl-C."""
    if not raw.interrupted:
        return planned_s
    last_event_ns = max(
        (int(raw.columns[name].max()) for name in ("due_ns", "last_byte_ns") if len(raw.columns[name])), default=0
    )
    return min(max(last_event_ns, cut_ns) / NS_PER_S, planned_s)


def _mser5(raw: RawRun) -> tuple[int, bool]:
    """The end of the warm-up by MSER-5, in ns after the start, and whether a steady state follows."""
    latency_ns = raw.columns["last_byte_ns"] - raw.columns["due_ns"]
    end = warmup.mser5(latency_ns)
    return int(raw.columns["due_ns"][end.rows]) if end.rows else 0, end.steady


def join(repeats: Sequence[Repeat]) -> Columns:
    """All rows, warm-ups included. Instants are relative to the start of the first repeat."""
    shifted = [_shifted(repeat) for repeat in repeats]
    return {name: np.concatenate([columns[name] for columns in shifted]) for name in COLUMNS}


def window(repeats: Sequence[Repeat], columns: Columns) -> tuple[WindowRecord, Columns]:
    """The measured time, and the measured rows of ``columns``, the result of ``join``."""
    repeat_records = tuple(repeat.record() for repeat in repeats)
    is_measured = measured(columns, repeat_records)
    window_record = WindowRecord(
        method="as asked" if repeats[0].steady is None else "MSER-5",
        start_s=repeat_records[0].start_s,
        end_s=repeat_records[-1].end_s,
        requests=int(is_measured.sum()),
        steady=None if repeats[0].steady is None else all(repeat.steady for repeat in repeats),
        repeats=repeat_records,
    )
    return window_record, {name: column[is_measured] for name, column in columns.items()}


def _shifted(repeat: Repeat) -> Columns:
    columns = dict(repeat.raw.columns)
    columns["repeat"] = np.full(len(columns["index"]), repeat.number, dtype=np.int64)
    for name in INSTANTS if repeat.shift_ns else ():
        column = columns[name]
        columns[name] = np.where(column == MISSING, MISSING, column + repeat.shift_ns)
    return columns
