"""The source of a report: a record and its raw rows, in the forms that the charts need."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..explain.explanation import Explanation
from ..explain.verdict import Verdict
from ..load.measurements import Outcome
from ..load.server_timing import MISSING
from ..result import explained as reasons
from ..result import record, verifications
from ..result.record import RunRecord
from ..result.verifications import Verification

Columns = dict[str, NDArray[np.int64]]


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """One run of a report. ``name``: of its file. ``rows``: all rows of the run; ``window``: the measured ones.

    ``log``: the verifications of its forecasts, the oldest first. ``path``: of the record's file; None in memory.
    """

    name: str
    record: RunRecord
    rows: Columns
    window: Columns
    log: tuple[Verification, ...] = field(default=())
    path: Path | None = None

    @property
    def start_s(self) -> float:
        return self.record.window.start_s

    @property
    def end_s(self) -> float:
        return self.record.window.end_s

    @property
    def valid(self) -> bool:
        """Whether some latency of the run is reliable."""
        return self.record.latency.corrected is not None and not self.record.validity.fatal

    @property
    def offered_per_s(self) -> float:
        """The intended rate, or the rate that a closed loop reached."""
        rates = self.record.throughput
        return rates.offered_per_s if rates.offered_per_s is not None else rates.sent_per_s

    def measures(self, at_s: float) -> bool:
        """Whether the instant, in seconds after the start of the load, lies in the measured time."""
        return any(start_s <= at_s <= end_s for start_s, end_s in self.record.window.stretches)

    def answered(self) -> NDArray[np.bool_]:
        """bool [n]: the rows of the window that count for latency: answers, and time-outs as at least the limit."""
        counted: NDArray[np.bool_] = np.isin(self.window["outcome"], (Outcome.OK, Outcome.TIMEOUT))
        return counted

    def latency_ns(self) -> NDArray[np.int64]:
        """Latency from the intended instant, of the answered rows."""
        corrected: NDArray[np.int64] = (self.window["last_byte_ns"] - self.window["due_ns"])[self.answered()]
        return corrected

    def uncorrected_ns(self) -> NDArray[np.int64]:
        """Latency from the actual send, as closed-loop tools report it, of the answered rows that were sent."""
        rows = self.answered() & (self.window["send_ns"] != MISSING)
        uncorrected: NDArray[np.int64] = (self.window["last_byte_ns"] - self.window["send_ns"])[rows]
        return uncorrected


def read(path: Path) -> Run:
    """The run of a record file. Raises Unusable if the file is not a record."""
    return replace(of(path.name, *record.read(path)), log=tuple(verifications.read(path)), path=path)


def of(name: str, found: RunRecord, rows: Columns) -> Run:
    """The run of a record and its rows in memory."""
    inside = record.measured(rows, found.window.repeats)
    window = rows if inside.all() else {column: values[inside] for column, values in rows.items()}
    return Run(name, found, rows, window)


def explained(run: Run) -> Explanation:
    """The explanation, computed again from the rows, so that the report of an old record uses today's rules."""
    return reasons.explain(run.record, run.rows, run.window)


def judged(run: Run) -> Verdict:
    """The verdict: that of the record after experiments, else by today's rules as the explanation is."""
    if run.record.verdict is not None and run.record.verdict.tried:
        return run.record.verdict
    return reasons.verdict_of(run.record, run.rows, run.window, str(run.path) if run.path is not None else None)


def by_load(runs: Sequence[Run]) -> list[Run]:
    """The valid runs, the least loaded first."""
    return sorted((run for run in runs if run.valid), key=lambda run: run.offered_per_s)
