"""Rules on the model: inputs, padding, size, computation."""

from __future__ import annotations

from ..facts import Facts
from ..findings import (
    ALL_WORK,
    LIBRARY_BYTES,
    NORMAL_MS,
    WAITS,
    WORKS,
    Earlier,
    Finding,
    View,
    held_weights_ms,
    saturated,
)

WASTE = 0.25
"""Of all computed positions. By the counters of all runs, less padding than that is usual."""
READS, READS_AT_MOST = 0.3, 1.3
"""Time to read all weights, over the time of a run. The bandwidth is that of all cores, of which a run may use one; a
run that is faster than the memory does not read them all."""
MOVES_MS = 5.0
"""A run that moves weights for less than this has none that matter."""
ELSEWHERE = ("cpu_quota", "threads", "neighbour", "generator", "cold_start")
"""Causes of waits that have nothing to do with inputs."""
UNEVEN, ABOUT = 0.5, 1.25
"""From how uneven inputs on a wait may be due to long ones, and how much more than its estimate it may be."""
OF_FRAMEWORK = 0.5
"""Share of what a framework may need for large bodies beside json itself that is not called the model's."""
LONGER = 1.5
"""A run in slow requests that takes so many times as long as usual is worth a word."""


def input_size(view: View, earlier: Earlier) -> Finding | None:
    """Long inputs in the slow requests, or in front of them."""
    facts, inputs = view.facts, view.facts.sizes
    gap_ms = max(facts.p99_ms - facts.p50_ms, 0.0)
    behind_ms = 0.0 if saturated(facts) else inputs.uneven * view.left(earlier, view.wait_ms, *ELSEWHERE)
    behind_ms = behind_ms if inputs.uneven >= UNEVEN else 0.0
    if max(inputs.more_ms, behind_ms) < max(0.25 * facts.p99_ms, 2.0):
        return None
    evidence = []
    if inputs.more_ms >= 0.05 * facts.p99_ms:
        text = f"the payloads of slow requests take {inputs.more_ms:,.1f} ms longer than the others do, of a p99 of "
        evidence.append(f"{text}{facts.p99_ms:,.1f} ms")
    if behind_ms > inputs.more_ms:
        text = "requests wait behind those with long inputs: if all inputs took the mean time, they would wait "
        evidence.append(f"{text}{inputs.uneven:.0%} less")
    if inputs.slow > inputs.typical:
        evidence.append(f"they have {inputs.slow:,.0f} {inputs.unit}, and {inputs.typical:,.0f} on average over all")
    more_ms = max(inputs.more_ms, behind_ms)
    # A wait behind long inputs is an estimate.
    high_ms = max(more_ms, gap_ms if inputs.more_ms >= behind_ms else min(gap_ms, ABOUT * behind_ms))
    return Finding("input_size", more_ms, high_ms, tuple(evidence))


def padding(view: View, _earlier: Earlier) -> Finding | None:
    """By the lengths of the requests in the runs of slow requests, else by the counters of all runs."""
    facts, per_request, waste = view.facts, view.facts.per_request, view.facts.model.waste
    typical_ms = 0.0
    if per_request is not None and per_request.padded_slow_ms is not None:
        typical_ms = per_request.padded_ms or 0.0
        run_ms = max(per_request.padded_slow_ms, typical_ms)
        text = f"{run_ms:,.1f} ms of the run of a slow request went into padding, by the lengths in that run"
    elif waste is not None and waste >= WASTE:
        run_ms = waste * max(facts.slow["compute"], facts.typical["compute"])
        text = f"{waste:.0%} of what the model computed was padding, {run_ms:,.1f} ms of a slow request"
    else:
        return None
    # What a request waits for is runs with as much padding.
    share = min(run_ms / max(facts.slow["compute"], facts.typical["compute"], run_ms, 1e-9), 1.0)
    lost_ms = run_ms + share * facts.slow["queue_busy"]
    if lost_ms < 0.15 * facts.p99_ms and typical_ms < 0.3 * facts.p50_ms:
        return None
    return Finding("padding", 0.6 * lost_ms, lost_ms, (text,), typical_ms)


