"""Stalls: times in which requests waited and the server answered none of them."""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..load.measurements import Outcome
from ..observe.timeline import Pause
from .stages import Account

Columns = dict[str, NDArray[np.int64]]
MIN_STALL_MS = 50.0
OF_TYPICAL = 4.0
"""A stall is this many times as long as a typical request."""
MIN_WAITING = 2
OF_STALL = 0.5


@dataclass(frozen=True, slots=True)
class Stalls:
    """``count`` stalls of ``longest_ms`` at most, ``total_ms`` in all.

    ``tail_share``: the share of the requests around p99 that waited in a stall. ``of_long``: the share of the stalls
    in which a request with a long input was in flight, so that it may be the reason. ``of_gc``, ``of_loop``: the number
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
    """Times without an answer in which at least two requests waited for the whole second half.

    ``begin_ns``, ``end_ns``: int64 [n], when each request was due and when it ended. A time that one slow request
    explains is no stall.
    """
    if len(end_ns) < 3:
        return []
    typical_ns = float(np.median(end_ns - begin_ns))
    limit_ns = max(MIN_STALL_MS * 1e6, OF_TYPICAL * typical_ns)
    ends, begins = np.sort(end_ns), np.sort(begin_ns)
    found = []
    for at in np.flatnonzero(np.diff(ends) > limit_ns).tolist():
        low, high = int(ends[at]), int(ends[at + 1])
        waiting = int(np.searchsorted(begins, (low + high) // 2)) - (at + 1)
        if waiting >= MIN_WAITING:
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
    begin, end = window["due_ns"], window["last_byte_ns"]
    found = spans(begin, end)
    if not found:
        return None
    low, high = (np.array(side, dtype=np.int64) for side in zip(*found, strict=True))
    ended = account.due_ns + account.total_ns
    touched = [bool(((account.due_ns[row] < high) & (ended[row] > low)).any()) for row in tail.tolist()]
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


def _during(found: Sequence[tuple[int, int]], pauses: Sequence[Pause]) -> int:
    """The stalls of which a pause fills half."""
    count = 0
    for low_ns, high_ns in found:
        shared_s = [min(high_ns / 1e9, p.end_s) - max(low_ns / 1e9, p.end_s - p.lasted_s) for p in pauses]
        count += max(shared_s, default=0.0) >= OF_STALL * (high_ns - low_ns) / 1e9
    return count
