"""The configuration of a run: the target, the payload, the load, and what else is measured."""

from __future__ import annotations

from dataclasses import dataclass

from ..explain import stages
from ..load import arrivals, fleet
from ..load.payload_set import PayloadSet
from ..load.sagemaker import Endpoint
from ..load.server_timing import Carrier
from ..load.target import Target
from ..load.wire import PLAIN, Template
from ..result.objective import Objective

AUTO_WARMUP_S = 2.0
"""Seconds added to a run whose warm-up MSER-5 finds. The warm-up found may be longer or shorter."""


@dataclass(frozen=True, slots=True)
class RunConfig:
    """One load and its conditions.

    ``users``: the callers of a closed loop; None for an open loop. ``arrivals``: the arrival process of an open loop,
    at ``rate_per_s``; None for a process that defines its own rate. ``warmup_s``: None to find the end of the warm-up
    from the rows. ``calibrate``: measure the limits of the generator first. ``command``: the command line that repeats
    the run. ``repeats``: runs with the seeds ``seed``, ``seed`` + 1, and so on. ``endpoint``: the SageMaker endpoint at
    ``target``; None for a plain server. ``observe``: read the metrics of the server and the counters of its machine
    before, during and after the load; False for trials that need latency alone. ``link_mbit``: the nominal rate of the
    link; None for the rate that its interface reports. ``burst``: send a few requests at once after the load.
    ``spare``: the number of connections to open before a request needs them.
    """

    target: Target
    payload: PayloadSet
    rate_per_s: float | None
    users: int | None
    arrivals: str
    duration_s: float
    warmup_s: float | None
    seed: int
    timeout_s: float
    connections: int
    carrier: Carrier
    calibrate: bool
    command: str
    repeats: int = 1
    processes: int = 1
    engine: str = fleet.FAST
    template: Template = PLAIN
    endpoint: Endpoint | None = None
    objective: Objective | None = None
    observe: bool = True
    link_mbit: float | None = None
    burst: bool = False
    spare: int = 0

    @property
    def total_s(self) -> float:
        """Seconds of one repeat, warm-up included. Traces, steps and ramps have their own duration."""
        own_s = arrivals.parse(self.arrivals).duration_s if self.users is None else None
        return own_s or self.duration_s + (AUTO_WARMUP_S if self.warmup_s is None else self.warmup_s)

    @property
    def quantiles(self) -> tuple[float, ...]:
        """The quantiles that every record has, and that of the objective, ascending."""
        own = () if self.objective is None else (self.objective.quantile,)
        return tuple(sorted({*stages.QUANTILES, *own}))
