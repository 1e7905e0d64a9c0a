"""The sweep: a curve of latency over offered load, as JSON and as a table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import orjson
from rich.console import RenderableType
from rich.table import Table

from ..errors import Unusable
from ..load.raw_run import Watch
from ..result.record import RunRecord
from ..result.repeats import Columns
from ..result.statistics import Percentile
from .config import RunConfig
from .ladder import Measure, Rung, capacity_per_s, rung
from .run import execute

SCHEMA = "slipway.bench.sweep/1"
Keep = Callable[[RunRecord, Columns], None]
SHOWN = ("p50", "p95", "p99")


@dataclass(frozen=True, slots=True)
class SweepRecord:
    """A curve. ``capacity_per_s``: the highest goodput; None if no rate saturated the server."""

    created: str
    command: str
    url: str
    rungs: tuple[Rung, ...]
    capacity_per_s: float | None
    schema: str = field(default=SCHEMA)


def runner(config: RunConfig, watch: Callable[[], Watch | None], keep: Keep) -> Measure:
    """A function that measures one rate with this configuration.

    ``keep`` receives every complete record with its raw rows. Raises KeyboardInterrupt if Ctrl-C ends a run.
    """

    def measure(rate_per_s: float, seed: int | None) -> Rung:
        at_rate = replace(config, rate_per_s=rate_per_s, users=None, calibrate=False)
        record, columns = execute(at_rate if seed is None else replace(at_rate, seed=seed), watch())
        if record.partial:
            raise KeyboardInterrupt
        keep(record, columns)
        return rung(record)

    return measure


def summary(created: str, command: str, url: str, rungs: Sequence[Rung]) -> SweepRecord:
    """The record of a curve."""
    return SweepRecord(created, command, url, tuple(rungs), capacity_per_s(rungs))


def to_json(result: object) -> bytes:
    """A result of any experiment as indented UTF-8 JSON."""
    return orjson.dumps(result, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def write_json(path: Path, result: object) -> None:
    """Write a result of any experiment. Raises Unusable if the file cannot be written."""
    try:
        path.write_bytes(to_json(result))
    except OSError as error:
        raise Unusable(f"cannot write the result to {str(path)!r}: {error.strerror or error}") from error


def table(result: SweepRecord) -> RenderableType:
    """The curve as a table for the terminal."""
    grid = Table(box=None, padding=(0, 2), title=f"Latency over offered load: {result.url}", title_justify="left")
    for name in ("offered/s", "answered/s", *(f"{percentile} ms" for percentile in SHOWN), "failed"):
        grid.add_column(name, justify="right")
    grid.add_column("")
    for point in result.rungs:
        cells = [_cell((point.latency or {}).get(name)) for name in SHOWN]
        offered = f"{point.rate_per_s:,.1f}" if point.rate_per_s is not None else f"{point.users} users"
        grid.add_row(offered, f"{point.goodput_per_s:,.1f}", *cells, f"{point.error_share:.1%}", _note(point))
    return grid


def _cell(percentile: Percentile | None) -> str:
    if percentile is None or percentile.value_ms is None:
        return "-"
    return f"{'>= ' if percentile.at_least else ''}{percentile.value_ms:,.2f}"


def _note(point: Rung) -> str:
    if point.generator:
        return "the generator was the limit"
    if point.saturated:
        return "saturated: the server cannot serve this rate"
    return point.reasons[0] if point.reasons else ""
