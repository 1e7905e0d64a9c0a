"""The source of a report: a record and its raw rows, as the charts want them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..explain.explanation import Circumstances, Explanation, explain
from ..explain.transfer import Loopback
from ..load.measurements import Outcome
from ..load.server_timing import MISSING
from ..observe import timeline as host
from ..observe.link import Link
from ..observe.memory_bandwidth import MemoryBandwidth
from ..observe.timeline import ServerTimeline, Span
from ..result import record

Columns = dict[str, NDArray[np.int64]]


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """One run. ``found``: the record as it is in its file; ``rows``: all of its rows; ``window``: the measured ones.

    ``stretches``: when was measured, one for each repeat; between them lie warm-ups.
    """

    name: str
    found: dict[str, Any]
    rows: Columns
    window: Columns
    stretches: tuple[Span, ...]
    host: ServerTimeline | None

    @property
    def start_s(self) -> float:
        return self.stretches[0][0]

    @property
    def end_s(self) -> float:
        return self.stretches[-1][1]

    @property
    def seconds(self) -> float:
        """All that was measured."""
        return sum(end_s - start_s for start_s, end_s in self.stretches)

    def measures(self, at_s: float) -> bool:
        """Whether that instant was measured."""
        return any(start_s <= at_s <= end_s for start_s, end_s in self.stretches)

    @property
    def valid(self) -> bool:
        return bool(self.found["validity"]["ok"])

    @property
    def offered_per_s(self) -> float:
        """What was asked for, or what a closed loop came to."""
        rates = self.found["throughput"]
        return float(rates["offered_per_s"] if rates["offered_per_s"] is not None else rates["sent_per_s"])

    def answered(self) -> NDArray[np.bool_]:
        """Which rows of the window count for latency: answers, and time-outs as at least the limit."""
        counted: NDArray[np.bool_] = np.isin(self.window["outcome"], (Outcome.OK, Outcome.TIMEOUT))
        return counted

    def latency_ns(self) -> NDArray[np.int64]:
        """From the intended instant."""
        corrected: NDArray[np.int64] = (self.window["last_byte_ns"] - self.window["due_ns"])[self.answered()]
        return corrected

    def uncorrected_ns(self) -> NDArray[np.int64]:
        """From the actual send, as closed-loop tools count."""
        rows = self.answered() & (self.window["send_ns"] != MISSING)
        uncorrected: NDArray[np.int64] = (self.window["last_byte_ns"] - self.window["send_ns"])[rows]
        return uncorrected


def read(path: Path) -> Run:
    """A run from its files. Raises Unusable for what is none."""
    found, rows = record.read(path)
    return of(path.name, found, rows)


def of(name: str, found: dict[str, Any], rows: Columns) -> Run:
    """A run from a record that is in memory (as its JSON says it) and its rows."""
    repeats = record.repeats_of(found)
    inside = record.measured(rows, repeats)
    window = rows if inside.all() else {name: column[inside] for name, column in rows.items()}
    stretches = tuple((one.start_s, one.end_s) for one in repeats)
    return Run(name, found, rows, window, stretches, host.from_json(found.get("host")))


def explained(run: Run) -> Explanation:
    """The explanation, made anew from the rows, so that a report never shows an older version's reasoning."""
    env, beside = run.found["env"], run.host
    cores = (env["quota_cores"] or env["cores"]) if beside is not None and beside.pid is not None else None
    return explain(
        run.rows,
        run.window,
        Circumstances(
            stretches=run.stretches,
            request_bytes=float(run.found["load"]["payload"]["bytes"]),
            cores=cores,
            host=beside,
            seed=int(run.found["load"]["seed"]),
            loopback=_loopback(run.found["calibration"]),
            link=Link(**found) if (found := run.found.get("link")) is not None else None,
            memory=MemoryBandwidth(**found) if (found := run.found.get("memory")) is not None else None,
        ),
    )


def _loopback(limits: dict[str, Any] | None) -> Loopback | None:
    if limits is None or limits.get("transfer_us") is None:
        return None
    return Loopback(limits["body_bytes"], limits["transfer_us"])


def by_load(runs: Sequence[Run]) -> list[Run]:
    """The runs whose latency may be shown, the least loaded first."""
    return sorted((run for run in runs if run.valid), key=lambda run: run.offered_per_s)
