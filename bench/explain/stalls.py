"""Stalls: times in which requests waited and the server answered none of them."""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..load.measurements import Outcome
from ..observe.timeline import Pause
from . import batches
from .stages import TERMS, Account

Columns = dict[str, NDArray[np.int64]]
MIN_STALL_MS, MIN_WAITING = 50.0, 2
SHORT_STALL_MS, SHORT_WAITING = 15.0, 4
"""More requests must have waited in a short stall: a single run of some milliseconds is none."""
OF_TYPICAL = 4.0
"""A stall is this many times as long as a typical request."""
OF_STALL = 0.5
ALIKE = 0.05
"""Latencies that differ by less, as a share of the longest, are those of requests that were held up one by one."""
LEAST_RUNS, USUAL = 3, 1.5
"""Runs whose median is the usual time of such a run, and how much longer one may take that nothing has stopped."""


@dataclass(frozen=True, slots=True)
class Stalls:
    """``count`` stalls of ``longest_ms`` at most, ``total_ms`` in all.

    ``tail_share``: the share of the requests around p99 that waited in a stall. ``of_long``: the share of the stalls
    that a long input may explain: by the server's stage times, a run filled it that was as long as runs of such inputs
    are; without them, a long input was in flight. ``of_gc``, ``of_loop``: the number
    of them in which the server told of a pause by its garbage collector, or by its event loop.
    """

    count: int
    longest_ms: float
    total_ms: float
    tail_share: float
    of_long: float
    of_gc: int = 0
    of_loop: int = 0


def spans(begin_ns: NDArray[np.int64], end_ns: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Times without an answer in which two requests waited for the whole second half, or four in a short one, and
    behind which they were answered one right after the other.

    ``begin_ns``, ``end_ns``: int64 [n], when each request was sent and when it ended. A time that one slow request
    explains is no stall, and requests that are held up one by one take as long as each other: in a stop, the earlier
    ones wait longer.
    """
    if len(end_ns) < 3:
        return []
    typical_ns = float(np.median(end_ns - begin_ns))
    limit_ns = max(SHORT_STALL_MS * 1e6, OF_TYPICAL * typical_ns)
    order = np.argsort(end_ns, kind="stable")
    ends, begins = end_ns[order], begin_ns[order]
    found = []
    for at in np.flatnonzero(np.diff(ends) > limit_ns).tolist():
        low, high = int(ends[at]), int(ends[at + 1])
        waited = begins[at + 1 :] < (low + high) // 2
        after, took_ns = ends[at + 1 :][waited], (ends - begins)[at + 1 :][waited]
        least = max(MIN_WAITING if high - low >= MIN_STALL_MS * 1e6 else SHORT_WAITING, OF_STALL * len(after))
        together = np.count_nonzero(after <= high + len(after) * typical_ns) >= least
        if together and np.ptp(took_ns) > ALIKE * took_ns.max():
            found.append((low, high))
    return found


def find(
    window: Columns,
    account: Account,
    tail: NDArray[np.intp],
    long: AbstractSet[int],
    pauses: Sequence[Pause] = (),
) -> Stalls | None:
    """The stalls of the measured rows; None without any. ``tail``: indices into the account; ``long``: payloads;
    ``pauses``: those that the server told."""
    # While the generator itself stops it sends nothing, and no answer can come.
    begin = np.where(window["send_ns"] >= 0, window["send_ns"], window["due_ns"])
    end = window["last_byte_ns"]
    found = [one for one in spans(begin, end) if not _stopped_itself(one, window)]
    if not found:
        return None
    low, high = (np.array(side, dtype=np.int64) for side in zip(*found, strict=True))
    ended = account.due_ns + account.total_ns
    touched = [bool(((account.due_ns[row] < high) & (ended[row] > low)).any()) for row in tail.tolist()]
    if account.with_server:
        with_long = _filled_by_runs(found, window, account)
    else:
        is_long = np.isin(window["payload"], list(long)) & (window["outcome"] == Outcome.OK)
        with_long = [bool((is_long & (begin < at_end) & (end > at)).any()) for at, at_end in found]
    lengths_ms = (high - low) / 1e6
    return Stalls(
        len(found),
        float(lengths_ms.max()),
        float(lengths_ms.sum()),
        float(np.mean(touched)) if touched else 0.0,
        float(np.mean(with_long)),
        of_gc=_during(found, [one for one in pauses if one.kind == "gc"]),
        of_loop=_during(found, [one for one in pauses if one.kind == "loop"]),
    )


def _stopped_itself(span: tuple[int, int], window: Columns) -> bool:
    """Whether the generator was late with most of what was due in a stall: then it read answers late, too."""
    due = window["due_ns"]
    inside = (due > span[0]) & (due < span[1])
    late = window["picked_ns"][inside] - due[inside] > OF_STALL * (span[1] - due[inside])
    return bool(late.any() and late.mean() >= OF_STALL)


def _filled_by_runs(found: Sequence[tuple[int, int]], window: Columns, account: Account) -> list[bool]:
    """Of each stall, whether a run fills half of it that took as long as runs of its inputs usually do."""
    order, first = batches.group(account)
    if not len(first):
        return [False] * len(found)
    leaders, rows = order[first], account.batch[order[first]]
    before = account.terms_ns[leaders, : TERMS.index("compute")].sum(axis=1)
    begun_ns, took_ns = account.due_ns[leaders] + before, account.terms_ns[leaders, TERMS.index("compute")]
    sent = window["bytes_out"][np.searchsorted(window["due_ns"], account.due_ns)]
    size = np.where(account.about["padded"] > 0, account.about["padded"], sent)
    largest = np.maximum.reduceat(size[order], first)
    usual = took_ns <= USUAL * _usual_ns(np.round(2 * np.log2(np.maximum(largest, 1))), rows, took_ns)
    ended_ns = begun_ns + took_ns
    return [
        bool((usual & (np.minimum(ended_ns, high) - np.maximum(begun_ns, low) >= OF_STALL * (high - low))).any())
        for low, high in found
    ]


def _usual_ns(kind: NDArray[np.float64], rows: NDArray[np.int64], took_ns: NDArray[np.int64]) -> NDArray[np.float64]:
    """The time of each run by those with as many rows of its kind, else by all of its kind; 0 for too few."""
    usual = np.zeros(len(took_ns))
    for one in np.unique(kind):
        of_kind = kind == one
        if of_kind.sum() >= LEAST_RUNS:
            usual[of_kind] = rows[of_kind] * np.median(took_ns[of_kind] / rows[of_kind])
        for count in np.unique(rows[of_kind]):
            same = of_kind & (rows == count)
            if same.sum() >= LEAST_RUNS:
                usual[same] = np.median(took_ns[same])
    return usual


def _during(found: Sequence[tuple[int, int]], pauses: Sequence[Pause]) -> int:
    """The stalls of which a pause fills half."""
    count = 0
    for low_ns, high_ns in found:
        shared_s = [min(high_ns / 1e9, p.end_s) - max(low_ns / 1e9, p.end_s - p.lasted_s) for p in pauses]
        count += max(shared_s, default=0.0) >= OF_STALL * (high_ns - low_ns) / 1e9
    return count
