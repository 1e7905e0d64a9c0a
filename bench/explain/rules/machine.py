"""Rules on the machine of the server: quota, threads, other programs, stops."""

from __future__ import annotations

from ..concurrency import SERIAL_FROM
from ..facts import LOOK_S, Host
from ..findings import (
    ALL_WORK,
    MIN_MS,
    NORMAL_MS,
    OVERTAKEN,
    STRANGERS,
    WAITS,
    Earlier,
    Finding,
    View,
    others,
    saturated,
)

RUN_DELAY = 0.25
OTHER_CORES = 0.25
LEAST_WAIT = 0.05
"""Of the latency alone: what a request waits for a core at least where other programs are the cause."""
CROWDED = 1.25
SLOWEST = 8
"""Of the slowest requests, a quota has stopped a share that is this many times its share of the time."""
OF_LONG = 0.6
"""Share of the stalls that long inputs explain."""
MOST = 0.5
TURNS = 2.0
"""Times between two answers of a server that serves one at a time; a longer silence is a stop."""
COMPUTES = 0.5
"""Cores that a server uses while nothing is sent, from which on it is no timer or housekeeping."""
QUEUE_LEFT = 0.3
ONE_CORE, SWITCHES = (0.6, 1.3), 100
"""Threads that take turns use about one core, and give it up so many times in a request. Others do in 10 to 20."""
FILLED = 0.6
"""Share of all cores that the server uses while it serves one request with too many threads."""


def cpu_quota(view: View, _earlier: Earlier) -> Finding | None:
    facts, throttled = view.facts, view.facts.host.throttled
    if throttled is None or throttled < 0.01:
        return None
    quota = facts.host.quota_cores
    of = f" (quota {quota:g} cores)" if quota is not None else ""
    text = f"its CPU quota stopped threads of the server for up to {throttled:.0%} of the time{of}"
    # The time of a run holds the stops, too.
    whole_ms = max(facts.p99_ms - view.work_ms * (1 - throttled), 0.0)
    # Long stops are rare: in long periods a small share of the time is most of the slowest requests.
    looked_ms = facts.p99_ms + 1e3 * LOOK_S
    of_slow = (facts.slow_host.throttled or 0.0) * looked_ms / max(facts.p99_ms, MIN_MS)
    high_ms = whole_ms * min(1.0, max(SLOWEST * throttled, of_slow))
    return Finding("cpu_quota", 0.5 * throttled * whole_ms, high_ms, (text,))


def threads(view: View, earlier: Earlier) -> Finding | None:
    """A single request that makes more threads ready than there are cores: they wait for each other.

    Threads that a CPU quota stops wait too, and so do those whose cores other programs use: they wait for each other
    only if the server itself fills the cores meanwhile.
    """
    facts, host, burst = view.facts, view.facts.host, view.facts.burst
    cores = host.cores  # a quota that does not stop them leaves threads all cores
    if (
        burst is None
        or burst.cpu_ms is None
        or burst.run_delay_ms is None
        or not cores
        or view.rules(earlier, "cpu_quota")
    ):
        return None
    demand = burst.cpu_ms + burst.run_delay_ms
    at_once = demand / burst.alone_ms
    waited = burst.run_delay_ms / demand if demand > 0 else 0.0
    if at_once < CROWDED * max(cores, 1.0) or waited < RUN_DELAY or burst.cpu_ms < FILLED * cores * burst.alone_ms:
        return _beside_requests(view)
    evidence = [
        f"a single request makes about {at_once:.1f} threads compute at once, on {cores:g} cores",
        f"they wait for a core {waited:.0%} of the time in which they could work",
    ]
    if facts.model.threads:
        evidence.append(f"the server says that {facts.model.threads} of its threads may compute at once")
    return Finding("threads", 0.3 * waited * facts.p99_ms, min(1.2 * waited, 0.95) * facts.p99_ms, tuple(evidence))


def _beside_requests(view: View) -> Finding | None:
    """A thread of the server that computes while no request is there, and takes the interpreter or a core from them."""
    facts, host, burst = view.facts, view.facts.host, view.facts.burst
    if (interpreter := _interpreter(view)) is not None:
        return interpreter
    quiet = (burst.quiet_cores if burst is not None else None) or 0.0
    strangers = others(facts) if facts.model.requests_share is not None else host.strangers or 0.0
    if quiet < COMPUTES or strangers >= STRANGERS or saturated(facts):
        return None
    text = f"it used {quiet:.2f} cores while bench sent nothing, and had no other client: a thread of its own computes"
    evidence = (text, f"a request alone takes {facts.alone_ms:,.1f} ms, of which it works {view.own_ms or 0.0:,.1f} ms")
    waits_ms = max(facts.p99_ms - facts.slow["send_lag"] - (view.own_ms or 0.0), 0.0)
    return Finding("threads", 0.3 * waits_ms, min(quiet, 0.95) * waits_ms, evidence)


def _interpreter(view: View) -> Finding | None:
    """A run whose threads compute one at a time, and pass a lock on many times: that of the interpreter."""
    facts = view.facts
    share, switches = facts.model.cpu_share, facts.host.switches_per_s
    if share is None or switches is None or view.worked is None or not facts.load.answered_per_s:
        return None
    each = switches / facts.load.answered_per_s
    if share >= WAITS or not ONE_CORE[0] <= view.worked <= ONE_CORE[1] or each < SWITCHES:
        return None
    evidence = (
        f"a run uses a core {view.worked:.0%} of its time, its own thread only {share:.0%}: others take turns with it",
        f"threads of the server gave up their core {each:,.0f} times for each request",
    )
    whole_ms = max(view.work_ms, facts.typical["compute"]) + facts.slow["queue_busy"]
    return Finding("threads", 0.3 * whole_ms, 0.9 * whole_ms, evidence)


