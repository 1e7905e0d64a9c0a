"""Advice: forecasts of the changes for which the records have data, ranked by p99, with their cost."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..explain.changes import Change
from ..explain.forecast import Forecast, Measured
from ..explain.workload import NoForecast
from . import forecasting

LEAST_GAIN = 0.03
"""A change is listed if it lowers p99 by at least this share."""


@dataclass(frozen=True, slots=True)
class Option:
    """One change. ``words``: its description. ``servers``: how many replace the present one.

    ``per_million``: price of a million requests; None without a price. ``verify``: the command that measures the
    change.
    """

    words: str
    forecast: Forecast
    servers: int
    per_million: float | None
    verify: str


@dataclass(frozen=True, slots=True)
class Advice:
    """The options, ordered by p99, then by the number of servers. ``p99_ms``, ``per_million``: without a change.

    ``refused``: for each change without a forecast, the reason.
    """

    p99_ms: float
    per_million: float | None
    options: tuple[Option, ...]
    refused: Mapping[str, str]


def advise(
    record_path: Path,
    base: Measured,
    other_runs: Sequence[Measured],
    artifact: Path | None,
    price_per_hour: float | None,
    other_paths: Sequence[Path] = (),
) -> Advice:
    """The advice on the record at ``record_path``.

    ``base``: the measurements of that record. ``other_runs``: those of further records of the same server, in the files
    ``other_paths``. ``artifact``: the folder with other candidates. Raises NoForecast if the recorded run itself cannot
    be simulated.
    """
    also_flags = [word for path in other_paths for word in ("--also", str(path))]
    verify_command = shlex.join(["python", "-m", "bench", "verify", str(record_path), *also_flags])
    unchanged = forecasting.of_measured(record_path, base, Change(), other_runs)
    p99_ms = unchanged.predictions["p99"].base_ms
    rate_per_s = base.workload.rate_per_s
    options, refused = [], {}
    for change, servers in _changes(base, other_runs, artifact):
        words = f"{servers} servers" if servers > 1 else change.words
        try:
            forecast = forecasting.of_measured(record_path, base, change, other_runs)
        except NoForecast as error:
            refused[words] = str(error)
            continue
        if forecast.predictions["p99"].ratio <= 1 - LEAST_GAIN:
            flags = "".join(f" {flag}" for flag in change.flags(artifact))
            per_million = _per_million(price_per_hour, servers, rate_per_s)
            options.append(Option(words, forecast, servers, per_million, verify_command + flags))
    options.sort(key=lambda option: (round(option.forecast.predictions["p99"].ms, 1), option.servers))
    return Advice(p99_ms, _per_million(price_per_hour, 1, rate_per_s), tuple(options), refused)


def _changes(base: Measured, other_runs: Sequence[Measured], artifact: Path | None) -> Iterator[tuple[Change, int]]:
    """The changes to forecast, each with the number of servers that it needs."""
    layout = base.layout
    if layout.max_delay_ns:
        yield Change(max_queue_delay_us=0), 1
    largest = base.service.largest
    for size in sorted({max(layout.max_batch_size // 2, 1), min(layout.max_batch_size * 2, largest)}):
        if size != layout.max_batch_size:
            yield Change(max_batch_size=size), 1
    for instances, threads in sorted({(other.layout.instances, other.layout.threads) for other in other_runs}):
        if (instances, threads) != (layout.instances, layout.threads):
            yield Change(instances=instances, threads=threads), 1
    if not base.binary and any(other.binary for other in other_runs):
        yield Change(binary=True), 1
    for change in forecasting.candidates(artifact) if artifact is not None else ():
        if change.compute < 1:
            yield change, 1
    yield Change(rate=0.5), 2


def _per_million(price_per_hour: float | None, servers: int, rate_per_s: float) -> float | None:
    """The price of a million requests at this rate over all servers, by the formula of ``bench plan``."""
    return None if price_per_hour is None else price_per_hour * servers / (rate_per_s * 3600) * 1e6
