"""Self-inflicted slowness: timers, codecs, the event loop, garbage collection, threads and padding of the server."""

from __future__ import annotations

import numpy as np

from ..observe.model_work import ModelWork
from .evidence import CODEC
from .observations import Observations


def of_self_inflicted(observed: Observations) -> list[str]:
    """Everything that the server costs itself, in the order: timer, codecs, padding, event loop, collector, threads."""
    terms = observed.median.terms_ms
    codec = sum(terms[name] for name in CODEC)
    idle = f"a typical request waits {terms['queue_timer']:.3f} ms for a batch to fill while an instance is idle"
    by_stage = [
        f"{idle} (queue_busy, while all are busy: {terms['queue_busy']:.3f} ms)",
        f"decoding, assembling, scattering and encoding take {codec:.3f} ms of it",
    ]
    # A server without stage times says nothing of these: a zero would be a claim.
    return [
        *(by_stage if observed.account.with_server else ()),
        *_padding(observed),
        *_event_loop(observed),
        *_collections(observed),
        *_threads(observed),
    ]


def _works(observed: Observations) -> tuple[ModelWork, ...]:
    return observed.timeline.works if observed.timeline is not None else ()


def _padding(observed: Observations) -> list[str]:
    """An upper bound of the cost of padding: its share of all computed positions, of the compute time."""
    total_ms = observed.median.total_ms
    if total_ms <= 0:
        return []
    compute_ms = observed.median.terms_ms["compute"]
    return [_padded(one, compute_ms, total_ms) for one in _works(observed) if one.waste is not None]


def _padded(work: ModelWork, compute_ms: float, total_ms: float) -> str:
    waste = work.waste or 0.0
    computing_ms = min(work.stages_ms.get("compute", compute_ms), compute_ms)
    share = waste * computing_ms / total_ms
    text = f"padding was {waste:.0%} of the positions that {work.name} computed"
    return f"{text}: at most {share:.0%} of a typical request's time"


def _event_loop(observed: Observations) -> list[str]:
    found = []
    pings = observed.timeline.values("ping_ms", observed.stretches) if observed.timeline is not None else []
    if pings:
        middle, slowest = float(np.median(pings)), max(pings)
        text = f"/ping, which needs the event loop and no model, took {middle:.2f} ms (median of {len(pings)}; "
        found.append(f"{text}slowest {slowest:.1f} ms)")
    late_ms = observed.mean("loop_lag_ms")
    if late_ms is not None:
        found.append(f"its event loop was {late_ms:.2f} ms late for a timer on average, without the first millisecond")
    delay = observed.mean("loop_delay")
    if delay is not None:
        found.append(f"the event loop was ready and had no core {delay:.1%} of the time")
    return found


def _collections(observed: Observations) -> list[str]:
    share, per_s = observed.mean("gc_share"), observed.mean("gc_per_s")
    if share is None or per_s is None:
        return ["the server reports no garbage collection"]
    each = f", {share / per_s * 1e3:.2f} ms each" if per_s > 0 else ""
    return [f"garbage collection took {share:.2%} of the time: {per_s:.1f} collections per second{each}"]


def _threads(observed: Observations) -> list[str]:
    found = []
    cores = (observed.timeline.cores if observed.timeline is not None else None) or observed.cores
    computing = _compute_threads(observed)
    threads = observed.mean("threads")
    if computing and cores:
        found.append(_oversubscription(observed, computing, cores))
    elif threads is not None and cores:
        found.append(f"the server has {threads:.0f} threads, on {cores:g} cores")
    taken, given = observed.mean("involuntary"), observed.mean("voluntary")
    if taken is not None and given is not None:
        found.append(f"a working thread lost its core {taken:,.0f} times per second, and gave it up {given:,.0f} times")
    return found


def _oversubscription(observed: Observations, computing: int, cores: float) -> str:
    """More compute threads than cores do harm if they demand more than all cores.

    A wait for a core alone proves nothing, because other programs may hold the cores.
    """
    text = f"{computing} threads of its models may compute at once, on {cores:g} cores"
    waited, worked = observed.mean("run_delay"), observed.mean("server_cpu_cores")
    if computing <= cores or waited is None or worked is None or waited + worked <= 0:
        return text
    demand = waited + worked
    return f"{text}: they demanded {demand:.2f} cores on average, and waited for {waited / demand:.0%} of that"


def _compute_threads(observed: Observations) -> int:
    """Compute threads of the model with the most: models take turns, but the steps of a pipeline run at once."""
    by_model: dict[str, int] = {}
    for one in _works(observed):
        by_model[one.model] = by_model.get(one.model, 0) + (one.threads or 0)
    return max(by_model.values(), default=0)
