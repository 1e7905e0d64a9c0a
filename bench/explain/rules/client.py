"""Rules on the client, its connections and other clients."""

from __future__ import annotations

import math

from ...load.calibration import USABLE_SHARE
from ..findings import (
    IN_TAIL,
    MIN_MS,
    OTHERS,
    QUIET,
    STRANGERS,
    Earlier,
    Finding,
    View,
    busy_share,
    others,
    pool_wait_ms,
)

BUSY = 0.8
STARVED, LEAST_STARVED = 0.25, 0.05
"""Share of the time in which the generator waits for a core: a lower one counts if it waits more than it works."""
WAKES = 3
"""Times that the generator needs a core for a slow request: to send it, and for its answer behind those of others."""
SERVER_TOO = 0.5
"""Of the generator's delay: other programs that delay the server by as much are the cause of both."""
CHURN = 0.5
OF_TAIL = 0.25
"""New connections for few requests, ``IN_TAIL`` or more, matter where they are so much of p99."""
NOISE_MS, MOST_NOISE = 5.0, 0.4
"""A lag of some milliseconds is usual on a shared machine, and counts from this share of p99 on."""
COLD_MS = 500.0
WITH_SLOW, OFTENER = 1.0, 3.0
"""Connections of another client that come and go with the slow requests. Kept ones are there at all times."""


def generator(view: View, earlier: Earlier) -> Finding | None:
    facts = view.facts
    lag_ms, load = facts.slow["send_lag"], facts.load
    share = lag_ms / facts.p99_ms if facts.p99_ms > 0 else 0.0
    evidence = [f"{lag_ms:,.1f} ms ({share:.0%}) of a slow request passed before the generator sent it"]
    starved = load.run_delay or 0.0
    if load.generator_cpu > BUSY:
        evidence.append(f"the generator used {load.generator_cpu:.0%} of a core")
    if starved >= 0.1:
        evidence.append(f"the generator was ready and waited for a core {starved:.0%} of the time")
    used = (load.offered_per_s or 0.0) / (load.ceiling_per_s or math.inf)
    queued_ms = 0.0
    if used > USABLE_SHARE:
        evidence.append(f"it can send {load.ceiling_per_s:,.0f} requests/s here, and is reliable up to half of that")
        queued_ms = min(used, 1.0) * view.wait_ms
    # A closed loop keeps either the server or the generator busy.
    if load.offered_per_s is None and load.generator_cpu > max(BUSY, facts.model.utilisation or 0.0, busy_share(facts)):
        evidence.append("it was busier than the server, so that its callers waited for the generator itself")
        queued_ms = max(queued_ms, load.generator_cpu * view.wait_ms)
    pool_ms = pool_wait_ms(facts)
    if pool_ms >= MIN_MS:
        text = f"a slow request waited {pool_ms:,.1f} ms for one of its connections to be free (--connections)"
        evidence.insert(0 if pool_ms > lag_ms else 1, text)
    waited_ms = WAKES * starved * 1e3 / max(load.answered_per_s, 1.0)
    # One that hardly works waits for a core hardly ever, and still for most of the time in which it could have worked.
    mostly_waits = starved >= LEAST_STARVED and starved > load.generator_cpu
    counts = starved >= STARVED or mostly_waits or load.generator_cpu > BUSY
    read_late_ms = min(lag_ms, max(facts.slow["residual"], 0.0)) if counts else 0.0  # as late as it sends
    high_ms = max(lag_ms + read_late_ms + pool_ms, queued_ms, min(waited_ms, starved * facts.p99_ms) if counts else 0.0)
    if (
        high_ms < (0.1 if high_ms >= NOISE_MS else MOST_NOISE) * facts.p99_ms
        or view.rules(earlier, "cpu_quota")
        or (view.rules(earlier, "neighbour") and earlier["neighbour"].high_ms >= SERVER_TOO * high_ms)
    ):
        return None
    return Finding("generator", min(lag_ms + pool_ms, high_ms), high_ms, tuple(evidence))


