"""Planted runs: rows as a batching server with a known fault would leave them, to see whether the fault is found."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.load.measurements import COLUMNS, Outcome
from bench.load.schedule import build
from bench.load.server_timing import ABOUT, MISSING

Columns = dict[str, NDArray[np.int64]]
MS = 1_000_000


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with the server, beside the queueing that its load brings with it.

    ``term``: where the time is lost. ``share`` of the requests (of the runs, for ``compute``) lose ``extra_ms`` more,
    spread exponentially. ``bursts``: arrivals come at four times their rate a tenth of the time instead.
    """

    name: str
    term: str
    share: float = 0.0
    extra_ms: float = 0.0
    bursts: bool = False


FAULTS = (
    Fault("pauses of the model", "compute", 0.02, 60),
    Fault("bursts of requests", "queue_busy", bursts=True),
    Fault("slow decoding of some", "decode", 0.03, 40),
    Fault("a batch timer", "queue_timer", 0.03, 40),
    Fault("slow uploads", "receive", 0.03, 40),
    Fault("slow encoding of some", "encode", 0.03, 40),
    Fault("a network that hiccups", "residual", 0.03, 40),
)


@dataclass(frozen=True, slots=True)
class Service:
    """A server with one instance: S(b) = ``fixed_ms`` + ``per_row_ms`` b with lognormal noise of this ``cv``."""

    fixed_ms: float = 4.0
    per_row_ms: float = 1.0
    cv: float = 0.25
    largest: int = 16


def simulate(
    seed: int, rate_per_s: float, duration_s: float, fault: Fault | None = None, service: Service | None = None
) -> Columns:
    """The rows of one run, in schedule order, times in ns as ``COLUMNS`` describes them; the same for the same seed."""
    # A stream of its own beside that of the arrivals: from the same one, gaps and times would go together.
    random, law = np.random.default_rng((seed, 1)), service or Service()
    if fault is not None and fault.bursts:
        due = _bursty(rate_per_s, duration_s, random)
    else:
        due = build("poisson", rate_per_s, duration_s, seed).offsets_ns
    count = len(due)
    parts = _small_parts(count, random)
    if fault is not None and fault.share and fault.term != "compute":
        parts[fault.term] = parts[fault.term] + _extra(fault, count, random)
    # A timer holds requests of which an instance is free for none: they join the queue when it has run out.
    joined = due + parts["lag"] + parts["write"] + parts["receive"] + parts["decode"] + parts["queue_timer"]
    busy, compute, batch = _run_batches(joined, law, fault, random)
    before = joined + busy
    return _columns(due, parts, busy, compute, batch, before)


def _small_parts(count: int, random: np.random.Generator) -> Columns:
    """What every request takes besides waiting and computing."""
    means_us = {"lag": 20, "write": 15, "receive": 30, "decode": 120, "assemble": 0, "scatter": 15, "encode": 90}
    parts = {name: random.exponential(mean * 1e3, count).astype(np.int64) for name, mean in means_us.items()}
    parts["residual"] = random.exponential(300e3, count).astype(np.int64)
    parts["queue_timer"] = np.zeros(count, np.int64)
    return parts


def _extra(fault: Fault, count: int, random: np.random.Generator) -> NDArray[np.int64]:
    hit = random.random(count) < fault.share
    return np.where(hit, random.exponential(fault.extra_ms * MS, count), 0).astype(np.int64)


def _bursty(rate_per_s: float, duration_s: float, random: np.random.Generator) -> NDArray[np.int64]:
    """Four times the rate in bursts of 50 ms on average that fill a tenth of the time; the mean rate is kept."""
    pieces, start_s, calm_per_s = [], 0.0, rate_per_s * (1 - 0.1 * 4) / 0.9
    while start_s < duration_s:
        for length_s, rate in ((random.exponential(0.45), calm_per_s), (random.exponential(0.05), 4 * rate_per_s)):
            arrivals = random.random(random.poisson(rate * length_s)) * length_s
            pieces.append(start_s + np.sort(arrivals))
            start_s += length_s
    instants = np.concatenate(pieces)
    return np.floor(instants[instants < duration_s] * 1e9).astype(np.int64)


def _run_batches(
    joined: NDArray[np.int64], law: Service, fault: Fault | None, random: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Waiting for the instance, time of the run, and rows of the run, per request: what is there starts together."""
    order = np.argsort(joined, kind="stable")
    arrive = joined[order].tolist()
    count = len(arrive)
    busy, compute, batch = (np.zeros(count, np.int64) for _ in range(3))
    spread = np.sqrt(np.log1p(law.cv**2))
    noise = random.lognormal(-(spread**2) / 2, spread, count).tolist()
    paused = fault is not None and fault.term == "compute"
    extra = _extra(fault, count, random).tolist() if fault is not None and paused else [0] * count
    free, at, run = 0, 0, 0
    while at < count:
        begin, end = max(free, arrive[at]), at + 1
        while end < count and end - at < law.largest and arrive[end] <= begin:
            end += 1
        lasts = round((law.fixed_ms + law.per_row_ms * (end - at)) * MS * noise[run]) + extra[run]
        members = order[at:end]
        busy[members] = begin - joined[members]
        compute[members], batch[members] = lasts, end - at
        free, at, run = begin + lasts, end, run + 1
    return busy, compute, batch


def _columns(
    due: NDArray[np.int64],
    parts: Columns,
    busy: NDArray[np.int64],
    compute: NDArray[np.int64],
    batch: NDArray[np.int64],
    before: NDArray[np.int64],
) -> Columns:
    count = len(due)
    picked = due + parts["lag"]
    sent = picked + parts["write"]
    last = before + compute + parts["scatter"] + parts["encode"] + parts["residual"]
    told = {name: parts[name] for name in ("receive", "decode", "queue_timer", "scatter", "encode")}
    told |= {"queue_busy": busy, "assemble": np.zeros(count, np.int64), "compute": compute}
    found = {"index": np.arange(count), "due_ns": due, "picked_ns": picked, "send_ns": picked, "sent_ns": sent}
    found |= {"first_byte_ns": last, "last_byte_ns": last, "outcome": np.full(count, int(Outcome.OK)), "batch": batch}
    found |= {"status": np.full(count, 200), "bytes_in": np.full(count, 600)}
    found |= {f"{name}_ns": values for name, values in told.items()}
    # What a newer format has besides counts from 0 here, one repetition, one payload, or is not told by the server.
    return {name: found.get(name, np.full(count, MISSING if name in ABOUT else 0, np.int64)) for name in COLUMNS}
