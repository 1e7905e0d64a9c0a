"""Stages: one account per request, from the times of the client and of the server. Its terms add up to the latency."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..load.measurements import Outcome
from ..load.server_timing import ABOUT, MISSING, STAGES

CLIENT_TERMS = ("send_lag", "connect", "write")
RESIDUAL = "residual"
TERMS = (*CLIENT_TERMS, *STAGES, RESIDUAL)
"""The terms of a request's latency in the order of time; the residual is the unexplained rest."""

QUANTILES = (0.50, 0.90, 0.95, 0.99)
MIN_BAND = 5
# Client and server read different clocks: a smaller negative residual is an error of reading, not a contradiction.
CLOCK_TOLERANCE_NS = 50_000


@dataclass(frozen=True, slots=True, eq=False)
class Account:
    """The account of each successful request.

    ``terms_ns``: int64 [n, len(TERMS)]; ``total_ns``: int64 [n], from the intended instant to the last response byte,
    and exactly the sum of the terms. ``due_ns``: int64 [n], ascending, the intended instants. ``batch``: int64 [n], the
    batch size, MISSING if unknown. ``about``: int64 [n] by the names of ``ABOUT``, MISSING where the server does not
    tell. ``reading_ns``: int64 [n], from the first byte of the response to the last, a part of the residual.
    ``order``: intp [n], the requests from the fastest to the slowest. ``with_server``: the server sent stage times. If
    False, its terms are zero, and the residual holds server and network. ``unaccounted``: successful requests without
    stage times, which are not among the n. ``contradictions``: requests with stage times above their latency.
    """

    terms_ns: NDArray[np.int64]
    total_ns: NDArray[np.int64]
    due_ns: NDArray[np.int64]
    batch: NDArray[np.int64]
    about: Mapping[str, NDArray[np.int64]]
    reading_ns: NDArray[np.int64]
    order: NDArray[np.intp]
    with_server: bool
    unaccounted: int
    contradictions: int


@dataclass(frozen=True, slots=True)
class Band:
    """The mean account of ``count`` requests between two quantiles of latency, in ms; terms add up to ``total_ms``."""

    name: str
    low: float
    high: float
    count: int
    total_ms: float
    terms_ms: dict[str, float]


def join(columns: dict[str, NDArray[np.int64]]) -> Account:
    """The account of every successful request.

    Per request: total = send_lag + connect + write + sum(server stages) + residual. ``send_lag``: delay by the
    generator. ``connect``: wait for a free connection. ``write``: until the kernel has the last byte, without the time
    that the server worked meanwhile.
    """
    answered = columns["outcome"] == Outcome.OK
    complete = answered & (columns["sent_ns"] != MISSING)
    timed = np.zeros(len(answered), dtype=bool)
    for stage in STAGES:
        timed |= columns[f"{stage}_ns"] != MISSING
    timed &= complete
    with_server = bool(timed.any())
    rows = timed if with_server else complete
    # A slice copies nothing if all rows are kept: a run may have millions of rows.
    kept = slice(None) if rows.all() else rows
    due, picked, send, sent, last = (
        columns[f"{name}_ns"][kept] for name in ("due", "picked", "send", "sent", "last_byte")
    )
    # Column by column in memory, because every sum below is over a column.
    terms_ns = np.empty((len(due), len(TERMS)), dtype=np.int64, order="F")
    server_ns = terms_ns[:, len(CLIENT_TERMS) : -1]
    for at, stage in enumerate(STAGES):
        np.maximum(columns[f"{stage}_ns"][kept], 0, out=server_ns[:, at])  # a missing stage is part of the residual
    in_server_ns = server_ns.sum(axis=1)
    # The server may work on a request before the call that wrote it returns, above all on a shared machine. Time that
    # both count belongs to the server.
    write_ns = np.clip(last - send - in_server_ns, 0, sent - send)
    for at, client_ns in enumerate((picked - due, send - picked, write_ns)):
        terms_ns[:, at] = client_ns
    total_ns = last - due
    residual_ns = last - send - write_ns - in_server_ns
    terms_ns[:, -1] = residual_ns
    return Account(
        terms_ns=terms_ns,
        total_ns=total_ns,
        due_ns=due,
        batch=columns["batch"][kept],
        about={name: columns[name][kept] for name in ABOUT},
        reading_ns=last - np.maximum(columns["first_byte_ns"][kept], due),
        order=np.argsort(total_ns, kind="stable"),
        with_server=with_server,
        unaccounted=int(answered.sum() - rows.sum()),
        contradictions=int((residual_ns < -CLOCK_TOLERANCE_NS).sum()),
    )


def mean(account: Account) -> Band | None:
    """The mean over all requests; None without requests."""
    return _band("mean", account, np.arange(len(account.total_ns)), 0.0, 1.0) if len(account.total_ns) else None


def at_quantile(account: Account, quantile: float) -> Band | None:
    """The mean account of the requests around a quantile; None if fewer than five lie there.

    The band reaches 5 % to either side of the median and half way to the slowest request above p90 (98.5 to 99.5 % for
    p99). A single request at the quantile would be a random sample.
    """
    low, high = band_around(quantile)
    rows = rows_around(account, quantile)
    return _band(f"p{quantile * 100:g}", account, rows, low, high) if len(rows) >= MIN_BAND else None


def between(account: Account, low: float, high: float) -> Band | None:
    """The mean account of the requests between two quantiles, for runs with few requests; None with fewer than two."""
    rows = rows_between(account, low, high)
    return _band(f"{low:.0%} to {high:.0%}", account, rows, low, high) if len(rows) > 1 else None


def typical(account: Account, bands: Mapping[str, Band]) -> Band | None:
    """The band around the median, also of a run with few requests."""
    return bands.get("p50") or between(account, 0.25, 0.75)


def slow(account: Account, bands: Mapping[str, Band]) -> Band | None:
    """The band around the highest percentile that the run has requests enough for."""
    return next((bands[name] for name in ("p99", "p95", "p90") if name in bands), None) or between(account, 0.75, 1.0)


def rows_around(account: Account, quantile: float) -> NDArray[np.intp]:
    """The indices of the requests in the band around a quantile, the fastest first."""
    return rows_between(account, *band_around(quantile))


def rows_between(account: Account, low: float, high: float) -> NDArray[np.intp]:
    """The indices of the requests between two quantiles of latency, the fastest first."""
    count = len(account.total_ns)
    return account.order[int(low * count) : int(np.ceil(high * count))]


def band_around(quantile: float) -> tuple[float, float]:
    """The ends of the band around ``quantile`` (0 < quantile < 1), as quantiles."""
    half = min(0.05, (1 - quantile) / 2, quantile / 2)
    return round(quantile - half, 6), round(quantile + half, 6)


def tail_contributions(median: Band, tail: Band) -> dict[str, float]:
    """The ms that each term adds between two bands; their sum is the gap between the totals."""
    return {name: tail.terms_ms[name] - median.terms_ms[name] for name in TERMS}


def batch_sizes(account: Account) -> dict[int, int]:
    """The number of requests by the size of their batch."""
    sizes, counts = np.unique(account.batch[account.batch > 0], return_counts=True)
    return dict(zip(sizes.tolist(), counts.tolist(), strict=True))


def _band(name: str, account: Account, rows: NDArray[np.intp], low: float, high: float) -> Band:
    means_ms = account.terms_ns[rows].mean(axis=0) / 1e6
    terms = dict(zip(TERMS, means_ms.tolist(), strict=True))
    return Band(name, low, high, len(rows), float(account.total_ns[rows].mean()) / 1e6, terms)
