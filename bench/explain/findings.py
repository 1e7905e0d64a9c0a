"""Findings: what a rule of the verdict says of a run, and the view of the facts that rules share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from . import concurrency
from .concurrency import Concurrency
from .facts import Facts, Host

MIN_MS = 1.0
NORMAL_MS = 10.0
"""Computing for less than this at every request is no reason to act."""
KEPT_UP = 0.95
QUIET = 0.05
"""Cores that a server without other clients does not use while nothing is sent."""
OTHERS = 0.15
"""Of the server's requests or time: a smaller share of other clients delays little."""
STRANGERS = 0.1
"""Connections of others, on average: short ones are open at few of the looks."""
WAITS = 0.5
"""A run whose thread uses a core for a smaller share waits more than it computes."""
IN_TAIL = 0.02
"""New connections for fewer requests do not decide p99."""
ALL_WORK = 0.9
"""Runs whose threads use a core for this share of their time compute, and nothing stops them."""
WORKS = 0.6
"""A request that uses a core for this share of its time computes; one with a smaller share waits."""
OVERTAKEN = 0.5
"""Where later requests are answered before this share of the slow ones, the server as a whole did not stop."""
LIBRARY_BYTES, SMALL_BYTES = 250e6, 50e6
"""Python with torch or another framework holds that much without a model. Less beyond it may stay in a cache."""
LIKELY_SHARE = 0.2
"""A cause that explains this share of the latency around p99 is likely, a smaller one undecided."""


@dataclass(frozen=True, slots=True)
class Finding:
    """``low_ms`` to ``high_ms`` of the latency around p99 belong to the cause, as far as the facts tell.

    ``typical_ms``: of a typical request, where the server itself measured that; else 0.
    """

    name: str
    low_ms: float
    high_ms: float
    evidence: tuple[str, ...]
    typical_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class View:
    """The facts with what several rules derive from them.

    ``wait_ms``: the latency around p99 beyond that of a request alone, without waits in the generator; 0 for a single
    caller, whose requests are always alone. ``work_ms``: the computing of one request. ``own_ms``: CPU time of the
    server for a request alone, without what it uses when nothing is sent; ``worked``: its share of the latency alone;
    both None if unknown.
    """

    facts: Facts
    concurrency: Concurrency | None
    wait_ms: float
    work_ms: float
    own_ms: float | None
    worked: float | None

    def left(self, earlier: Mapping[str, Finding], whole_ms: float, *names: str) -> float:
        """What the findings of these names leave of a time."""
        return max(whole_ms - sum(earlier[name].low_ms for name in names if name in earlier), 0.0)

    def rules(self, earlier: Mapping[str, Finding], name: str) -> bool:
        """Whether a special cause explains so much that a general one is not looked for. A small one hides none."""
        return name in earlier and earlier[name].high_ms >= LIKELY_SHARE * self.facts.p99_ms


Earlier = Mapping[str, Finding]
Rule = Callable[[View, Earlier], Finding | None]


def view_of(facts: Facts) -> View:
    burst = facts.burst
    found = concurrency.of(burst, facts.load.body_bytes) if burst is not None else None
    own_ms = worked = None
    if burst is not None and burst.cpu_ms is not None and burst.alone_ms > 0:
        quiet = burst.quiet_cores or 0.0
        own_ms = max(burst.cpu_ms - (quiet * burst.alone_ms if quiet >= QUIET else 0.0), 0.0)
        worked = own_ms / burst.alone_ms
    lag_ms = facts.slow["send_lag"] + pool_wait_ms(facts)
    if facts.with_server:
        work_ms = facts.typical["compute"]
        if facts.per_request is not None and facts.per_request.cached and facts.per_request.compute_ms is not None:
            work_ms = facts.per_request.compute_ms  # what the cache answers is computed by nobody
    elif burst is not None and own_ms is not None:
        work_ms = min(own_ms, burst.alone_ms)
    else:
        work_ms = 0.0
    wait_ms = 0.0 if facts.load.users == 1 else max(facts.p99_ms - facts.alone_ms - lag_ms, 0.0)
    return View(facts, found, wait_ms, work_ms, own_ms, worked)


def held_weights_ms(host: Host) -> float | None:
    """The time to read once what a server may hold of weights, by its memory; None if unknown, 0 if too little."""
    if host.own_bytes is None or not host.memory_bytes_per_s:
        return None
    weights = host.own_bytes - LIBRARY_BYTES
    return weights / host.memory_bytes_per_s * 1e3 if weights >= SMALL_BYTES else 0.0


def pool_wait_ms(facts: Facts) -> float:
    """How long a slow request waited for a connection of the generator to be free.

    0 where the server is saturated, which keeps all of them busy, and where requests wait for new ones to open.
    """
    if saturated(facts) or facts.load.connections >= IN_TAIL * facts.load.requests:
        return 0.0
    return facts.slow["connect"]


def busy_share(facts: Facts) -> float:
    """How busy the server is: its cores, or its busiest thread if that is busier; 0 if unknown."""
    host = facts.host
    cores = host.quota_cores or host.cores
    of_cores = host.server_cores / cores if host.server_cores is not None and cores else 0.0
    return max(of_cores, host.busiest_thread or 0.0)


def saturated(facts: Facts) -> bool:
    """Whether more requests came than the server could answer."""
    load = facts.load
    if load.shed_share >= 0.05:
        return True
    if load.offered_per_s is None:
        return False
    behind = load.answered_per_s < KEPT_UP * load.offered_per_s and load.failed_share < 0.5
    return behind or (facts.growing >= 1.5 and facts.p50_ms > 3 * facts.alone_ms)


def others(facts: Facts) -> float:
    """The share of other clients in the requests that the server answered, or in their time; 0 if unknown."""
    model = facts.model
    if model.requests_share is None:
        return 0.0
    return 1 - min(model.requests_share, model.time_share if model.time_share is not None else 1.0)
