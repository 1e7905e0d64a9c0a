"""Forecasts from files: a record, other records of the same server, its log of verifications, and a manifest."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import orjson

from ..errors import Unusable
from ..explain import forecast, foreign
from ..explain.changes import Change
from ..explain.forecast import Forecast, Measured
from ..explain.workload import NoForecast
from ..result import record, verifications
from ..result.record import RunRecord
from ..result.repeats import Columns

MANIFEST = "manifest.json"
BINARY = "application/octet-stream"
MAX_UPPER_RATIO = 1.35
"""A forecast is refused if the upper end of the interval of p99 is more than this many times its estimate."""


def measured(run: RunRecord, columns: Columns) -> Measured:
    """The inputs of a forecast, from a record and all its raw rows. Raises NoForecast if some are missing."""
    if run.load.mode != "open":
        raise NoForecast(
            "the arrivals of a closed loop depend on its latency, so that they cannot be replayed: measure with --rate"
        )
    if run.validity.fatal:
        raise NoForecast(f"the run is invalid ({run.validity.reasons[0]}): measure again")
    models = run.host.works if run.host is not None else ()
    if not models and run.burst is None:
        raise NoForecast(
            "the server has no /metrics with its batch sizes and costs, and the run has no burst probe: measure again "
            "without --no-burst"
        )
    is_measured = record.measured(columns, run.window.repeats)
    window = {name: column[is_measured] for name, column in columns.items()}
    if not models and run.burst is not None:
        measurement = foreign.measured(window, run.window.stretches, run.burst, float(run.load.payload.bytes))
    else:
        measurement = forecast.measured(
            window,
            run.window.stretches,
            models,
            binary=BINARY in run.load.payload.content_type,
            loop_ns=_loop_ns(run),
        )
    machine_busy = run.host.mean("machine_busy", run.window.stretches) if run.host is not None else None
    return replace(measurement, late=run.validity.wide, busy=machine_busy)


def _loop_ns(run: RunRecord) -> float | None:
    """CPU time of the server's busiest thread per request, in ns; None if it is unknown."""
    host = run.host
    if host is None or host.totals is None or host.totals.requests <= 0 or host.totals.seconds <= 0:
        return None
    busiest = host.mean("busiest_thread", run.window.stretches)
    return None if busiest is None else busiest * 1e9 * host.totals.seconds / host.totals.requests


def of_file(path: Path, change: Change, other_paths: Sequence[Path] = ()) -> Forecast:
    """The forecast for a change of the record at ``path``. ``other_paths``: other records of the same server.

    Raises NoForecast with the reason, and Unusable for a file that cannot be read.
    """
    base = measured(*record.read(path))
    others = [measured(*record.read(other_path)) for other_path in other_paths]
    return of_measured(path, base, change, others)


def of_measured(path: Path, base: Measured, change: Change, other_runs: Sequence[Measured] = ()) -> Forecast:
    """The forecast for a change, from measurements. ``path``: the record, which has the log of verifications beside it.

    Raises NoForecast with the reason, and Unusable if the log cannot be read.
    """
    if any("p99" in run.late for run in (base, *other_runs)):
        raise NoForecast(
            "the load generator was late for the requests around p99 of a record, so that this p99 is invalid: measure "
            "again at a lower rate, or with a core for the generator"
        )
    log = verifications.read(path)
    slowed = [entry for entry in log if entry.kind == verifications.SLOWDOWN]
    if slowed and not slowed[-1].held and not change.extra_us:
        observed, forecast_ratio = slowed[-1].observed["p99"].value, slowed[-1].forecast["p99"].value
        raise NoForecast(
            f"the last verified slowdown ({slowed[-1].change}) multiplied p99 by {observed:.2f}, and the forecast was "
            f"{forecast_ratio:.2f}: this server does not behave like its simulation"
        )
    result = forecast.forecast(base, change, other_runs, verifications.errors(log))
    p99 = result.predictions["p99"]
    if p99.high > MAX_UPPER_RATIO * p99.ratio:
        raise NoForecast(
            f"the interval of p99 is too wide, {p99.low:.2f} to {p99.high:.2f} times the present p99: measure for "
            "longer, on a machine without other load (large errors of earlier forecasts widen it, too)"
        )
    if slowed:
        return result
    return replace(
        result, notes=(*result.notes, "not verified with a slowdown yet: run bench verify RECORD --extra-us 500")
    )


def candidate(artifact: Path, name: str) -> Change:
    """The change from the current candidate of an artifact to the one with this name, by their times in the manifest.

    Raises Unusable for a folder without a manifest, for an unknown name, and for candidates that cannot be compared.
    """
    current, timings = _timings(artifact)
    if name not in timings or name == current:
        others = ", ".join(sorted(set(timings) - {current}))
        raise Unusable(f"the artifact has no other candidate {name!r}; it has {others or 'none'}")
    change = _replacement(current, name, timings)
    if change is None:
        raise Unusable(f"{name!r} and {current!r} were not timed at a common batch size: optimize again with both")
    return change


def candidates(artifact: Path) -> list[Change]:
    """The changes to all other candidates with a batch size and threads that the current one was timed with, too.

    Raises Unusable for a folder without a manifest.
    """
    current, timings = _timings(artifact)
    changes = (_replacement(current, name, timings) for name in sorted(timings) if name != current)
    return [change for change in changes if change is not None]


Timings = dict[str, dict[tuple[int, int], float]]
"""Median time of a run in us, by name of the candidate, then by (batch size, threads)."""


def _timings(artifact: Path) -> tuple[str, Timings]:
    """The name of the current candidate, and all timings. Raises Unusable if the manifest cannot be read."""
    path = artifact / MANIFEST if artifact.is_dir() else artifact
    timings: Timings = {}
    try:
        evidence = orjson.loads(path.read_bytes())["evidence"]
        for candidate in evidence["candidates"]:
            cells = {(cell["batch_size"], cell["threads"]): float(cell["p50_us"]) for cell in candidate["timings"]}
            timings[str(candidate["name"])] = cells
        return str(evidence["chosen"]), timings
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Unusable(f"cannot read the candidates of {str(path)!r}: {error}") from error


def _replacement(current: str, name: str, timings: Timings) -> Change | None:
    """The change by the geometric mean of the time ratios; None without a common batch size and threads."""
    shared_cells = sorted(set(timings[name]) & set(timings.get(current, {})))
    if not shared_cells:
        return None
    log_ratios = [math.log(timings[name][cell] / timings[current][cell]) for cell in shared_cells]
    return Change(compute=math.exp(sum(log_ratios) / len(log_ratios)), candidate=f"{name} instead of {current}")
