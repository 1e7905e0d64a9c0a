"""Self-inflicted: what a server does to itself: timers, codecs, its event loop, collections, threads and padding."""

from __future__ import annotations

import numpy as np

from ..observe.model_work import ModelWork
from .evidence import CODEC, Evidence, Seen


def of_self_inflicted(seen: Seen) -> list[Evidence]:
    terms = seen.median.terms_ms
    codec = sum(terms[name] for name in CODEC)
    return [
        Evidence(
            f"a typical request waits {terms['queue_timer']:.3f} ms for a batch to fill while an instance is free "
            f"(queue_busy, when all are busy: {terms['queue_busy']:.3f} ms)"
        ),
        Evidence(f"decoding, encoding and taking batches apart cost it {codec:.3f} ms"),
        *_padding(seen),
        *_loop(seen),
        *_collections(seen),
        *_threads(seen),
    ]


def _padding(seen: Seen) -> list[Evidence]:
    """What padding costs at most: its share of all computed positions, of the time that computing them took."""
    works = [one for one in (seen.host.works if seen.host is not None else ()) if one.waste is not None]
    total_ms = seen.median.total_ms
    return [_padded(one, seen.median.terms_ms["compute"], total_ms) for one in works] if total_ms > 0 else []


def _padded(work: ModelWork, compute_ms: float, total_ms: float) -> Evidence:
    waste = work.waste or 0.0
    computing_ms = min(work.stages_ms.get("compute", compute_ms), compute_ms)
    share = waste * computing_ms / total_ms
    text = f"padding was {waste:.0%} of the positions that {work.name} computed"
    return Evidence(f"{text}: at most {share:.0%} of a typical request's time", "padding_share", share)


def _loop(seen: Seen) -> list[Evidence]:
    found = []
    pings = seen.host.values("ping_ms", seen.stretches) if seen.host is not None else []
    if pings:
        middle, slowest = float(np.median(pings)), max(pings)
        text = f"/ping, which needs the event loop and no model, took {middle:.2f} ms (median of {len(pings)}; "
        found.append(Evidence(f"{text}slowest {slowest:.1f} ms)", "ping_ms", middle))
    late_ms = seen.mean("loop_lag_ms")
    if late_ms is not None and seen.median.total_ms > 0:
        share = late_ms / seen.median.total_ms
        text = f"its event loop came {late_ms:.2f} ms late to a timer on average, not counting the first millisecond"
        found.append(Evidence(text, "loop_lag_share", share))
    delay = seen.mean("loop_delay")
    if delay is not None:
        found.append(Evidence(f"the event loop was ready and had no core {delay:.1%} of the time", "loop_delay", delay))
    return found


def _collections(seen: Seen) -> list[Evidence]:
    share, per_s = seen.mean("gc_share"), seen.mean("gc_per_s")
    if share is None or per_s is None:
        return [Evidence("the server does not tell of its garbage collection")]
    each = f", {share / per_s * 1e3:.2f} ms each" if per_s > 0 else ""
    text = f"garbage collection took {share:.2%} of the time: {per_s:.1f} collections a second{each}"
    return [Evidence(text, "gc_share", share)]


def _threads(seen: Seen) -> list[Evidence]:
    found = []
    cores = (seen.host.cores if seen.host is not None else None) or seen.cores
    computing = _computing(seen)
    threads = seen.mean("threads")
    if computing and cores:
        found.append(_oversubscription(seen, computing, cores))
    elif threads is not None and cores:
        found.append(Evidence(f"threads of the server: {threads:.0f}, on {cores:g} cores", "threads", threads))
    taken, given = seen.mean("involuntary"), seen.mean("voluntary")
    if taken is not None and given is not None:
        text = (
            f"a core was taken from a thread that worked {taken:,.0f} times a second, and given up {given:,.0f} times"
        )
        found.append(Evidence(text, "involuntary", taken))
    return found


def _oversubscription(seen: Seen, computing: int, cores: float) -> Evidence:
    """More threads than cores harm where they want more than there is. That they wait for a core proves nothing: other
    programs may have it."""
    text = f"{computing} threads of its models may compute at once, on {cores:g} cores"
    waited, worked = seen.mean("run_delay"), seen.mean("server_cpu_cores")
    if computing <= cores:
        return Evidence(text, "oversubscription", 0.0)
    if waited is None or worked is None or waited + worked <= 0:
        return Evidence(text)
    wanted = waited + worked
    text = f"{text}: they wanted {wanted:.2f} on average, and waited for {waited / wanted:.0%} of that"
    return Evidence(text, "oversubscription", max(1 - cores / wanted, 0.0))


def _computing(seen: Seen) -> int:
    """Threads of the model that has most: models take turns, the steps of a pipeline do not."""
    by_model: dict[str, int] = {}
    for one in seen.host.works if seen.host is not None else ():
        by_model[one.model] = by_model.get(one.model, 0) + (one.threads or 0)
    return max(by_model.values(), default=0)
