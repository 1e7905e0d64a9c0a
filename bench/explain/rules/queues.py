"""Rules on waiting in the server: the batch timer, one at a time, too many requests."""

from __future__ import annotations

import math

from ...load.burst import Burst
from .. import concurrency
from ..facts import Facts
from ..findings import WAITS, WORKS, Earlier, Finding, View, busy_share, saturated

FULL = 0.8
"""Of all cores: whoever uses them works on more than one request at a time."""
FEW = 0.6
"""Of the requests of a burst that are served at a time; more are nearly all."""
SERIAL_BUSY = 0.4
"""A worker that is busy for a smaller share of the time is no bottleneck: requests rarely meet in it."""

TOGETHER, NO_LONGER = 0.7, 1.1
"""Share of the requests that are answered at the same moment; latency of a second request over that of one alone."""
RELEASED_MS = 5.0
"""A shorter wait of a request alone is none that a server planned."""


def batch_timer(view: View, _earlier: Earlier) -> Finding | None:
    """The queue of Slipway, or a server or script that waits by itself."""
    facts = view.facts
    waited_ms = max(facts.slow["queue_timer"], facts.typical["queue_timer"])
    if waited_ms >= 0.15 * facts.p99_ms or (facts.with_server and facts.typical["queue_timer"] >= 0.3 * facts.p50_ms):
        text = f"a request waits {waited_ms:,.1f} ms for a batch to fill while an instance of the model is free"
        typical_ms = facts.typical["queue_timer"]
        return Finding("batch_timer", 0.7 * waited_ms, waited_ms, (text,), typical_ms)
    if facts.with_server and (facts.model.cpu_share is None or facts.model.cpu_share >= WAITS):
        return None
    burst = facts.burst
    if view.concurrency is None or burst is None:
        return None
    if view.concurrency.timer_ms < 0.25 * burst.alone_ms:
        return _released_together(view, burst)
    timer_ms = view.concurrency.timer_ms
    text = (
        f"a request alone takes {burst.alone_ms:,.1f} ms, but one that is sent {burst.stagger_ms:,.1f} ms later "
        f"takes {burst.staggered_ms:,.1f} ms: the server waited for both"
    )
    return Finding("batch_timer", 0.5 * timer_ms, timer_ms, (text,))


def _released_together(view: View, burst: Burst) -> Finding | None:
    """A wait that ends for all that are there at the same moment, also for those that came later: a tick, or a window
    that each request opens anew. A second request waits no longer than one alone, so that it is no turn to wait for."""
    facts = view.facts
    staggered_ms = burst.staggered_ms or math.inf
    waits_ms = burst.alone_ms - (burst.floor_ms or 0.0)
    if facts.together < TOGETHER or view.worked is None or view.worked >= WAITS:
        return None
    if waits_ms < RELEASED_MS or staggered_ms > NO_LONGER * burst.alone_ms:
        return None
    text = f"{facts.together:.0%} of the requests that arrived at different times were answered at the same moment"
    released_ms = max(facts.p99_ms - facts.slow["send_lag"] - (view.own_ms or 0.0), 0.0)
    return Finding("batch_timer", 0.5 * released_ms, released_ms, (text,))


def serial(view: View, earlier: Earlier) -> Finding | None:
    """One request at a time, or a few, although the server has cores for more: a lock, a worker, a pool."""
    facts, host, burst = view.facts, view.facts.host, view.facts.burst
    if view.concurrency is None or burst is None or burst.alone_ms < 1.0:
        return None
    works = view.worked is not None and view.worked >= WORKS
    one_by_one = view.concurrency.serial >= concurrency.SERIAL_FROM
    # Requests that compute share the cores. Where they only wait, nothing but a pool limits how many do.
    few = view.worked is not None and not works and view.concurrency.at_once <= FEW * view.concurrency.size
    if not one_by_one and not few:
        return None
    if any(view.rules(earlier, name) for name in ("cpu_quota", "threads", "bandwidth", "batch_timer")):
        return None
    wait_ms = view.left(
        earlier, view.wait_ms, "stall", "neighbour", "input_size", "cold_start", "other_traffic", "padding"
    )
    cores = host.quota_cores or host.cores
    # A request that keeps all cores busy by itself leaves none for another one.
    busy_cores = max(host.server_cores or 0.0, view.worked or 0.0)
    no_core = cores is not None and (cores < 1.5 or busy_cores >= FULL * cores)
    each_ms = view.concurrency.each_ms if one_by_one else burst.alone_ms / view.concurrency.at_once
    if facts.load.answered_per_s * each_ms / 1e3 < SERIAL_BUSY:
        return None
    if wait_ms < 0.2 * facts.p99_ms or (works and (no_core or saturated(facts))):
        return None
    order = "one by one" if view.concurrency.in_order else "together at the end"
    order = order if one_by_one else f"about {view.concurrency.at_once:.0f} at a time"
    last = next(one for one in reversed(burst.together) if one.ends_ms)
    evidence = [
        (
            f"{last.size} requests at once were answered {order}, the last after {last.ends_ms[-1]:,.1f} ms; one alone "
            f"takes {burst.alone_ms:,.1f} ms"
        )
    ]
    if not works and view.worked is not None:
        evidence.append(f"it used a core for {view.worked:.0%} of that time: it waits, and others wait for it")
    return Finding("serial", 0.5 * wait_ms, wait_ms, tuple(evidence))


def capacity(view: View, earlier: Earlier) -> Finding | None:
    facts, model = view.facts, view.facts.model
    special = ("cpu_quota", "neighbour", "threads", "stall", "serial", "other_traffic", "input_size", "bandwidth")
    wait_ms = view.left(earlier, view.wait_ms, *special, "cold_start", "padding")
    load = facts.load
    evidence = []
    if saturated(facts):
        offered = f" of {load.offered_per_s:,.1f}/s" if load.offered_per_s is not None else ""
        evidence.append(f"the server is saturated at {load.answered_per_s:,.1f}/s{offered}: its queue grows")
        if load.shed_share:
            evidence.append(f"it refused {load.shed_share:.0%} of the requests (429 or 503)")
        high_ms = max(wait_ms, 0.5 * view.wait_ms, 0.5 * facts.p99_ms if load.shed_share >= 0.05 else 0.0)
        return Finding("capacity", 0.6 * high_ms, high_ms, (*evidence, *_ahead(facts)))
    use = max(model.utilisation or 0.0, busy_share(facts))
    if use < 0.6 or wait_ms < 0.25 * facts.p99_ms or view.rules(earlier, "cpu_quota"):
        return None  # a quota that stops the server is its capacity
    if load.offered_per_s is None and view.rules(earlier, "generator"):
        return None  # one of the two limits a closed loop
    evidence.append(f"the server was busy {use:.0%} of the time at {load.answered_per_s:,.1f}/s, so that requests wait")
    return Finding("capacity", 0.4 * wait_ms, wait_ms, (*evidence, *_ahead(facts)))


def _ahead(facts: Facts) -> tuple[str, ...]:
    """The queue that requests met, as the server told it. On the event loop they wait in sockets instead."""
    per_request = facts.per_request
    if per_request is None or per_request.ahead is None or per_request.ahead_slow is None or facts.model.inline:
        return ()
    slow, typical = f"{per_request.ahead_slow:.1f}", f"{per_request.ahead:.1f}"
    return (f"{slow} rows waited when a slow request joined the queue, {typical} for a typical one",)
