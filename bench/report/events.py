"""Events: stalls, throttling, first failures and a late generator, each at its instant of a run."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..load.measurements import Outcome, kind_of
from .source import Run

MIN_STALL_S = 0.1
STALL_OF_MEDIAN = 10
MIN_LAG_S = 0.01
APART_S = 1.0
MAX_EVENTS = 40
MIN_THROTTLED = 0.01


@dataclass(frozen=True, slots=True)
class Event:
    """An event ``at_s`` seconds after the start of the load."""

    at_s: float
    text: str


def find(run: Run) -> list[Event]:
    """The events of a run in the order of time, at most one of a kind per second, and ``MAX_EVENTS`` in all."""
    found = sorted([*_stalls(run), *_throttled(run), *_failures(run), *_late(run)], key=lambda event: event.at_s)
    kept: list[Event] = []
    for event in found:
        before = next((one for one in reversed(kept) if one.text.split(":")[0] == event.text.split(":")[0]), None)
        if before is None or event.at_s - before.at_s >= APART_S:
            kept.append(event)
    return kept[:MAX_EVENTS]


def _stalls(run: Run) -> list[Event]:
    """Pauses in which requests were in flight and no response came."""
    ended = np.sort(run.rows["last_byte_ns"])
    if len(run.window["due_ns"]) < 2:
        return []
    latency_s = float(np.median(run.window["last_byte_ns"] - run.window["due_ns"])) / 1e9
    limit_ns = max(MIN_STALL_S, STALL_OF_MEDIAN * latency_s) * 1e9
    gaps = np.flatnonzero(np.diff(ended) > limit_ns)
    due = np.sort(run.rows["due_ns"])
    events = []
    for at in gaps.tolist():
        begin, end = int(ended[at]), int(ended[at + 1])
        # A pause without requests is no stall: some must have been due well before its end.
        waiting = int(np.searchsorted(due, end - limit_ns / 2) - (at + 1))
        if waiting > 0 and run.measures(begin / 1e9):
            events.append(Event(begin / 1e9, _stall(end - begin, waiting)))
    return events


def _stall(silent_ns: int, waiting: int) -> str:
    requests = "request" if waiting == 1 else "requests"
    return f"stall: no response for {silent_ns / 1e6:,.0f} ms while {waiting} {requests} waited"


def _throttled(run: Run) -> list[Event]:
    timeline = run.record.host
    if timeline is None:
        return []
    pairs = zip(timeline.t_s, timeline.series.get("throttled", ()), strict=False)
    return [
        Event(t, f"throttled: the CPU quota stopped threads of the server for up to {share:.0%} of the time")
        for t, share in pairs
        if share is not None and share >= MIN_THROTTLED and run.measures(t)
    ]


def _failures(run: Run) -> list[Event]:
    """The first failure of each kind."""
    bad = np.flatnonzero(run.window["outcome"] != Outcome.OK)
    events, seen = [], set()
    for row in bad.tolist():
        kind = kind_of(int(run.window["outcome"][row]), int(run.window["status"][row]))
        if kind not in seen:
            seen.add(kind)
            events.append(Event(int(run.window["due_ns"][row]) / 1e9, f"failure {kind}: the first of its kind"))
    return events


def _late(run: Run) -> list[Event]:
    """Requests that the generator sent late."""
    lag = run.window["picked_ns"] - run.window["due_ns"]
    rows = np.flatnonzero(lag > MIN_LAG_S * 1e9)[:10_000]
    return [
        Event(int(run.window["due_ns"][row]) / 1e9, f"generator late: by {int(lag[row]) / 1e6:.0f} ms")
        for row in rows.tolist()
    ]
