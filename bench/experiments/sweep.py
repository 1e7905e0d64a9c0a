"""The sweep: a curve of latency over offered load, its JSON and its table."""

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
    """A measurement of one rate with this configuration.

    ``keep`` receives every complete record with its rows. Ctrl-C in a run raises KeyboardInterrupt.
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
    for name in ("offered/s", "answered/s", *(f"{one} ms" for one in SHOWN), "failed"):
        grid.add_column(name, justify="right")
    grid.add_column("")
    for one in result.rungs:
        shown = [_cell((one.latency or {}).get(name)) for name in SHOWN]
        offered = f"{one.rate_per_s:,.1f}" if one.rate_per_s is not None else f"{one.users} users"
        grid.add_row(offered, f"{one.goodput_per_s:,.1f}", *shown, f"{one.error_share:.1%}", _note(one))
    return grid


def _cell(one: Percentile | None) -> str:
    if one is None or one.value_ms is None:
        return "-"
    return f"{'>= ' if one.at_least else ''}{one.value_ms:,.2f}"


def _note(one: Rung) -> str:
    if one.generator:
        return "the generator was the limit"
    if one.saturated:
        return "saturated: the server cannot serve this rate"
    return one.reasons[0] if one.reasons else ""
