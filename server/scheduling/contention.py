"""Contention: what instances of one model that run at the same time cost each other, and when one should wait.

This module decides and does nothing else: no IO, no thread, no clock. Every call is given the time, in nanoseconds.
"""

from __future__ import annotations

from ..request import NEVER, InferRequest
from .batch import Batch
from .batch_former import BatchCandidate
from .contention_estimate import ContentionEstimate
from .cost import WORTH_IT

SHARED = 1.1
"""Instances whose runs are slowed down by more than this when all of them run share their device."""


class RunningBatches:
    """The batches that run now on ``instances`` instances, and the slowdown of each.

    ``contention``: how many times longer a run takes while all instances run, as measured at load; 1 with cores of
    their own. Later runs correct it.
    """

    def __init__(self, instances: int, contention: float) -> None:
        self._instances = instances
        self._estimate = ContentionEstimate(instances, contention)
        self._running: dict[Batch, tuple[int, float, int, int]] = {}  # predicted end, slowdown, begin, area at begin
        self.several = instances > 1
        """Whether there are other instances that a run could slow down."""
        self._area_ns = 0  # the number of running batches, integrated over time
        self._counted_ns = 0  # up to when
        self.idle = instances
        """Instances that run nothing."""
        self.row_share = self._estimate.ratio / instances
        """The share of a row's time for which the next row waits."""
        self.retry_ns = NEVER
        """When a candidate that :meth:`delays` held back should be tried again if no run ends before; reset by the
        queue before it chooses."""

    @property
    def contention(self) -> float:
        """How many times longer a run takes while all instances run, as learnt."""
        return self._estimate.ratio

    def next_slowdown(self) -> float:
        """How many times longer than alone the next run takes beside those that run now."""
        if self._estimate.ratio == 1.0:
            return 1.0
        return self._slowdown(min(len(self._running) + 1, self._instances))

    def start(self, batch: Batch, now_ns: int, run_ns: int, slowdown: float) -> None:
        """A batch starts, which would take ``run_ns`` nanoseconds alone."""
        if self.several:
            self._count(now_ns)
        self._running[batch] = (now_ns + int(run_ns * slowdown), slowdown, now_ns, self._area_ns)
        self.idle -= 1

    def end(self, batch: Batch) -> float:
        """A batch has run. Returns the slowdown that was assumed for it, and learns from the one that it had."""
        if self.several:
            self._count(batch.computed_ns)
        _, slowdown, begun_ns, area_ns = self._running.pop(batch)
        self.idle += 1
        took_ns = batch.computed_ns - begun_ns
        if self.several and batch.bucket is not None and batch.outputs and took_ns > 0:
            busy = (self._area_ns - area_ns) / took_ns
            self._estimate.learn(batch.bucket.alone, batch.rows, took_ns, busy, batch.computed_ns)
            self.row_share = self._estimate.ratio / self._instances
        return slowdown

    @property
    def count(self) -> int:
        """Batches that run now."""
        return len(self._running)

    def free_ns(self, now_ns: int) -> int:
        """Predicted nanoseconds until the next run ends; at least one batch runs.

        A run that takes longer than predicted is expected to take as long again as it is overdue: of a run that hangs,
        nothing is known but that it lasts.
        """
        return min([abs(one[0] - now_ns) for one in self._running.values()])

    def forget(self, batch: Batch) -> None:
        """A batch does not run, or has run: its instance is idle. A batch that is not known is ignored."""
        self._running.pop(batch, None)
        self.idle = self._instances - len(self._running)

    def overdue_ns(self, now_ns: int) -> int:
        """By how many nanoseconds the most overdue run exceeds its prediction; 0 when none does."""
        return max(now_ns - min(self._running.values())[0], 0) if self._running else 0

    def requests(self) -> list[InferRequest]:
        """The requests that have rows in a batch that runs now."""
        return [request for batch in self._running for request, _, _ in batch.slices]

    def waits(self, now_ns: int) -> bool:
        """Whether an idle instance waits because a run alone should be measured."""
        if not self._running:
            return False
        until_ns = self._estimate.alone_until_ns(max([one[0] - one[2] for one in self._running.values()]), now_ns)
        if until_ns:
            self.retry_ns = until_ns + 1
        return until_ns > 0

    def delays(self, candidate: BatchCandidate, now_ns: int, slowdown: float) -> bool:
        """Whether a candidate should wait for an instance that runs, rather than start beside it and slow both down.

        Only where the instances share their device, and where the batch would cost more device time a row beside the
        others than rows of a good batch do alone. Then it waits in two cases: all instances together do no more work
        when one more runs; or an instance is free so soon that the rows finish no later than if they started now. The
        candidate grows while it waits, and the runs end sooner. An overdue run is waited for only a short time more.
        A few candidates start all the same once in a while, or nothing would correct an estimate that is too high.
        """
        busy = len(self._running)
        if slowdown <= SHARED or not busy:
            return False
        cost = candidate.target.cost
        alone_ns = cost.predict_ns(candidate.rows)
        if WORTH_IT * alone_ns * slowdown / (busy + 1) <= candidate.rows * cost.row_ns:
            return False
        pays = WORTH_IT * (busy + 1) / slowdown > busy / self._slowdown(busy)
        soon_ns = int(alone_ns * (slowdown - 1.0))
        free_ns = min(self._running.values())[0]
        if (pays and free_ns - now_ns > soon_ns) or now_ns - free_ns > soon_ns:
            return False
        if self._estimate.tries(candidate.target.alone, candidate.rows, int(alone_ns * slowdown), now_ns):
            return False
        self.retry_ns = free_ns + soon_ns + 1
        return True

    def _slowdown(self, busy: int) -> float:
        """How many times longer than alone a run takes while ``busy`` instances run."""
        return 1.0 + (self._estimate.ratio - 1.0) * (busy - 1) / (self._instances - 1)

    def _count(self, now_ns: int) -> None:
        """Add the time since the last change of the number of running batches to the integral."""
        if now_ns > self._counted_ns:
            self._area_ns += len(self._running) * (now_ns - self._counted_ns)
            self._counted_ns = now_ns
