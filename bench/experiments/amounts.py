"""Amounts: what a change must lower. An experiment whose change lowered nothing tells nothing of the latency."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from server.system import cgroup

from ..errors import Unusable
from ..load.server_timing import MISSING
from ..observe import held, tree
from ..result.record import RunRecord
from ..result.repeats import Columns

LEAST_FALL = 0.3
"""Of the amount without the change. A hold that takes leaves nearly nothing."""
End = Callable[[RunRecord, Columns], float | None]
"""The amount of a block, from its record and its rows; None if unknown."""


@dataclass(frozen=True, slots=True)
class Amount:
    """What a change must lower. ``start``: called at the start of a block; what it returns is called at its end.

    ``what``: the words for an amount that did not fall.
    """

    what: str
    start: Callable[[], End]


def of_hold(kind: str, pids: Sequence[int]) -> Amount:
    """What a server waits for per request, in ns: for a core, or for its quota to be filled again."""
    if kind == held.QUOTA:
        return Amount("the CPU quota stopped the server as long as before", lambda: _throttled(pids[0]))
    return Amount("the server waited for a core as long as before", lambda: _run_delay(tree.with_children(pids)))


def _run_delay(pids: tuple[int, ...]) -> End:
    work = tree.work_of(pids)

    def end(_record: RunRecord, columns: Columns) -> float | None:
        found = work()
        return None if found is None else found.run_delay_ns / _requests(columns)

    return end


def _throttled(pid: int) -> End:
    groups = cgroup.of(pid)
    before = groups.throttling()

    def end(_record: RunRecord, columns: Columns) -> float | None:
        after = groups.throttling()
        return (
            None if before is None or after is None else (after.throttled_ns - before.throttled_ns) / _requests(columns)
        )

    return end


def _requests(columns: Columns) -> int:
    return max(len(columns["index"]), 1)


def of_generator() -> Amount:
    """The share of the time in which the load generator waited for a core."""

    def end(record: RunRecord, _columns: Columns) -> float | None:
        return None if record.client is None else record.client.run_delay

    return Amount("the load generator waited for a core as long as before", lambda: end)


def of_connections() -> Amount:
    """The mean time that a request waited for a connection, in ns."""

    def end(_record: RunRecord, columns: Columns) -> float | None:
        picked, sent = columns["picked_ns"], columns["send_ns"]
        known = (picked != MISSING) & (sent != MISSING)
        return float(np.mean((sent - picked)[known])) if known.any() else None

    return Amount("the requests waited for connections as long as before", lambda: end)


def require_fall(amount: Amount, before: Sequence[float | None], after: Sequence[float | None]) -> None:
    """Raises Unusable unless the change lowered the amount. ``before``, ``after``: of blocks without and with it."""
    old, new = ([value for value in values if value is not None] for values in (before, after))
    if not old or not new:
        raise Unusable(f"cannot tell whether the change took effect, or {amount.what}")
    if np.mean(new) >= (1 - LEAST_FALL) * np.mean(old):
        raise Unusable(f"the change did not take effect: {amount.what}")