def cold_start(view: View, _earlier: Earlier) -> Finding | None:
    cold, p99_ms = view.facts.cold, view.facts.p99_ms
    if cold is None:
        return None
    first = f"the first {cold.count} requests" if cold.count > 1 else "the first request"
    if cold.of_each:
        first = f"the first request of each of {cold.count} payloads"
    text = f"{first} took up to {cold.slowest_ms:,.0f} ms, later ones {cold.later_ms:,.1f} ms"
    explained_ms = cold.tail_share * p99_ms
    if cold.tail_share < 0.1 and cold.slowest_ms < max(COLD_MS, 20 * cold.later_ms):
        return None
    # A p99 hides a few requests, but each of them waited that long.
    lost_ms = cold.slowest_ms - cold.later_ms if cold.measured else MIN_MS
    return Finding("cold_start", explained_ms, max(explained_ms, lost_ms), (text,))


def connections(view: View, _earlier: Earlier) -> Finding | None:
    facts, load, burst = view.facts, view.facts.load, view.facts.burst
    each_ms = facts.slow["connect"]
    if burst is not None and burst.fresh_ms is not None:
        each_ms = max(each_ms, burst.connect_ms, burst.fresh_ms - burst.alone_ms)
    share = load.connections / load.requests if load.requests else 0.0
    if share < CHURN and (share < IN_TAIL or each_ms < OF_TAIL * facts.p99_ms):
        return _behind_a_proxy(view)
    text = f"{load.connections:,} more connections were opened than needed, for {load.requests:,} requests"
    text = f"{text}: {each_ms:,.1f} ms each"
    return Finding("connections", 0.5 * each_ms, max(each_ms, MIN_MS), (text,))


def _behind_a_proxy(view: View) -> Finding | None:
    """The connections of this client are kept, and the server still accepts a new one for most requests."""
    share, ours = view.facts.model.connections_share, view.facts.model.requests_share
    if share is None or share < CHURN or (ours is not None and ours < 0.85):
        return None
    burst = view.facts.burst
    each_ms = burst.connect_ms if burst is not None else 0.0
    text = f"the server accepted {share:.1f} connections a request, and this client kept its own: a proxy opened them"
    return Finding("connections", 0.5 * each_ms, max(each_ms, MIN_MS), (text,))


def other_traffic(view: View, _earlier: Earlier) -> Finding | None:
    facts, host, burst = view.facts, view.facts.host, view.facts.burst
    evidence, share = [], others(facts)
    ours, in_time = facts.model.requests_share, facts.model.time_share
    if share >= OTHERS and ours is not None:
        evidence.append(f"{1 - ours:.0%} of the requests that the server answered came from other clients")
        if in_time is not None:
            evidence.append(f"those took {1 - in_time:.0%} of the time that it spent on requests")
    strangers, quiet = host.strangers or 0.0, (burst.quiet_cores if burst is not None else None) or 0.0
    if strangers >= (STRANGERS if quiet >= QUIET else 0.5) and (quiet >= QUIET or ours is not None):
        evidence.append(f"other programs held {strangers:.1f} connections to it on average")
        if quiet >= QUIET:
            evidence.append(f"it used {quiet:.2f} cores while bench sent nothing")
            busy = host.server_cores or 0.0
            share = max(share, min(quiet / busy, 1.0) if busy > 0 else 0.0)
    in_slow = facts.slow_host.strangers or 0.0
    if share < OTHERS and ours is None and in_slow >= max(WITH_SLOW, OFTENER * strangers):
        evidence = [
            f"other programs held {in_slow:.1f} connections to it when requests were slow, {strangers:.1f} on average"
        ]
        share = 1.0
    if share < OTHERS:
        return None
    # Without the other client, the wait for it is gone, also from what a request takes "alone".
    whole_ms = max(facts.p99_ms - facts.slow["send_lag"] - view.work_ms, 0.0)
    return Finding("other_traffic", 0.5 * share * whole_ms, whole_ms, tuple(evidence))
