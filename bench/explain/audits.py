"""Audits: laws that hold for every queue, applied to the run. A broken law shows a wrong measurement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..observe.timeline import Span, Totals
from .batches import Runs
from .stages import CLIENT_TERMS, RESIDUAL, TERMS, Account

LIMIT = 0.05
# With fewer requests, the ends of the window are a visible part of it.
MIN_REQUESTS = 200


@dataclass(frozen=True, slots=True)
class Audit:
    """Two computations of the same number.

    ``mismatch``: their difference over the larger one. ``ok``: None for a mismatch that may be harmless, for the
    reasons in ``note``.
    """

    name: str
    law: str
    left: str
    left_value: float
    right: str
    right_value: float
    unit: str
    mismatch: float
    ok: bool | None
    note: str


def little(columns: dict[str, NDArray[np.int64]], stretches: Sequence[Span]) -> Audit | None:
    """Requests in the system on average: counted over time, and as rate times mean latency.

    They differ if the run began or ended with a backlog, which is no steady state. ``columns``: all rows, warm-up
    included, because its requests are in the system when a measured stretch begins. None for a short run.
    """
    due, last = columns["due_ns"], columns["last_byte_ns"]
    whole_ns = sum(end_s - start_s for start_s, end_s in stretches) * 1e9
    if len(due) < MIN_REQUESTS or whole_ns <= 0:
        return None
    present_ns = latency_ns = 0.0
    for start_ns, end_ns in ((start_s * 1e9, end_s * 1e9) for start_s, end_s in stretches):
        present_ns += float(np.clip(np.minimum(last, end_ns) - np.maximum(due, start_ns), 0, None).sum())
        latency_ns += float((last - due)[(due >= start_ns) & (due < end_ns)].sum())
    counted, by_law = present_ns / whole_ns, latency_ns / whole_ns
    return _audit(
        "Little's law, whole requests",
        "mean in the system = rate x mean latency",
        ("counted over time", counted),
        ("rate x mean latency", by_law),
        "requests",
        "a difference means a backlog at the end of the run, or at the end of the warm-up",
    )


def little_in_server(account: Account, totals: Totals | None, seconds: float) -> Audit | None:
    """Requests inside the server on average: from the stage times of responses, and from the server's metrics."""
    if totals is None or totals.seconds <= 0 or not account.with_server or totals.requests < MIN_REQUESTS:
        return None
    inside = [at for at, name in enumerate(TERMS) if name not in (*CLIENT_TERMS, RESIDUAL)]
    by_stages = float(account.terms_ns[:, inside].sum()) / 1e9 / seconds
    return _audit(
        "Little's law, inside the server",
        "mean in the server = rate x mean time there",
        ("stage times of responses", by_stages),
        ("the server's metrics, without send", (totals.request_seconds - totals.send_seconds) / totals.seconds),
        "requests",
        "the server's metrics include other clients, and cover only the time between two scrapes",
        strict=False,
    )


def utilisation(runs: Runs, totals: Totals | None, seconds: float) -> Audit | None:
    """Busy instances on average, by the utilisation law: runs per second, counted twice, times their mean time."""
    if totals is None or totals.seconds <= 0 or totals.runs < MIN_REQUESTS or not len(runs.rows):
        return None
    mean_s = float(runs.compute_ns.mean()) / 1e9
    return _audit(
        "Utilisation law",
        "busy instances = runs per second x mean time of a run",
        ("runs by the responses", len(runs.rows) / seconds * mean_s),
        ("runs by the server's counters", totals.runs / totals.seconds * mean_s),
        "instances",
        "the server also counts the runs of other clients, and of requests that failed",
        strict=False,
    )


def contradictions(account: Account) -> Audit | None:
    """Requests with stage times above their latency at the client."""
    count = len(account.total_ns)
    if not account.with_server or not count:
        return None
    share = account.contradictions / count
    return Audit(
        name="Clocks",
        law="the server's stages take no longer than the whole request",
        left="requests that break it",
        left_value=float(account.contradictions),
        right="all requests",
        right_value=float(count),
        unit="requests",
        mismatch=share,
        ok=share <= LIMIT / 5,
        note="by more than 50 us, the error of reading two clocks",
    )


def _audit(
    name: str, law: str, left: tuple[str, float], right: tuple[str, float], unit: str, note: str, strict: bool = True
) -> Audit:
    larger = max(abs(left[1]), abs(right[1]))
    mismatch = abs(left[1] - right[1]) / larger if larger > 0 else 0.0
    ok = True if mismatch <= LIMIT else (False if strict else None)
    return Audit(name, law, *left, *right, unit, mismatch, ok, note)
