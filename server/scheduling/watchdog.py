"""The watchdog of one model: it notices work that makes no progress. It decides only; times are in nanoseconds."""

from __future__ import annotations

from ..request import NEVER


class Watchdog:
    """Compares the state of a queue at each check with the state at the check before."""

    def __init__(self, limit_ns: int = NEVER) -> None:
        """``limit_ns``: how long waiting requests may see no batch start, and how much longer than predicted a run may
        take."""
        self._limit_ns = limit_ns
        self._pulls = -1
        self._still_ns = 0  # since when no batch has been pulled while requests waited

    def check(self, now_ns: int, waiting_rows: int, pulls: int, overdue_ns: int) -> str:
        """Why the model makes no progress; empty when it does.

        ``pulls`` counts how often an instance has asked for a batch; ``overdue_ns`` is by how much the most overdue run
        exceeds its prediction.
        """
        if pulls != self._pulls or not waiting_rows:
            self._pulls, self._still_ns = pulls, now_ns
        if overdue_ns > self._limit_ns:
            return f"a run takes {overdue_ns / 1e9:.0f} s longer than predicted"
        if now_ns - self._still_ns > self._limit_ns:
            return f"{waiting_rows} rows have waited for {(now_ns - self._still_ns) / 1e9:.0f} s and none was started"
        return ""
