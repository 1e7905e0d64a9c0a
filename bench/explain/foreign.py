"""Foreign servers: the queueing forecast that a burst probe allows, for one that works on one request at a time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..load.burst import Burst
from ..load.measurements import Outcome
from ..observe.timeline import Span
from . import concurrency, stages, workload
from .concurrency import SERIAL_FROM
from .forecast import MIN_REQUESTS, Measured
from .replay import Layout
from .service import Service
from .stages import CLIENT_TERMS, TERMS
from .workload import Columns, NoForecast, Workload

RATIO_ERROR = 0.1
"""The relative error of the time of one request, which comes from a few requests of the probe."""
FOREVER_NS = 1 << 60


def measured(window: Columns, stretches: Sequence[Span], burst: Burst, body_bytes: float) -> Measured:
    """A server that sends no stage times: one queue, in front of one worker with the time that the probe found.

    Raises NoForecast for a server that works on several requests at once: its queue is not known from outside.
    """
    found = concurrency.of(burst, body_bytes)
    if found is None or found.serial < SERIAL_FROM or not found.in_order:
        raise NoForecast(
            "the server sends no stage times, and the burst probe does not show that it works on one request at a time"
        )
    window, stretches = workload.shortened(window, stretches)
    answered = window["outcome"] == Outcome.OK
    if answered.sum() < MIN_REQUESTS or answered.mean() < 0.99:
        raise NoForecast(f"{int(answered.sum())} of {len(answered)} requests succeeded: too few for a forecast")
    account = stages.join(window)
    each_ns = found.each_ms * 1e6
    rest_ns = max(burst.alone_ms * 1e6 - each_ns, 0.0)
    count = len(account.due_ns)
    none = np.zeros(count, dtype=np.int64)
    load = Workload(
        due_ns=workload.without_pauses(account.due_ns, stretches),
        before_ns=account.terms_ns[:, [TERMS.index(name) for name in CLIENT_TERMS]].sum(axis=1),
        decode_ns=none,
        rows=np.ones(count, dtype=np.int64),
        after_ns=np.full(count, int(rest_ns)),
        encode_ns=none,
        total_ns=account.total_ns,
        wake_ns=0,
        seconds=sum(end_s - start_s for start_s, end_s in stretches),
    )
    one = np.zeros(1, dtype=np.int64)
    service = Service({1: each_ns}, frozenset(), RATIO_ERROR, None, one, np.ones(1), one)
    return Measured(load, Layout(1, 1, 1, 0, FOREVER_NS, 1.0, {1: each_ns}), service, binary=False)
