"""The contention of one model, learnt from its runs: those that nothing ran beside against those beside others.

This module decides and does nothing else: no IO, no thread, no clock. Every call is given the time, in nanoseconds.
"""

from __future__ import annotations

from collections.abc import MutableMapping

AloneRuns = MutableMapping[int, tuple[float, int]]
"""By rows: nanoseconds of the runs of one shape that nothing ran beside, and when the last one ended."""

LEARNING = 0.1
"""Weight of the newest run."""

RECENT_NS = 60_000_000_000
"""A run beside others is compared with one of the same size alone that is no older: machines drift."""

WHOLE = 0.1
"""A run has a known concurrency if so many runs took place, on average over its time, give or take this."""

NOTICED = 1.05
"""A smaller contention counts as none: so much is noise."""

TRIAL_NS = 2_000_000_000
TRIAL_RUNS = 50
"""Without a run beside others for this time, and for this many runs, a few batches are started beside others."""


ALONE_NS = 10_000_000_000
ALONE_RUNS = 500
"""Without a run alone for this time, and for this many runs, instances wait until one was alone;"""

ALONE_WAIT = 4
"""but no longer than this many runs take."""


class ContentionEstimate:
    """How many times longer a run takes while all ``instances`` run than alone: from 1 to ``instances``.

    It begins with what was measured at load. Where no run is alone, or none is beside others, a few are made so.
    """

    __slots__ = ("_alone_ns", "_instances", "_learnt", "_seen_ns", "_trials", "_until_ns", "ratio")

    def __init__(self, instances: int, ratio: float) -> None:
        self._instances = instances
        self._learnt = ratio
        self._seen_ns = 0  # when a run beside others was last compared, or a trial ended
        self._trials = 0
        self._alone_ns = 0  # when a run was last alone, or was given up
        self._until_ns = 0  # the end of the wait for one; 0: no wait
        self.ratio = ratio if instances > 1 else 1.0

    def learn(self, alone: AloneRuns, rows: int, took_ns: int, busy: float, now_ns: int) -> None:
        """Learn from a run of ``rows`` rows. ``busy``: the mean number of runs during its time, its own included."""
        known_ns, at_ns = alone.get(rows, (0.0, 0))
        fresh = known_ns > 0 and now_ns - at_ns <= RECENT_NS
        if busy <= 1 + WHOLE / 2:
            alone[rows] = (known_ns + LEARNING * (took_ns - known_ns) if fresh else float(took_ns)), now_ns
            self._alone_ns = now_ns
            return
        others = round(busy) - 1
        if not fresh or others < 1 or abs(busy - 1 - others) > WHOLE:
            return
        seen = 1.0 + (took_ns / known_ns - 1.0) * (self._instances - 1) / others
        self._learnt += LEARNING * (min(max(seen, 0.0), 2.0 * self._instances) - self._learnt)
        ratio = min(max(self._learnt, 1.0), float(self._instances))
        self.ratio = ratio if ratio > NOTICED else 1.0
        self._seen_ns = now_ns
        self._trials = 0

    def alone_until_ns(self, run_ns: int, now_ns: int) -> int:
        """Until when idle instances should wait for the next run to be alone; 0: they should not.

        ``run_ns``: what the longest of the runs that take place now is predicted to take.
        """
        self._alone_ns = self._alone_ns or now_ns
        if now_ns - self._alone_ns <= max(ALONE_NS, ALONE_RUNS * run_ns):
            self._until_ns = 0
        elif not self._until_ns:
            self._until_ns = now_ns + ALONE_WAIT * run_ns
        elif now_ns > self._until_ns:
            self._alone_ns, self._until_ns = now_ns, 0
        return self._until_ns

    def tries(self, alone: AloneRuns, rows: int, run_ns: int, now_ns: int) -> bool:
        """Whether a batch should start beside others although it costs time: no run has confirmed that for a while.

        ``run_ns``: what the run is predicted to take. Only a batch that can be compared is tried.
        """
        if rows not in alone:
            return False
        if now_ns - self._seen_ns > max(TRIAL_NS, TRIAL_RUNS * run_ns):
            self._seen_ns = now_ns
            self._trials = 2 * self._instances
        if not self._trials:
            return False
        self._trials -= 1
        return True