def neighbour(view: View, earlier: Earlier) -> Finding | None:
    """Other programs, over the whole run or at the times of the slow requests."""
    if view.rules(earlier, "threads"):
        return None
    found = [one for host in (view.facts.host, view.facts.slow_host) if (one := _others(view, host)) is not None]
    return max(found, key=lambda one: one.high_ms, default=None)


def _others(view: View, host: Host) -> Finding | None:
    facts = view.facts
    steal = host.steal or 0.0
    if host.run_delay is None or host.server_cores is None:
        return None
    demand = host.run_delay + host.server_cores
    share = host.run_delay / demand if demand > 0 else 0.0
    # Many threads of a busy server wait for each other. A thread that is alone waits for other programs.
    if demand > 1.0 and (facts.burst is not None or host.server_cores > 0.5 * (host.other_cores or 0.0)):
        share = min(share, _waited_alone(view))
    # Threads that a quota stops count as ready, too, on each core.
    share *= max(1 - 2 * (host.throttled_cores or 0.0), 0.0)
    other_cores = host.other_cores or 0.0
    waited_ms = 1e3 * host.run_delay / max(facts.load.answered_per_s, 1e-9)
    if waited_ms < LEAST_WAIT * facts.alone_ms:
        share = 0.0  # it hardly works, so that whatever part of that waits is nothing
    if steal < 0.05 and (share < RUN_DELAY or other_cores < OTHER_CORES):
        return None
    when = "" if host is facts.host else " when requests were slow"
    evidence = [
        f"other programs used {other_cores:.1f} cores{when}",
        f"the server was ready and waited for a core {share:.0%} of the time in which it could have worked{when}",
    ]
    if steal >= 0.05:
        evidence.append(f"other virtual machines took {steal:.0%} of the cores{when}")
    share = max(share, steal)
    whole_ms = max(facts.p99_ms - _waits_anyway_ms(view), 0.0) * _without_others(view)
    return Finding("neighbour", 0.5 * share * whole_ms, min(1.5 * share, 0.95) * whole_ms, tuple(evidence))


def _without_others(view: View) -> float:
    """The part of a growing queue that is gone without other programs: little, if all cores could not serve it."""
    load, host = view.facts.load, view.facts.host
    if not saturated(view.facts) or not load.answered_per_s or not host.cores or host.server_cores is None:
        return 1.0
    needed = host.server_cores * (load.offered_per_s or load.answered_per_s) / load.answered_per_s
    return 1.0 if needed < host.cores else QUEUE_LEFT


def _waits_anyway_ms(view: View) -> float:
    """Time of a request in which the server needs no core: its batch timer, or what a request alone waits for."""
    facts, burst = view.facts, view.facts.burst
    if facts.with_server:
        return facts.slow["queue_timer"]
    if burst is None or burst.cpu_ms is None or burst.run_delay_ms is None:
        return 0.0
    return max(burst.alone_ms - burst.cpu_ms - burst.run_delay_ms, 0.0)


def _waited_alone(view: View) -> float:
    """The share of its work in which the server waited for a core, with one request at a time; 0 if unknown."""
    burst = view.facts.burst
    if burst is None or burst.cpu_ms is None or burst.run_delay_ms is None or burst.cpu_ms <= 0:
        return 0.0
    return burst.run_delay_ms / (burst.cpu_ms + burst.run_delay_ms)


def stall(view: View, earlier: Earlier) -> Finding | None:
    facts, found = view.facts, view.facts.stalls
    if found is None or view.rules(earlier, "cpu_quota"):
        return None
    if found.of_long >= OF_LONG and (facts.with_server or "input_size" in earlier):
        return None
    # Of short runs the server measures a few alone, so that the share says nothing of the long ones among them.
    computes = (facts.model.cpu_share or 0.0) >= ALL_WORK and facts.typical["compute"] >= NORMAL_MS
    if computes and not found.of_loop and not found.of_gc:
        return None  # its event loop ran all the time, and its runs took long because they computed
    if facts.overtaken >= OVERTAKEN and not found.of_gc and not found.of_loop:
        return None  # later requests were answered meanwhile
    if view.rules(earlier, "other_traffic") and not found.of_gc and not found.of_loop:
        return None  # it answered another client meanwhile
    seen = view.concurrency
    if seen is not None and seen.serial >= SERIAL_FROM and found.longest_ms < TURNS * seen.each_ms:
        return None  # one request after another takes as long
    gap_ms = view.left(earlier, max(facts.p99_ms - facts.p50_ms, 0.0), "cold_start")
    text = (
        f"{found.count} {'time' if found.count == 1 else 'times'} the server answered nothing while requests waited, "
        f"for up to {found.longest_ms:,.0f} ms; "
        f"{found.tail_share:.0%} of the slow requests waited then"
    )
    evidence = [text]
    if facts.host.gc_share is not None and facts.host.gc_share >= 0.01:
        evidence.append(f"its garbage collector ran {facts.host.gc_share:.1%} of the time")
    if found.of_gc:
        evidence.append(f"its garbage collector ran in {found.of_gc} of them")
    elif found.of_loop:
        evidence.append(f"its event loop could not run in {found.of_loop} of them")
    # Where most requests around p99 waited in a stall, p99 itself is that of a stall, or of what other clients sent.
    gap_ms *= 1 - others(facts)
    explained_ms = gap_ms if found.tail_share >= MOST else found.tail_share * gap_ms
    if explained_ms < 0.2 * facts.p99_ms:
        return None
    return Finding("stall", 0.6 * found.tail_share * gap_ms, explained_ms, tuple(evidence))
