"""The raw run: a row for each request of a load, and the limits of the generator that the load met."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .measurements import Failure


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state of a running load, for a progress line: requests that ended, failed and are in flight."""

    elapsed_s: float
    ended: int
    failed: int
    in_flight: int


Watch = Callable[[Snapshot], None]


@dataclass(frozen=True, slots=True, eq=False)
class RawRun:
    """The result of a load. ``columns`` as in ``measurements.COLUMNS``, int64 [n], in schedule order.

    ``failures``: the first failure of each kind. ``scheduled_ns``: int64, the intended instants of a complete run,
    empty for a closed loop. ``generator_cpu``: share of one core while requests were sent, 1.0 = all of it.
    ``cap_hits``: requests that waited because all connections were open and busy. ``exhausted``: this machine had no
    file descriptor, port or memory for another connection. ``abandoned``: requests in flight at Ctrl-C, which have no
    row. ``start_ns``: the start of the load by perf_counter, which all processes of a machine share. ``connections``:
    opened in all. ``run_delay``: the share of the time in which the generator was ready and waited for a core; None
    where the kernel does not tell. ``resent``: TCP segments that were sent again on the connections open at the end.
    """

    columns: dict[str, NDArray[np.int64]]
    failures: dict[str, Failure]
    scheduled_ns: NDArray[np.int64]
    generator_cpu: float
    peak_in_flight: int
    cap_hits: int
    exhausted: bool
    interrupted: bool
    abandoned: int
    start_ns: int = 0
    connections: int = 0
    run_delay: float | None = None
    resent: int | None = None
