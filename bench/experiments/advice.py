"""Advice: the changes that the records of a server allow to forecast, ranked by p99, with their cost."""

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
"""A change whose p99 is not lower by this share is no advice."""


@dataclass(frozen=True, slots=True)
class Option:
    """One change. ``servers``: how many it needs in place of one. ``per_million``: price of a million requests, None
    without a price. ``verify``: the command that tries it."""

    words: str
    forecast: Forecast
    servers: int
    per_million: float | None
    verify: str


@dataclass(frozen=True, slots=True)
class Advice:
    """The options, the lowest p99 first; of equal ones, the cheaper first. ``refused``: changes without a forecast."""

    p99_ms: float
    per_million: float | None
    options: tuple[Option, ...]
    refused: Mapping[str, str]


def advise(
    path: Path,
    base: Measured,
    others: Sequence[Measured],
    artifact: Path | None,
    price_per_hour: float | None,
    also: Sequence[Path] = (),
) -> Advice:
    """The advice on the record at ``path``. ``also``: the files of ``others``, for the commands that try a change.

    Raises NoForecast if not even the run itself can be simulated.
    """
    known = [word for one in also for word in ("--also", str(one))]
    verify = shlex.join(["python", "-m", "bench", "verify", str(path), *known])
    as_it_is = forecasting.of_measured(path, base, Change(), others)
    p99_ms = as_it_is.predictions["p99"].base_ms
    rate_per_s = base.workload.rate_per_s
    options, refused = [], {}
    for change, servers in _changes(base, others, artifact):
        words = f"{servers} servers" if servers > 1 else change.words
        try:
            found = forecasting.of_measured(path, base, change, others)
        except NoForecast as why:
            refused[words] = str(why)
            continue
        if found.predictions["p99"].ratio <= 1 - LEAST_GAIN:
            flags = "".join(f" {one}" for one in change.flags(artifact))
            options.append(
                Option(words, found, servers, _per_million(price_per_hour, servers, rate_per_s), verify + flags)
            )
    options.sort(key=lambda one: (round(one.forecast.predictions["p99"].ms, 1), one.servers))
    return Advice(p99_ms, _per_million(price_per_hour, 1, rate_per_s), tuple(options), refused)


def _changes(base: Measured, others: Sequence[Measured], artifact: Path | None) -> Iterator[tuple[Change, int]]:
    """Changes that may help, each with the servers that it needs."""
    layout = base.layout
    if layout.max_delay_ns:
        yield Change(max_queue_delay_us=0), 1
    largest = base.service.largest
    for size in sorted({max(layout.max_batch_size // 2, 1), min(layout.max_batch_size * 2, largest)}):
        if size != layout.max_batch_size:
            yield Change(max_batch_size=size), 1
    for instances, threads in sorted({(one.layout.instances, one.layout.threads) for one in others}):
        if (instances, threads) != (layout.instances, layout.threads):
            yield Change(instances=instances, threads=threads), 1
    if not base.binary and any(one.binary for one in others):
        yield Change(binary=True), 1
    for change in forecasting.candidates(artifact) if artifact is not None else ():
        if change.compute < 1:
            yield change, 1
    yield Change(rate=0.5), 2


def _per_million(price_per_hour: float | None, servers: int, rate_per_s: float) -> float | None:
    """The price of a million requests, as ``plan`` computes it."""
    return None if price_per_hour is None else price_per_hour * servers / (rate_per_s * 3600) * 1e6
