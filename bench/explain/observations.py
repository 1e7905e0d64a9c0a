"""Observations: everything that the explanation of one load is drawn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..load.measurements import Outcome
from ..observe.link import Link
from ..observe.memory_bandwidth import MemoryBandwidth
from ..observe.timeline import ServerTimeline, Span
from . import batches, dispersion, stages, tail, transfer
from .batches import Runs
from .batching import Batching, batching
from .dispersion import Dispersion
from .stages import Account, Band
from .tail import Attribution
from .transfer import Loopback, Slope

Columns = dict[str, NDArray[np.int64]]
QUANTILES = (0.50, 0.90, 0.95, 0.99, 0.999)


@dataclass(frozen=True, slots=True, eq=False)
class Observations:
    """The measured rows in the forms that evidence needs, and what was observed beside the load.

    ``account``, ``bands`` (by name: p50, p90, ...), ``tail``, ``arrivals``, ``runs``, ``batching`` and ``slope`` come
    from the rows. ``stretches``: the measured time, one per repeat. ``request_bytes``, ``reply_bytes``: mean size of a
    body. ``cores``: those that the server may use; None if it runs on another machine. ``timeline``: figures of the
    server and its machine. ``loopback``: the transfer time of the body without a network; None without calibration.
    ``link``: its nominal rate, and ``memory``: the bandwidth of the server's memory; None if unknown.
    """

    account: Account
    bands: dict[str, Band]
    tail: Attribution | None
    arrivals: tuple[Dispersion, ...]
    runs: Runs
    batching: Batching | None
    slope: Slope | None
    stretches: tuple[Span, ...]
    request_bytes: float
    reply_bytes: float
    cores: float | None
    timeline: ServerTimeline | None
    loopback: Loopback | None
    link: Link | None
    memory: MemoryBandwidth | None

    @property
    def seconds(self) -> float:
        """The measured time in all; warm-ups between repeats are left out."""
        return _seconds(self.stretches)

    @property
    def median(self) -> Band:
        """The requests around the median. Raises KeyError if there were too few requests for a band."""
        return self.bands["p50"]

    def mean(self, series: str) -> float | None:
        """The mean of one series of the timeline over the measured time; None if the series is missing."""
        return self.timeline.mean(series, self.stretches) if self.timeline is not None else None


def observe(
    window: Columns,
    *,
    stretches: tuple[Span, ...],
    request_bytes: float,
    cores: float | None,
    timeline: ServerTimeline | None,
    seed: int = 0,
    loopback: Loopback | None = None,
    link: Link | None = None,
    memory: MemoryBandwidth | None = None,
) -> Observations:
    """The observations of the measured rows ``window``, in the order of their intended instants.

    Instants are ns after the start of the load. ``seed``: of the bootstrap behind the intervals of the tail.
    """
    account = stages.join(window)
    runs = batches.reconstruct(account)
    answered = window["outcome"] == Outcome.OK
    bands = (stages.at_quantile(account, quantile) for quantile in QUANTILES)
    return Observations(
        account=account,
        bands={band.name: band for band in bands if band is not None},
        tail=tail.attribute(account, seed),
        arrivals=dispersion.dispersion(window["due_ns"], stretches),
        runs=runs,
        batching=batching(runs, timeline, _seconds(stretches)),
        slope=transfer.slope(window),
        stretches=stretches,
        request_bytes=request_bytes,
        reply_bytes=float(window["bytes_in"][answered].mean()) if answered.any() else 0.0,
        cores=cores,
        timeline=timeline,
        loopback=loopback,
        link=link,
        memory=memory,
    )


def _seconds(stretches: Sequence[Span]) -> float:
    return sum(end_s - start_s for start_s, end_s in stretches)
