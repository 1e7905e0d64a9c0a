"""Rules on waiting in the server: the batch timer, one at a time, too many requests."""

from __future__ import annotations

from .. import turns
from ..facts import Facts
from ..findings import WAITS, WORKS, Finding, Taken, View, busy_share, saturated

FULL = 0.8
"""Of all cores: whoever uses them works on more than one request at a time."""
FEW = 0.6
"""Of the requests of a burst that are served at a time; more are nearly all."""
SERIAL_BUSY = 0.4
"""A worker that is busy for a smaller share of the time is no bottleneck: requests rarely meet in it."""


def batch_timer(seen: View, _taken: Taken) -> Finding | None:
    """The queue of Slipway, or a server or script that waits by itself."""
    facts = seen.facts
    waited_ms = max(facts.slow["queue_timer"], facts.typical["queue_timer"])
    if waited_ms >= 0.15 * facts.p99_ms or (facts.with_server and facts.typical["queue_timer"] >= 0.3 * facts.p50_ms):
        text = f"a request waits {waited_ms:,.1f} ms for a batch to fill while an instance of the model is free"
        typical_ms = facts.typical["queue_timer"]
        return Finding("batch_timer", 0.7 * waited_ms, waited_ms, (text,), typical_ms)
    if facts.with_server and (facts.model.cpu_share is None or facts.model.cpu_share >= WAITS):
        return None
    burst = facts.burst
    if seen.turns is None or burst is None or seen.turns.timer_ms < 0.25 * burst.alone_ms:
        return None
    timer_ms = seen.turns.timer_ms
    text = (
        f"a request alone takes {burst.alone_ms:,.1f} ms, but one that is sent {burst.stagger_ms:,.1f} ms later "
        f"takes {burst.staggered_ms:,.1f} ms: the server waited for both"
    )
    return Finding("batch_timer", 0.5 * timer_ms, timer_ms, (text,))


def serial(seen: View, taken: Taken) -> Finding | None:
    """One request at a time, or a few, although the server has cores for more: a lock, a worker, a pool."""
    facts, host, burst = seen.facts, seen.facts.host, seen.facts.burst
    if seen.turns is None or burst is None or burst.alone_ms < 1.0:
        return None
    works = seen.worked is not None and seen.worked >= WORKS
    one_by_one = seen.turns.serial >= turns.SERIAL_FROM
    # Requests that compute share the cores. Where they only wait, nothing but a pool limits how many do.
    few = seen.worked is not None and not works and seen.turns.at_once <= FEW * seen.turns.size
    if not one_by_one and not few:
        return None
    if any(seen.rules(taken, name) for name in ("cpu_quota", "threads", "bandwidth", "batch_timer")):
        return None
    wait_ms = seen.left(
        taken, seen.wait_ms, "stall", "neighbour", "input_size", "cold_start", "other_traffic", "padding"
    )
    cores = host.quota_cores or host.cores
    no_core = cores is not None and (cores < 1.5 or (host.server_cores or 0.0) >= FULL * cores)
    each_ms = seen.turns.each_ms if one_by_one else burst.alone_ms / seen.turns.at_once
    if facts.load.answered_per_s * each_ms / 1e3 < SERIAL_BUSY:
        return None
    if wait_ms < 0.2 * facts.p99_ms or (works and (no_core or saturated(facts))):
        return None
    order = "one by one" if seen.turns.in_order else "together at the end"
    order = order if one_by_one else f"about {seen.turns.at_once:.0f} at a time"
    last = next(one for one in reversed(burst.together) if one.ends_ms)
    evidence = [
        (
            f"{last.size} requests at once were answered {order}, the last after {last.ends_ms[-1]:,.1f} ms; one alone "
            f"takes {burst.alone_ms:,.1f} ms"
        )
    ]
    if not works and seen.worked is not None:
        evidence.append(f"it used a core for {seen.worked:.0%} of that time: it waits, and others wait for it")
    return Finding("serial", 0.5 * wait_ms, wait_ms, tuple(evidence))


def capacity(seen: View, taken: Taken) -> Finding | None:
    facts, model = seen.facts, seen.facts.model
    special = ("cpu_quota", "neighbour", "threads", "stall", "serial", "other_traffic", "input_size", "bandwidth")
    wait_ms = seen.left(taken, seen.wait_ms, *special, "cold_start", "padding")
    load = facts.load
    evidence = []
    if saturated(facts):
        offered = f" of {load.offered_per_s:,.1f}/s" if load.offered_per_s is not None else ""
        evidence.append(f"the server is saturated at {load.answered_per_s:,.1f}/s{offered}: its queue grows")
        if load.shed_share:
            evidence.append(f"it refused {load.shed_share:.0%} of the requests (429 or 503)")
        high_ms = max(wait_ms, 0.5 * seen.wait_ms, 0.5 * facts.p99_ms if load.shed_share >= 0.05 else 0.0)
        return Finding("capacity", 0.6 * high_ms, high_ms, (*evidence, *_ahead(facts)))
    use = model.utilisation if model.utilisation is not None else busy_share(facts)
    if use < 0.6 or wait_ms < 0.25 * facts.p99_ms or seen.rules(taken, "cpu_quota"):
        return None  # a quota that stops the server is its capacity
    if load.offered_per_s is None and seen.rules(taken, "generator"):
        return None  # one of the two limits a closed loop
    evidence.append(f"the server was busy {use:.0%} of the time at {load.answered_per_s:,.1f}/s, so that requests wait")
    return Finding("capacity", 0.4 * wait_ms, wait_ms, (*evidence, *_ahead(facts)))


def _ahead(facts: Facts) -> tuple[str, ...]:
    """The queue that requests met, as the server told it. On the event loop they wait in sockets instead."""
    told = facts.told
    if told is None or told.ahead is None or told.ahead_slow is None or facts.model.inline:
        return ()
    return (
        f"{told.ahead_slow:.1f} rows waited when a slow request joined the queue, {told.ahead:.1f} for a typical one",
    )