def model_size(view: View, _earlier: Earlier) -> Finding | None:
    facts, host, model = view.facts, view.facts.host, view.facts.model
    evidence, explained_ms = [], 0.0
    faults = host.major_faults or 0.0
    if faults >= 10:
        evidence.append(f"{faults:,.0f} pages per second were read from disk")
        explained_ms = 0.5 * facts.p99_ms
    if host.rss_bytes and host.memory_limit_bytes and host.rss_bytes > 0.95 * host.memory_limit_bytes:
        evidence.append(f"the server fills {host.rss_bytes / host.memory_limit_bytes:.0%} of the memory it may use")
        explained_ms = max(explained_ms, 0.3 * facts.p99_ms)
    reading_ms, of = model.weights_ms, "the files of the model"
    if reading_ms is None and not facts.with_server:
        reading_ms = held_weights_ms(host)
        of = f"the memory that the server holds, without {LIBRARY_BYTES / 1e6:,.0f} MB of libraries,"
    if reading_ms is not None and view.work_ms >= MOVES_MS and READS <= reading_ms / view.work_ms <= READS_AT_MOST:
        evidence.append(f"reading {of} once takes {reading_ms:,.1f} ms here, and a run takes {view.work_ms:,.1f} ms")
        explained_ms = max(explained_ms, view.work_ms, _slow_run_ms(view))
    if not evidence:
        return None
    return Finding("model_size", 0.4 * explained_ms, explained_ms, tuple(evidence))


def _slow_run_ms(view: View) -> float:
    """The run of a slow request, where runs compute all the time: for the input, or for the memory that others use."""
    computes = (view.facts.model.cpu_share or 0.0) >= ALL_WORK and view.work_ms >= NORMAL_MS
    return view.facts.slow["compute"] if computes else 0.0


def hardware(view: View, earlier: Earlier) -> Finding | None:
    facts = view.facts
    special = ("codec", "padding", "input_size", "model_size", "cpu_quota", "threads", "neighbour", "network_latency")
    share = facts.model.cpu_share
    slow_run_ms = view.left(earlier, _slow_run_ms(view), *special, "stall", "cold_start", "other_traffic", "generator")
    work_ms = max(view.left(earlier, view.work_ms, *special, "bandwidth", "batch_timer"), slow_run_ms)
    if not facts.with_server and "codec" in earlier:
        # Beside json itself, a framework copies and checks large bodies. What of that is the model is not seen.
        work_ms -= OF_FRAMEWORK * (earlier["codec"].high_ms - earlier["codec"].low_ms)
    if work_ms < NORMAL_MS or (view.worked is not None and view.worked < WORKS):
        return None
    if work_ms < 0.25 * facts.p99_ms:
        return None
    if share is not None and share < WAITS and (view.worked or 0.0) < WORKS:
        return None  # neither its thread nor another one of the server computes
    what = "the model computes" if facts.with_server else "the server computes"
    text = f"{what} {view.work_ms:,.1f} ms for a request"
    if view.worked is not None:
        text = f"{text}, and uses a core {view.worked:.0%} of the time of a request alone"
    if share is not None:
        text = f"{text}; its thread had a core {share:.0%} of that time"
    if slow_run_ms > LONGER * view.work_ms:
        text = f"{text}; in slow requests it computes {facts.slow['compute']:,.1f} ms"
    return Finding("hardware", 0.3 * work_ms, 0.9 * work_ms, (text, *of_cache(facts)))


def of_cache(facts: Facts) -> tuple[str, ...]:
    """Why latency has two levels, where a response cache is the reason."""
    per_request = facts.per_request
    if per_request is None or not per_request.cached or per_request.cached_ms is None or per_request.ran_ms is None:
        return ()
    each = f"in {per_request.cached_ms:,.2f} ms; the others took {per_request.ran_ms:,.2f} ms"
    return (f"the response cache answered {per_request.cached:.0%} of the requests, {each}",)
