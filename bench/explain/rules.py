"""The rules of the verdict: from the facts of a run, the time around p99 that each cause explains.

A rule is a function of the facts. It gives None, or a finding with the milliseconds that it explains. Rules for general
causes (capacity, hardware) come last and get what the special ones leave: a run that is slow because of a CPU quota is
not slow because of its hardware.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from . import turns
from .evidence import CODEC
from .facts import Facts
from .turns import Turns

MIN_MS = 1.0
NORMAL_MS = 10.0
"""Computing for less than this at every request is no reason to act."""
RUN_DELAY = 0.25
OTHERS = 0.25
CROWDED = 1.25
BUSY = 0.8
KEPT_UP = 0.95
CHURN = 0.5
COLD_MS = 500.0
SERIAL_BUSY = 0.4
"""A worker that is busy for a smaller share of the time is no bottleneck: requests rarely meet in it."""
LOOP_MS = 5.0
SMALL_BYTES = 200e6


@dataclass(frozen=True, slots=True)
class Finding:
    """``low_ms`` to ``high_ms`` of the latency around p99 belong to the cause, as far as the facts tell."""

    name: str
    low_ms: float
    high_ms: float
    evidence: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class View:
    """The facts with what several rules derive from them.

    ``wait_ms``: the latency around p99 beyond that of a request alone, without the generator's lag. ``work_ms``: the
    computing of one request. ``worked``: the share of a request alone in which the server used a core; None if unknown.
    """

    facts: Facts
    turns: Turns | None
    wait_ms: float
    work_ms: float
    worked: float | None

    def left(self, taken: Mapping[str, Finding], whole_ms: float, *names: str) -> float:
        """What the findings of these names leave of a time."""
        return max(whole_ms - sum(taken[name].low_ms for name in names if name in taken), 0.0)


Taken = Mapping[str, Finding]
Rule = Callable[[View, Taken], Finding | None]


def view(facts: Facts) -> View:
    burst = facts.burst
    seen = turns.of(burst, facts.load.body_bytes) if burst is not None else None
    worked = None
    if burst is not None and burst.cpu_ms is not None and burst.alone_ms > 0:
        worked = burst.cpu_ms / burst.alone_ms
    lag_ms = facts.slow["send_lag"]
    if facts.with_server:
        work_ms = facts.typical["compute"]
    elif burst is not None and burst.cpu_ms is not None:
        work_ms = min(burst.cpu_ms, burst.alone_ms)
    else:
        work_ms = 0.0
    return View(facts, seen, max(facts.p99_ms - facts.alone_ms - lag_ms, 0.0), work_ms, worked)


def findings(facts: Facts) -> dict[str, Finding]:
    """What each rule found, by the name of its cause."""
    seen = view(facts)
    found: dict[str, Finding] = {}
    for rule in RULES:
        one = rule(seen, found)
        if one is not None and one.high_ms >= MIN_MS:
            found[one.name] = one
    return found


def generator(seen: View, taken: Taken) -> Finding | None:
    facts = seen.facts
    lag_ms, load = facts.slow["send_lag"], facts.load
    share = lag_ms / facts.p99_ms if facts.p99_ms > 0 else 0.0
    evidence = [f"{lag_ms:,.1f} ms ({share:.0%}) of a slow request passed before the generator sent it"]
    starved = load.run_delay or 0.0
    if load.generator_cpu > BUSY:
        evidence.append(f"the generator used {load.generator_cpu:.0%} of a core")
    if starved >= 0.1:
        evidence.append(f"the generator was ready and waited for a core {starved:.0%} of the time")
    high_ms = max(lag_ms, starved * facts.p99_ms if starved >= RUN_DELAY or load.generator_cpu > BUSY else 0.0)
    if high_ms < 0.1 * facts.p99_ms or "neighbour" in taken or "cpu_quota" in taken:
        return None
    return Finding("generator", min(lag_ms, high_ms), high_ms, tuple(evidence))


def cold_start(seen: View, _taken: Taken) -> Finding | None:
    cold, p99_ms = seen.facts.cold, seen.facts.p99_ms
    if cold is None:
        return None
    first = f"the first {cold.count} requests" if cold.count > 1 else "the first request"
    text = f"{first} took up to {cold.slowest_ms:,.0f} ms, later ones {cold.later_ms:,.1f} ms"
    explained_ms = cold.tail_share * p99_ms
    if cold.tail_share < 0.1 and cold.slowest_ms < max(COLD_MS, 20 * cold.later_ms):
        return None
    # A p99 hides a few requests, but each of them waited that long.
    lost_ms = cold.slowest_ms - cold.later_ms if cold.measured else MIN_MS
    return Finding("cold_start", explained_ms, max(explained_ms, lost_ms), (text,))


def input_size(seen: View, _taken: Taken) -> Finding | None:
    facts = seen.facts
    gap_ms = max(facts.p99_ms - facts.p50_ms, 0.0)
    if facts.input_ms < 0.25 * facts.p99_ms or facts.input_ms < 2.0:
        return None
    text = (
        f"the payloads of slow requests take {facts.input_ms:,.1f} ms longer than the others do, of a p99 of "
        f"{facts.p99_ms:,.1f} ms"
    )
    return Finding("input_size", facts.input_ms, max(facts.input_ms, gap_ms), (text,))


def stall(seen: View, taken: Taken) -> Finding | None:
    facts, found = seen.facts, seen.facts.stalls
    if found is None or ("input_size" in taken and found.of_long >= 0.6) or "cpu_quota" in taken:
        return None
    gap_ms = max(facts.p99_ms - facts.p50_ms, 0.0)
    text = (
        f"{found.count} {'time' if found.count == 1 else 'times'} the server answered nothing while requests waited, "
        f"for up to {found.longest_ms:,.0f} ms; "
        f"{found.tail_share:.0%} of the slow requests waited then"
    )
    evidence = [text]
    if facts.host.gc_share is not None and facts.host.gc_share >= 0.01:
        evidence.append(f"its garbage collector ran {facts.host.gc_share:.1%} of the time")
    explained_ms = found.tail_share * gap_ms
    if explained_ms < 0.2 * facts.p99_ms:
        return None
    return Finding("stall", 0.6 * explained_ms, explained_ms, tuple(evidence))


def cpu_quota(seen: View, _taken: Taken) -> Finding | None:
    facts, throttled = seen.facts, seen.facts.host.throttled
    if throttled is None or throttled < 0.01:
        return None
    quota = facts.host.quota_cores
    of = f" (quota {quota:g} cores)" if quota is not None else ""
    text = f"the kernel stopped the server for its CPU quota {throttled:.0%} of the time{of}"
    whole_ms = max(facts.p99_ms - min(seen.work_ms, facts.p99_ms), 0.0)
    return Finding("cpu_quota", min(throttled, 1.0) * whole_ms, whole_ms * min(1.0, 5 * throttled), (text,))


def threads(seen: View, taken: Taken) -> Finding | None:
    """A single request that makes more threads ready than there are cores: they wait for each other.

    Threads that a CPU quota stops wait too, so that nothing can be said of them.
    """
    facts, host, burst = seen.facts, seen.facts.host, seen.facts.burst
    cores = host.cores  # a quota that does not stop them leaves threads all cores
    if burst is None or burst.cpu_ms is None or burst.run_delay_ms is None or not cores or "cpu_quota" in taken:
        return None
    demand = burst.cpu_ms + burst.run_delay_ms
    at_once = demand / burst.alone_ms
    waited = burst.run_delay_ms / demand if demand > 0 else 0.0
    if at_once < CROWDED * max(cores, 1.0) or waited < RUN_DELAY:
        return None
    evidence = [
        f"a single request makes about {at_once:.1f} threads compute at once, on {cores:g} cores",
        f"they wait for a core {waited:.0%} of the time in which they could work",
    ]
    if facts.model.threads:
        evidence.append(f"the server says that {facts.model.threads} of its threads may compute at once")
    return Finding("threads", 0.3 * waited * facts.p99_ms, min(1.2 * waited, 0.95) * facts.p99_ms, tuple(evidence))


def neighbour(seen: View, taken: Taken) -> Finding | None:
    facts, host = seen.facts, seen.facts.host
    steal = host.steal or 0.0
    if host.run_delay is None or host.server_cores is None or "threads" in taken:
        return None
    demand = host.run_delay + host.server_cores
    share = host.run_delay / demand if demand > 0 else 0.0
    # Many threads of a busy server wait for each other. A thread that is alone waits for other programs.
    if demand > 1.0 and (facts.burst is not None or host.server_cores > 0.5 * (host.other_cores or 0.0)):
        share = min(share, _waited_alone(seen))
    # Threads that a quota stops count as ready, too.
    share *= max(1 - 2 * (host.throttled or 0.0), 0.0)
    others = host.other_cores or 0.0
    if steal < 0.05 and (share < RUN_DELAY or others < OTHERS):
        return None
    evidence = [
        f"other programs used {others:.1f} cores",
        f"the server was ready and waited for a core {share:.0%} of the time in which it could have worked",
    ]
    if steal >= 0.05:
        evidence.append(f"other virtual machines took {steal:.0%} of the cores")
    share = max(share, steal)
    return Finding("neighbour", 0.5 * share * facts.p99_ms, min(1.5 * share, 0.95) * facts.p99_ms, tuple(evidence))


def _waited_alone(seen: View) -> float:
    """The share of its work in which the server waited for a core, with one request at a time; 0 if unknown."""
    burst = seen.facts.burst
    if burst is None or burst.cpu_ms is None or burst.run_delay_ms is None or burst.cpu_ms <= 0:
        return 0.0
    return burst.run_delay_ms / (burst.cpu_ms + burst.run_delay_ms)


def network_latency(seen: View, _taken: Taken) -> Finding | None:
    facts, burst = seen.facts, seen.facts.burst
    if burst is None or burst.floor_ms is None:
        return None
    way_ms = burst.floor_ms
    # What keeps the loop of the server busy also delays an answer that needs no model.
    if (burst.quiet_cores or 0.0) > 0.5 or way_ms < LOOP_MS or way_ms < 0.3 * facts.alone_ms:
        return None
    text = f"an answer that needs no model takes {way_ms:,.1f} ms, of {facts.alone_ms:,.1f} ms for a request alone"
    return Finding("network_latency", 0.8 * way_ms, way_ms, (text,))


def bandwidth(seen: View, _taken: Taken) -> Finding | None:
    facts = seen.facts
    terms = facts.typical
    measured_ms = terms["write"] + (terms["receive"] if facts.with_server else 0.0)
    probed_ms = reading_ms = 0.0
    if seen.turns is not None:
        probed_ms, reading_ms = seen.turns.transfer_ms, seen.turns.reading_ms
    whole_ms = max(measured_ms, probed_ms) + (reading_ms if reading_ms >= 2.0 else 0.0)
    if whole_ms < 0.3 * facts.alone_ms or whole_ms < 2.0:
        return None
    evidence = [
        (
            f"a body of {facts.load.body_bytes / 1e3:,.1f} kB is {whole_ms:,.1f} ms under way, of "
            f"{facts.alone_ms:,.1f} ms for a request alone"
        )
    ]
    if probed_ms:
        evidence.append("the same body with white space behind it takes longer in proportion to its bytes")
    if reading_ms >= 2.0:
        evidence.append(f"the response takes {reading_ms:,.1f} ms from its first byte to its last")
    high_ms = max(whole_ms, facts.p99_ms - facts.alone_ms + whole_ms if whole_ms > 0.6 * facts.alone_ms else whole_ms)
    return Finding("bandwidth", 0.7 * whole_ms, high_ms, tuple(evidence))


def connections(seen: View, _taken: Taken) -> Finding | None:
    facts, load, burst = seen.facts, seen.facts.load, seen.facts.burst
    if not load.requests or load.connections < CHURN * load.requests:
        return None
    each_ms = facts.slow["connect"]
    if burst is not None and burst.fresh_ms is not None:
        each_ms = max(each_ms, burst.connect_ms, burst.fresh_ms - burst.alone_ms)
    text = f"{load.connections:,} more connections were opened than needed, for {load.requests:,} requests"
    text = f"{text}: {each_ms:,.1f} ms each"
    return Finding("connections", 0.5 * each_ms, max(each_ms, MIN_MS), (text,))


def batch_timer(seen: View, _taken: Taken) -> Finding | None:
    facts = seen.facts
    if facts.with_server:
        waited_ms = max(facts.slow["queue_timer"], facts.typical["queue_timer"])
        if waited_ms < 0.15 * facts.p99_ms and facts.typical["queue_timer"] < 0.3 * facts.p50_ms:
            return None
        text = f"a request waits {waited_ms:,.1f} ms for a batch to fill while an instance of the model is free"
        return Finding("batch_timer", 0.7 * waited_ms, waited_ms, (text,))
    burst = facts.burst
    if seen.turns is None or burst is None or seen.turns.timer_ms < 0.25 * burst.alone_ms:
        return None
    timer_ms = seen.turns.timer_ms
    text = (
        f"a request alone takes {burst.alone_ms:,.1f} ms, but one that is sent {burst.stagger_ms:,.1f} ms later "
        f"takes {burst.staggered_ms:,.1f} ms: the server waited for both"
    )
    return Finding("batch_timer", 0.5 * timer_ms, timer_ms, (text,))


def codec(seen: View, taken: Taken) -> Finding | None:
    facts = seen.facts
    if facts.with_server:
        worked_ms = sum(facts.typical[name] for name in CODEC)
        slow_ms = sum(facts.slow[name] for name in CODEC)
        if worked_ms < 0.3 * facts.p50_ms and slow_ms < 0.3 * facts.p99_ms:
            return None
        text = f"decoding and encoding take {worked_ms:,.2f} ms of a typical {facts.p50_ms:,.2f} ms"
        return Finding("codec", 0.6 * worked_ms, max(worked_ms, slow_ms), (text,))
    json_ms = facts.load.json_ms
    if json_ms is None or json_ms < 0.15 * facts.alone_ms or (seen.worked is not None and seen.worked < 0.3):
        return None
    text = (
        f"Python's json alone needs {json_ms:,.1f} ms here to read this body and to write such a response; a request "
        f"alone takes {facts.alone_ms:,.1f} ms"
    )
    high_ms = min(4 * json_ms, seen.left(taken, facts.alone_ms, "bandwidth", "network_latency"))
    return Finding("codec", min(json_ms, high_ms), high_ms, (text,))


def padding(seen: View, _taken: Taken) -> Finding | None:
    waste = seen.facts.model.waste
    if waste is None:
        return None
    lost_ms = waste * max(seen.facts.slow["compute"], seen.facts.typical["compute"])
    if waste < 0.25 or lost_ms < 0.15 * seen.facts.p99_ms:
        return None
    text = f"{waste:.0%} of what the model computed was padding, {lost_ms:,.1f} ms of a slow request"
    return Finding("padding", 0.6 * lost_ms, lost_ms, (text,))


def other_traffic(seen: View, _taken: Taken) -> Finding | None:
    facts, host, burst = seen.facts, seen.facts.host, seen.facts.burst
    evidence, share = [], 0.0
    ours = facts.model.requests_share
    if ours is not None and ours < 0.85:
        share = 1 - ours
        evidence.append(f"{share:.0%} of the requests that the server answered came from other clients")
    strangers, quiet = host.strangers or 0.0, (burst.quiet_cores if burst is not None else None) or 0.0
    if strangers >= 0.5 and (quiet >= 0.05 or ours is not None):
        evidence.append(f"other programs held {strangers:.0f} connections to it")
        if quiet >= 0.05:
            evidence.append(f"it used {quiet:.2f} cores while bench sent nothing")
            busy = host.server_cores or 0.0
            share = max(share, min(quiet / busy, 1.0) if busy > 0 else 0.0)
    if share < 0.15:
        return None
    # Without the other client, the wait for it is gone, also from what a request takes "alone".
    whole_ms = max(facts.p99_ms - facts.slow["send_lag"] - seen.work_ms, 0.0)
    return Finding("other_traffic", 0.5 * share * whole_ms, whole_ms, tuple(evidence))


def model_size(seen: View, _taken: Taken) -> Finding | None:
    facts, host, model = seen.facts, seen.facts.host, seen.facts.model
    evidence, explained_ms = [], 0.0
    faults = host.major_faults or 0.0
    if faults >= 10:
        evidence.append(f"{faults:,.0f} pages per second were read from disk")
        explained_ms = 0.5 * facts.p99_ms
    if host.rss_bytes and host.memory_limit_bytes and host.rss_bytes > 0.95 * host.memory_limit_bytes:
        evidence.append(f"the server fills {host.rss_bytes / host.memory_limit_bytes:.0%} of the memory it may use")
        explained_ms = max(explained_ms, 0.3 * facts.p99_ms)
    reading_ms, of = model.weights_ms, "the files of the model"
    if reading_ms is None and not facts.with_server and (host.own_bytes or 0.0) > SMALL_BYTES:
        reading_ms = (host.own_bytes or 0.0) / (host.memory_bytes_per_s or math.inf) * 1e3
        of = "the memory that the server holds"
    if reading_ms is not None and seen.work_ms >= NORMAL_MS and 0.3 * seen.work_ms <= reading_ms <= 3 * seen.work_ms:
        evidence.append(f"reading {of} once takes {reading_ms:,.1f} ms here, and a run takes {seen.work_ms:,.1f} ms")
        explained_ms = max(explained_ms, seen.work_ms)
    if not evidence:
        return None
    return Finding("model_size", 0.4 * explained_ms, explained_ms, tuple(evidence))


def serial(seen: View, taken: Taken) -> Finding | None:
    facts, host, burst = seen.facts, seen.facts.host, seen.facts.burst
    if seen.turns is None or burst is None or seen.turns.serial < turns.SERIAL_FROM or burst.alone_ms < 1.0:
        return None
    if any(name in taken for name in ("cpu_quota", "threads", "bandwidth", "batch_timer")):
        return None
    wait_ms = seen.left(taken, seen.wait_ms, "stall", "neighbour", "input_size", "cold_start", "other_traffic")
    cores = host.quota_cores or host.cores
    works = seen.worked is not None and seen.worked >= 0.6
    one_core = cores is not None and cores < 1.5
    busy = facts.load.answered_per_s * seen.turns.each_ms / 1e3
    if busy < SERIAL_BUSY:
        return None
    if wait_ms < 0.2 * facts.p99_ms or (works and (one_core or saturated(facts))):
        return None
    order = "one by one" if seen.turns.in_order else "together at the end"
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


def saturated(facts: Facts) -> bool:
    """Whether more requests came than the server could answer."""
    load = facts.load
    if load.shed_share >= 0.05:
        return True
    if load.offered_per_s is None:
        return False
    behind = load.answered_per_s < KEPT_UP * load.offered_per_s and load.failed_share < 0.5
    return behind or (facts.growing >= 1.5 and facts.p50_ms > 3 * facts.alone_ms)


def capacity(seen: View, taken: Taken) -> Finding | None:
    facts, host, model = seen.facts, seen.facts.host, seen.facts.model
    special = ("cpu_quota", "neighbour", "threads", "stall", "serial", "other_traffic", "input_size", "bandwidth")
    wait_ms = seen.left(taken, seen.wait_ms, *special, "cold_start")
    load = facts.load
    evidence = []
    if saturated(facts):
        offered = f" of {load.offered_per_s:,.1f}/s" if load.offered_per_s is not None else ""
        evidence.append(f"the server is saturated at {load.answered_per_s:,.1f}/s{offered}: its queue grows")
        if load.shed_share:
            evidence.append(f"it refused {load.shed_share:.0%} of the requests (429 or 503)")
        high_ms = max(wait_ms, 0.5 * seen.wait_ms, 0.5 * facts.p99_ms if load.shed_share >= 0.05 else 0.0)
        return Finding("capacity", 0.6 * high_ms, high_ms, tuple(evidence))
    use = model.utilisation
    if use is None:
        cores = host.quota_cores or host.cores
        use = max(
            host.server_cores / cores if host.server_cores is not None and cores else 0.0,
            host.busiest_thread if host.busiest_thread is not None else 0.0,
        )
    if use < 0.6 or wait_ms < 0.25 * facts.p99_ms:
        return None
    evidence.append(f"the server was busy {use:.0%} of the time at {load.answered_per_s:,.1f}/s, so that requests wait")
    return Finding("capacity", 0.4 * wait_ms, wait_ms, tuple(evidence))


def hardware(seen: View, taken: Taken) -> Finding | None:
    facts = seen.facts
    special = ("codec", "padding", "input_size", "model_size", "cpu_quota", "threads", "neighbour", "network_latency")
    work_ms = seen.left(taken, seen.work_ms, *special, "bandwidth", "batch_timer")
    if work_ms < NORMAL_MS or (seen.worked is not None and seen.worked < 0.6):
        return None
    if work_ms < 0.25 * facts.p99_ms:
        return None
    if "model_size" in taken:
        return None
    what = "the model computes" if facts.with_server else "the server computes"
    text = f"{what} {seen.work_ms:,.1f} ms for a request"
    if seen.worked is not None:
        text = f"{text}, and uses a core {seen.worked:.0%} of the time of a request alone"
    return Finding("hardware", 0.3 * work_ms, 0.9 * work_ms, (text,))


RULES: tuple[Rule, ...] = (
    cpu_quota, threads, neighbour, generator, cold_start, input_size, stall, network_latency, bandwidth, connections,
    batch_timer, codec, padding, other_traffic, model_size, serial, capacity, hardware,
)  # fmt: skip
