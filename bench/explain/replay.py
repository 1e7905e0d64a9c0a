"""The replay: a workload against the server's own queue in virtual time, as the server was, or with a change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from server.request import NEVER
from server.scheduling.queue import BatchQueue

from ..observe.model_work import ModelWork
from . import inline
from .changes import Change
from .inline import OnLoop, Work
from .service import Service, run_ns
from .simulator import Arrival, simulate
from .stages import CLIENT_TERMS, TERMS, Account
from .workload import BLOCKS, NoForecast, Workload

US, MS = 1_000, 1_000_000


@dataclass(frozen=True, slots=True)
class Layout:
    """How a server batches, admits and shares: as it said, or changed. ``table_ns``: its cost table, ns by rows.
    ``inline``: it runs the model on its event loop."""

    instances: int
    threads: int
    max_batch_size: int
    max_delay_ns: int
    max_queue_ns: int
    contention: float
    table_ns: Mapping[int, float]
    inline: bool = False

    def changed(self, change: Change) -> Layout:
        """The layout after a change. Threads of an instance stay as they are unless the change names them.

        Raises NoForecast for instances of a model on the event loop.
        """
        if self.inline and (change.instances or 1) > 1:
            raise NoForecast(
                "the model runs on the event loop, and several instances would not: measure such a server instead"
            )
        instances = change.instances or self.instances
        delay_us, wait_ms = change.max_queue_delay_us, change.max_queue_ms
        return replace(
            self,
            instances=instances,
            threads=change.threads or self.threads,
            max_batch_size=change.max_batch_size or self.max_batch_size,
            max_delay_ns=self.max_delay_ns if delay_us is None else delay_us * US,
            max_queue_ns=self.max_queue_ns if not wait_ms else int(wait_ms * MS),
            contention=self.contention if instances == self.instances else 1.0,
            table_ns={rows: ns * change.compute + change.extra_us * US for rows, ns in self.table_ns.items()},
        )

    def queue(self) -> BatchQueue:
        seeds = [(rows, ns) for rows, ns in self.table_ns.items() if rows <= self.max_batch_size]
        return BatchQueue(self.max_batch_size, seeds, self.instances, self.max_delay_ns, contention=self.contention)


@dataclass(frozen=True, slots=True, eq=False)
class Replayed:
    """One replay. ``latency_ns`` [m]; ``load``: the arrivals, over what the instances can do in their best batches;
    ``sizes``: rows of each run; ``refused``: the share of the requests without a response."""

    latency_ns: NDArray[np.int64]
    load: float
    sizes: Sequence[int]
    refused: float

    @property
    def largest(self) -> int:
        return max(self.sizes, default=0)

    def outside(self, known: frozenset[int]) -> float:
        """The share of the rows in runs of other sizes than the known ones."""
        return sum(size for size in self.sizes if size not in known) / max(sum(self.sizes), 1)

    def quantile_ns(self, q: float) -> float:
        return float(np.quantile(self.latency_ns, q, method="inverted_cdf"))


def layout_of(works: Sequence[ModelWork]) -> Layout:
    """The layout that the server told. Raises NoForecast for several models, pipelines, padding, and old servers."""
    if len(works) != 1 or works[0].step:
        raise NoForecast("the server ran several models or a pipeline, and only a single queue can be simulated")
    (one,) = works
    if one.choices is None or one.instances is None or one.threads is None:
        raise NoForecast("the server does not tell its batch size and timer in /metrics: update it, and measure again")
    if one.padding:
        raise NoForecast("the model pads inputs to one length, and the simulation knows runs of one length only")
    return Layout(
        instances=one.instances,
        threads=one.threads // one.instances,
        max_batch_size=one.choices.max_batch_size,
        max_delay_ns=int(one.choices.max_queue_delay_ms * MS),
        max_queue_ns=int(one.choices.max_queue_ms * MS),
        contention=one.choices.contention,
        table_ns={cost.rows: cost.ms * MS for cost in one.usual_costs()},
        inline=one.choices.inline,
    )


def with_loop(load: Workload, account: Account, service: Service, layout: Layout, loop_ns: float) -> Workload:
    """The workload of a model on the event loop. ``loop_ns``: CPU time of the loop's thread for each request.

    Raises NoForecast if the stages count more than that.
    """
    term = {name: account.terms_ns[:, at] for at, name in enumerate(TERMS)}
    client_ns = sum((term[name] for name in CLIENT_TERMS), np.zeros_like(load.due_ns))
    # What a request waits for others of its turn is counted in scatter and queue_busy, and is no work for it.
    staged_ns = sum(float(term[name].mean()) for name in ("receive", "decode", "encode"))
    own_ns = loop_ns - staged_ns - service.run_ns_per_request(account)
    if own_ns < 0:
        raise NoForecast(
            f"the stages count {staged_ns / US:,.0f} us of the event loop for each request, and its thread used "
            f"{loop_ns / US:,.0f} us: something else than work took that time"
        )
    none = np.zeros_like(load.due_ns)
    parts = OnLoop(client_ns, term["receive"], int(own_ns), none)
    works, _ = _on_loop(replace(load, loop=parts), service, layout, Change(), range(BLOCKS), 0)
    index, due_ns = load.laid_out(range(BLOCKS), 1.0)
    outside_ns = none.copy()
    outside_ns[index] = inline.outside_ns(load.total_ns[index], works, due_ns)
    return replace(load, loop=replace(parts, outside_ns=outside_ns))


def play(
    workload: Workload,
    service: Service,
    layout: Layout,
    change: Change,
    order: Sequence[int],
    seed: int = 0,
) -> Replayed:
    """Replay the blocks of ``order`` with a change. ``layout``: changed already."""
    if workload.loop is not None:
        return _play_on_loop(workload, service, layout, change, order, seed)
    index, due_ns = workload.laid_out(_long_enough(order, change.rate), change.rate)
    ready_ns, rows = due_ns + workload.before_ns[index], workload.rows[index]
    queued = rows > 0
    if change.cache:
        queued &= np.random.default_rng(seed).random(len(rows)) >= change.cache
    places = np.flatnonzero(queued)
    places = places[np.argsort(ready_ns[places], kind="stable")]
    arrivals = [
        Arrival(at_ns, rows=count)
        for at_ns, count in zip((ready_ns[places] + workload.wake_ns).tolist(), rows[places].tolist(), strict=True)
    ]
    crowding = service.crowding or 0.0
    outcome = simulate(
        arrivals,
        layout.queue(),
        run_ns(service, service.moments(order, workload.width_ns, seed), change.compute, change.extra_us * US),
        layout.max_queue_ns or NEVER,
        lambda busy: 1 + crowding * (busy - 1),
    )
    done_ns = ready_ns.copy()
    done_ns[places] = outcome.done_ns
    answered = done_ns < NEVER
    latency_ns = (done_ns + workload.after_ns[index] - due_ns)[answered]
    return Replayed(
        latency_ns=latency_ns,
        load=float(rows[places].sum()) / max(int(due_ns[-1]), 1) / _capacity(service, layout, change),
        sizes=outcome.batches,
        refused=1 - float(answered.mean()),
    )


def _on_loop(
    workload: Workload, service: Service, layout: Layout, change: Change, order: Sequence[int], seed: int
) -> tuple[list[Work], list[int]]:
    """The requests of the blocks of ``order`` after they were served on the loop, in that order; and rows of runs."""
    loop = workload.loop
    assert loop is not None
    index, due_ns = workload.laid_out(_long_enough(order, change.rate), change.rate)
    rows = workload.rows[index].copy()
    if change.cache:
        rows[np.random.default_rng(seed).random(len(rows)) < change.cache] = 0
    before_ns = loop.receive_ns[index] + workload.decode_ns[index]
    after_ns = loop.own_ns + workload.encode_ns[index]
    columns = (due_ns + loop.client_ns[index], rows, before_ns, after_ns)
    works = [Work(*one) for one in zip(*(column.tolist() for column in columns), strict=True)]
    sizes = inline.serve(
        sorted(works, key=lambda one: one.at_ns),
        layout.queue(),
        run_ns(service, service.moments(order, workload.width_ns, seed), change.compute, change.extra_us * US),
        layout.max_queue_ns or NEVER,
    )
    return works, sizes


def _play_on_loop(
    workload: Workload, service: Service, layout: Layout, change: Change, order: Sequence[int], seed: int
) -> Replayed:
    assert workload.loop is not None
    works, sizes = _on_loop(workload, service, layout, change, order, seed)
    index, due_ns = workload.laid_out(_long_enough(order, change.rate), change.rate)
    done_ns = np.array([one.done_ns for one in works])
    answered = done_ns < NEVER
    latency_ns = (done_ns - due_ns + workload.loop.outside_ns[index])[answered]
    busy_ns = sum(one.before_ns + one.after_ns for one in works)
    runs = sum(one.rows for one in works) / _capacity(service, layout, change)
    return Replayed(
        latency_ns=latency_ns,
        load=(busy_ns + runs) / max(int(due_ns[-1]), 1),
        sizes=sizes,
        refused=1 - float(answered.mean()),
    )


def _capacity(service: Service, layout: Layout, change: Change) -> float:
    """Rows per ns of all instances, in the batch size that is best while all of them run."""
    sizes = [rows for rows in service.alone_ns if rows <= layout.max_batch_size] or [1]
    slow = 1 + (service.crowding or 0.0) * (layout.instances - 1)
    best = max(rows / (service.ns(rows) * change.compute + change.extra_us * US) for rows in sizes)
    return layout.instances * best / slow


def _long_enough(order: Sequence[int], rate: float) -> list[int]:
    """The blocks again and again, as many as fill the same time at another rate."""
    wanted = max(round(len(order) * rate), 1)
    return [order[at % len(order)] for at in range(wanted)]
