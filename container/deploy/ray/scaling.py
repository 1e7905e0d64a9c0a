"""The auto scaling of a deployment: the waiting rows of its servers ask for replicas, idle servers give them back.

Serve's controller calls the policy of this module, which imports nothing of Ray.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

WAITING, BUSY = "waiting_rows", "busy_ratio"
"""What a replica reports: rows in the queues of its server, and the share of time in which its instances ran."""
MOST_GROWTH = 2
BUSY_AFTER = 0.6
"""A replica is given back where the others would then be busy for at most this share of the time."""
QUEUES = ("slipway_queue_rows", "slipway_step_queue_rows")
RUNS, INSTANCES = "slipway_run_seconds_total", "slipway_instances"


def replicas_for(present: int, waiting: float, busy: float, queue_rows: float) -> int:
    """The number of replicas after ``present``, without bounds.

    ``waiting``: rows in all queues together. ``busy``: sum of the replicas' shares. ``queue_rows``: rows that may wait
    in one replica.
    """
    if waiting > queue_rows * present:
        return min(math.ceil(waiting / queue_rows), MOST_GROWTH * present)
    others = present - 1
    if others >= 1 and waiting <= queue_rows * others / 2 and busy <= BUSY_AFTER * others:
        return others
    return present


class QueuePolicy:
    """A policy of Ray Serve: called with its AutoscalingContext in every turn of the controller."""

    def __init__(self, queue_rows: float) -> None:
        """``queue_rows``: waiting rows of a replica above which another one is added."""
        self._queue_rows = queue_rows

    def __call__(self, context: Any) -> tuple[int, dict[str, Any]]:
        """The wanted number of replicas, and no state. Serve applies delays and bounds."""
        reported = context.aggregated_metrics or {}
        waiting, busy = reported.get(WAITING) or {}, reported.get(BUSY) or {}
        present = context.target_num_replicas
        if not waiting:
            return present, {}
        wanted = replicas_for(len(waiting), sum(waiting.values()), sum(busy.values()), self._queue_rows)
        # Replicas that start, or end, have not reported: what is under way goes on.
        return (max(wanted, present) if len(waiting) < present else wanted), {}


@dataclass(slots=True)
class Load:
    """The load of one server, by its metrics. The first look has no share of time."""

    seen_s: float = 0.0
    run_s: float | None = None

    def report(self, metrics: str, now_s: float) -> dict[str, float]:
        """What the replica reports, from the text of ``/metrics``. ``now_s``: a clock that only goes forward."""
        values = totals(metrics, (*QUEUES, RUNS, INSTANCES))
        report = {WAITING: sum(values[name] for name in QUEUES)}
        if self.run_s is not None and now_s > self.seen_s:
            share = (values[RUNS] - self.run_s) / (now_s - self.seen_s) / max(values[INSTANCES], 1.0)
            report[BUSY] = min(max(share, 0.0), 1.0)
        self.seen_s, self.run_s = now_s, values[RUNS]
        return report


def totals(metrics: str, names: Sequence[str]) -> Mapping[str, float]:
    """The sum over all labels of each metric; 0 for one that is not there."""
    sums = dict.fromkeys(names, 0.0)
    for line in metrics.splitlines():
        name = line.partition("{")[0].partition(" ")[0]
        if name in sums:
            sums[name] += float(line.rpartition(" ")[2])
    return sums
