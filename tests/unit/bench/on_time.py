"""A load generator that is never late, before a server whose every response takes the same time.

It stands in for ``bench.experiments.run.load``, so that what a command prints and returns does not depend on how quiet
the machine of the tests is. No request is sent.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bench.experiments.config import RunConfig
from bench.load.measurements import COLUMNS, Outcome
from bench.load.raw_run import RawRun, Watch
from bench.load.schedule import Schedule
from bench.load.server_timing import MISSING

LATENCY_MS = 20.0


def load(config: RunConfig, schedules: Sequence[Schedule | None], _watch: Watch | None = None) -> list[RawRun]:
    """One run per schedule; for None, callers who each wait for their response."""
    return [_run(config, one) for one in schedules]


def _run(config: RunConfig, schedule: Schedule | None) -> RawRun:
    latency_ns = round(LATENCY_MS * 1e6)
    nothing = np.zeros(0, np.int64)
    if schedule is None:
        turns = np.arange(0, round(config.total_s * 1e9), latency_ns, dtype=np.int64)
        due = np.repeat(turns, config.users or 1)
    else:
        due = schedule.offsets_ns
    count = len(due)
    known = dict.fromkeys(("due_ns", "picked_ns", "send_ns", "sent_ns"), due)
    known |= dict.fromkeys(("first_byte_ns", "last_byte_ns"), due + latency_ns)
    known |= {"index": np.arange(count), "status": np.full(count, 200), "outcome": np.full(count, int(Outcome.OK))}
    known |= {name: np.zeros(count, np.int64) for name in ("repeat", "bytes_in", "bytes_out", "payload")}
    # No stage times: the server is not Slipway.
    found = {name: known.get(name, np.full(count, MISSING)) for name in COLUMNS}
    scheduled = due if schedule is not None else nothing
    peak = config.users or 4
    return RawRun(found, {}, scheduled, 0.05, peak, 0, exhausted=False, interrupted=False, abandoned=0)
