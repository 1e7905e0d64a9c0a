"""Floods: a budget for frames that cost work and carry nothing.

Each PING, SETTINGS, WINDOW_UPDATE, empty or unknown frame and the like takes one from the budget, which fills up again
with time, with messages and with bytes that are sent. A peer whose budget is empty is disconnected.
"""

from __future__ import annotations

BURST = 2_000
"""Idle frames at once."""

PER_S = 200
"""Idle frames a second in the long run."""

PER_MESSAGE = 8
"""Idle frames that each call, each part of a message and each response allow."""

BYTES_PER_UPDATE = 1_024
"""Bytes that are sent and allow one more frame."""


class FloodBudget:
    """The budget of one connection."""

    __slots__ = ("_left", "_refilled_ns")

    def __init__(self, now_ns: int) -> None:
        self._left = BURST
        self._refilled_ns = now_ns

    def earn(self, sent_bytes: int = 0) -> None:
        """Something useful has arrived, or was sent."""
        if self._left < BURST:
            self._left += PER_MESSAGE + sent_bytes // BYTES_PER_UPDATE

    def spend(self, now_ns: int) -> bool:
        """An idle frame has arrived. Returns False if the budget is empty."""
        self._left -= 1
        if self._left >= 0:
            return True
        gained = (now_ns - self._refilled_ns) * PER_S // 1_000_000_000
        self._refilled_ns = now_ns
        self._left = min(gained, BURST) - 1
        return self._left >= 0
