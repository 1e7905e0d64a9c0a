"""Rules on the model: inputs, padding, size, computation."""

from __future__ import annotations

import math

from ..findings import NORMAL_MS, Finding, Taken, View

SMALL_BYTES = 200e6
WAITS = 0.5
"""A run whose thread uses a core for a smaller share waits more than it computes."""


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


def padding(seen: View, _taken: Taken) -> Finding | None:
    waste = seen.facts.model.waste
    if waste is None:
        return None
    lost_ms = waste * max(seen.facts.slow["compute"], seen.facts.typical["compute"])
    if waste < 0.25 or lost_ms < 0.15 * seen.facts.p99_ms:
        return None
    text = f"{waste:.0%} of what the model computed was padding, {lost_ms:,.1f} ms of a slow request"
    return Finding("padding", 0.6 * lost_ms, lost_ms, (text,))


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


def hardware(seen: View, taken: Taken) -> Finding | None:
    facts = seen.facts
    special = ("codec", "padding", "input_size", "model_size", "cpu_quota", "threads", "neighbour", "network_latency")
    work_ms = seen.left(taken, seen.work_ms, *special, "bandwidth", "batch_timer")
    if work_ms < NORMAL_MS or (seen.worked is not None and seen.worked < 0.6):
        return None
    if work_ms < 0.25 * facts.p99_ms or "model_size" in taken:
        return None
    share = facts.model.cpu_share
    if share is not None and share < WAITS:
        return None
    what = "the model computes" if facts.with_server else "the server computes"
    text = f"{what} {seen.work_ms:,.1f} ms for a request"
    if seen.worked is not None:
        text = f"{text}, and uses a core {seen.worked:.0%} of the time of a request alone"
    if share is not None:
        text = f"{text}; its thread had a core {share:.0%} of that time"
    return Finding("hardware", 0.3 * work_ms, 0.9 * work_ms, (text,))
