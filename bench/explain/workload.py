"""The workload: the requests of a record as they reached the server's queue, to be replayed in virtual time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..load.measurements import Outcome
from ..observe.timeline import Span
from . import batches, stages
from .inline import OnLoop
from .stages import TERMS, Account

BLOCKS = 24
"""Stretches of time in which a record is cut. Requests, and the noise of the machine, stay together within one."""
NS_PER_S = 1e9
MOST_REQUESTS = 30_000
"""A longer record is cut: a simulation of as many takes about a second."""
BEFORE = ("send_lag", "connect", "write", "receive", "decode")
AFTER = ("scatter", "encode", "residual")
WAKE_QUANTILE = 0.05
MOST_UNEXPLAINED = 0.05

Columns = dict[str, NDArray[np.int64]]
Integers = NDArray[np.int64]


class NoForecast(Exception):
    """A forecast is not possible. The message says why, and what to measure."""


@dataclass(frozen=True, slots=True, eq=False)
class Workload:
    """The successful requests of a record, int64 [n] in the order of ``due_ns``.

    ``due_ns``: intended instants, from 0, without the pauses between repeats. ``before_ns``: from there until the
    request joined the queue; ``decode_ns`` is a part of it. ``rows``: 0 for a request without a run, such as one that
    a cache answered. ``after_ns``: from the end of its run to the last byte of the response; ``encode_ns`` is a part of
    it. ``total_ns``: the measured latency. ``wake_ns``: the wait of a request that finds an idle instance. ``loop``:
    of a model that runs on the event loop, else None.
    """

    due_ns: Integers
    before_ns: Integers
    decode_ns: Integers
    rows: Integers
    after_ns: Integers
    encode_ns: Integers
    total_ns: Integers
    wake_ns: int
    seconds: float
    loop: OnLoop | None = None

    @property
    def width_ns(self) -> int:
        """The length of a block."""
        return max(int(self.seconds * NS_PER_S / BLOCKS), 1)

    @property
    def rate_per_s(self) -> float:
        return len(self.due_ns) / self.seconds

    def quantile_in_blocks_ms(self, quantile: float, block_s: float) -> NDArray[np.float64]:
        """The quantile of the latency in each whole block of so many seconds; of the whole record if it is shorter."""
        count = max(int(self.seconds / block_s), 1)
        edges = np.searchsorted(self.due_ns, np.arange(1, count) * int(block_s * NS_PER_S))
        ends = np.searchsorted(self.due_ns, int(count * block_s * NS_PER_S)) if self.seconds > block_s else None
        parts = np.split(self.total_ns[:ends], edges)
        return np.array([np.quantile(one, quantile, method="inverted_cdf") for one in parts if len(one)]) / 1e6

    def surrounded_as(self, other: Workload) -> Workload:
        """The same requests, each with the time before and after the queue that one of ``other`` took at the same part
        of its own record."""
        near = np.arange(len(self.due_ns)) * len(other.due_ns) // len(self.due_ns)
        loop = other.loop
        if loop is not None:
            loop = OnLoop(loop.client_ns[near], loop.receive_ns[near], loop.own_ns, loop.outside_ns[near])
        return replace(
            self,
            before_ns=other.before_ns[near],
            decode_ns=other.decode_ns[near],
            after_ns=other.after_ns[near],
            encode_ns=other.encode_ns[near],
            wake_ns=other.wake_ns,
            loop=loop,
        )

    def laid_out(self, order: Sequence[int], rate: float) -> tuple[NDArray[np.intp], Integers]:
        """The requests of the blocks in ``order``, ``rate`` times as fast: their indices [m], and when each is due."""
        edges = np.searchsorted(self.due_ns, np.arange(BLOCKS + 1) * self.width_ns)
        indices, instants = [], []
        for place, block in enumerate(order):
            members = np.arange(edges[block], edges[block + 1])
            inside_ns = self.due_ns[members] - block * self.width_ns
            indices.append(members)
            instants.append(((place * self.width_ns + inside_ns) / rate).astype(np.int64))
        return np.concatenate(indices), np.concatenate(instants)


def shortened(window: Columns, stretches: Sequence[Span]) -> tuple[Columns, tuple[Span, ...]]:
    """The first ``MOST_REQUESTS`` of the measured rows, and the stretches of time in which they were due."""
    due_ns = window["due_ns"]
    if len(due_ns) <= MOST_REQUESTS:
        return window, tuple(stretches)
    end_s = float(due_ns[MOST_REQUESTS]) / NS_PER_S
    kept = tuple((start_s, min(stop_s, end_s)) for start_s, stop_s in stretches if start_s < end_s)
    return {name: column[:MOST_REQUESTS] for name, column in window.items()}, kept


def of_record(window: Columns, stretches: Sequence[Span]) -> Workload:
    """The workload of the measured rows. Raises NoForecast without stage times, and where many requests failed."""
    answered = window["outcome"] == Outcome.OK
    if not answered.any() or answered.mean() < 0.99:
        raise NoForecast("more than 1 % of the requests failed, and a simulation knows only those that succeed")
    account = stages.join(window)
    if not account.with_server:
        raise NoForecast("the server sends no stage times, so that its queue cannot be simulated")
    term = {name: account.terms_ns[:, at] for at, name in enumerate(TERMS)}
    runs = account.batch > 0
    waits_ns = term["queue_busy"][runs]
    return Workload(
        due_ns=without_pauses(account.due_ns, stretches),
        before_ns=sum((term[name] for name in BEFORE), np.zeros_like(account.due_ns)),
        decode_ns=term["decode"],
        rows=_rows(account, _payload_of(window, account)),
        after_ns=sum((term[name] for name in AFTER), np.zeros_like(account.due_ns)),
        encode_ns=term["encode"],
        total_ns=account.total_ns,
        wake_ns=int(np.quantile(waits_ns, WAKE_QUANTILE)) if len(waits_ns) else 0,
        seconds=sum(end_s - start_s for start_s, end_s in stretches),
    )


def _payload_of(window: Columns, account: Account) -> Integers:
    """The payload of each request of the account, by its intended instant, which no other request has as a rule."""
    return window["payload"][np.searchsorted(window["due_ns"], account.due_ns)]


def without_pauses(due_ns: Integers, stretches: Sequence[Span]) -> Integers:
    """Intended instants from 0, without the time between the measured stretches."""
    moved, passed_ns = due_ns.copy(), 0
    for start_s, end_s in stretches:
        inside = (due_ns >= start_s * NS_PER_S) & (due_ns < end_s * NS_PER_S)
        moved[inside] = due_ns[inside] - int(start_s * NS_PER_S) + passed_ns
        passed_ns += int((end_s - start_s) * NS_PER_S)
    return moved


def _rows(account: Account, payload: Integers) -> Integers:
    """The rows of each request, as the server told them. An older one tells none: then equal ones if those explain all
    runs, else by payload, the smallest run that held it.

    Raises NoForecast where runs held more rows than these requests have: another client's, or unknown sizes.
    """
    order, first = batches.group(account)
    rows = np.zeros(len(account.batch), dtype=np.int64)
    if not len(first):
        return rows
    in_runs = account.batch[order][first]
    told = account.about["rows"][order]
    if (told > 0).all():
        rows[order] = told
    else:
        rows[order] = max(round(in_runs.sum() / len(order)), 1)
        if _unexplained(rows, order, first, in_runs) > MOST_UNEXPLAINED:
            for one in np.unique(payload):
                same = (payload == one) & (account.batch > 0)
                rows[same] = account.batch[same].min(initial=np.iinfo(np.int64).max)
    if _unexplained(rows, order, first, in_runs) > MOST_UNEXPLAINED:
        raise NoForecast("runs held rows that are not of this load: another client, or requests of unknown sizes")
    return rows


def _unexplained(rows: Integers, order: NDArray[np.intp], first: NDArray[np.intp], in_runs: Integers) -> float:
    """The rows by which runs differ from the requests in them, as a share of all."""
    return float(np.abs(np.add.reduceat(rows[order], first) - in_runs).sum() / in_runs.sum())
