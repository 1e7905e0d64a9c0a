"""Forecasting from files: a record, further records of the same server, the log of verifications, the manifest."""

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
WIDEST = 1.35
"""The most that the upper end of the interval of p99 may be over its middle: beyond it a forecast tells nothing."""


def measured(found: RunRecord, columns: Columns) -> Measured:
    """What a record tells for forecasts. Raises NoForecast with what is missing."""
    if found.load.mode != "open":
        raise NoForecast("the callers of a closed loop wait for responses, which a forecast would change: use --rate")
    if found.validity.fatal:
        raise NoForecast(f"the run is invalid: {found.validity.reasons[0]}")
    works = found.host.works if found.host is not None else ()
    if not works and found.burst is None:
        raise NoForecast("the server has no /metrics with its batch sizes and costs, and was not probed with a burst")
    inside = record.measured(columns, found.window.repeats)
    window = {name: column[inside] for name, column in columns.items()}
    if not works and found.burst is not None:
        told = foreign.measured(window, found.window.stretches, found.burst, float(found.load.payload.bytes))
    else:
        told = forecast.measured(
            window,
            found.window.stretches,
            works,
            binary=BINARY in found.load.payload.content_type,
            loop_ns=_loop_ns(found),
        )
    busy = found.host.mean("machine_busy", found.window.stretches) if found.host is not None else None
    return replace(told, late=found.validity.wide, busy=busy)


def _loop_ns(found: RunRecord) -> float | None:
    """CPU time of the server's busiest thread for each of its requests; None if either is unknown."""
    host = found.host
    if host is None or host.totals is None or host.totals.requests <= 0 or host.totals.seconds <= 0:
        return None
    busiest = host.mean("busiest_thread", found.window.stretches)
    return None if busiest is None else busiest * 1e9 * host.totals.seconds / host.totals.requests


def of_file(path: Path, change: Change, also: Sequence[Path] = ()) -> Forecast:
    """The forecast for a change of the record at ``path``. Raises NoForecast, and Unusable for files."""
    base = measured(*record.read(path))
    others = [measured(*record.read(one)) for one in also]
    return of_measured(path, base, change, others)


def of_measured(path: Path, base: Measured, change: Change, others: Sequence[Measured] = ()) -> Forecast:
    """The same of records that were read. The log of verifications lies beside ``path``."""
    if any("p99" in one.late for one in (base, *others)):
        raise NoForecast(
            "the load generator was late for the requests around p99 of a record, so that its p99 was not measured: "
            "measure again at a lower rate, or with a core for the generator"
        )
    log = verifications.read(path)
    slowed = [one for one in log if one.kind == verifications.SLOWDOWN]
    if slowed and not slowed[-1].held and not change.extra_us:
        seen, told = slowed[-1].observed["p99"].value, slowed[-1].forecast["p99"].value
        raise NoForecast(
            f"the last measured slowdown ({slowed[-1].change}) made p99 {seen:.2f} times as long, and {told:.2f} times "
            "was forecast: this server does not behave like its simulation"
        )
    found = forecast.forecast(base, change, others, verifications.errors(log))
    p99 = found.predictions["p99"]
    if p99.high > WIDEST * p99.ratio:
        raise NoForecast(
            f"p99 could become anything from {p99.low:.2f} to {p99.high:.2f} times: the record is too short, its "
            "machine too unsteady, or earlier forecasts were too wrong"
        )
    if slowed:
        return found
    return replace(
        found, notes=(*found.notes, "not tested against a measured slowdown yet: bench verify RECORD --extra-us 500")
    )


def candidate(artifact: Path, name: str) -> Change:
    """The change from the chosen candidate of an artifact to another one: the ratio of their times, from its manifest.

    Raises Unusable for a folder without one, or an unknown name.
    """
    chosen, timings = _timings(artifact)
    if name not in timings or name == chosen:
        others = ", ".join(sorted(set(timings) - {chosen}))
        raise Unusable(f"the artifact has no other candidate {name!r}; it has {others or 'none'}")
    found = _instead(chosen, name, timings)
    if found is None:
        raise Unusable(f"{name!r} and {chosen!r} were not timed at a common batch size: optimize again with both")
    return found


def candidates(artifact: Path) -> list[Change]:
    """The changes to all other candidates that were timed as the chosen one was. Raises Unusable."""
    chosen, timings = _timings(artifact)
    found = (_instead(chosen, name, timings) for name in sorted(timings) if name != chosen)
    return [one for one in found if one is not None]


Timings = dict[str, dict[tuple[int, int], float]]
"""us of a run, by candidate, batch size and threads."""


def _timings(artifact: Path) -> tuple[str, Timings]:
    path = artifact / MANIFEST if artifact.is_dir() else artifact
    timings: Timings = {}
    try:
        evidence = orjson.loads(path.read_bytes())["evidence"]
        for one in evidence["candidates"]:
            cells = {(cell["batch_size"], cell["threads"]): float(cell["p50_us"]) for cell in one["timings"]}
            timings[str(one["name"])] = cells
        return str(evidence["chosen"]), timings
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Unusable(f"cannot read the candidates of {str(path)!r}: {error}") from error


def _instead(chosen: str, name: str, timings: Timings) -> Change | None:
    both = sorted(set(timings[name]) & set(timings.get(chosen, {})))
    if not both:
        return None
    logs = [math.log(timings[name][cell] / timings[chosen][cell]) for cell in both]
    return Change(compute=math.exp(sum(logs) / len(logs)), candidate=f"{name} instead of {chosen}")
