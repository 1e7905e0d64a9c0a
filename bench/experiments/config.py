"""The configuration of a run: the target, the payload, the load, and what is measured beside it."""

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
"""Seconds added for a warm-up that MSER-5 cuts from the rows. The cut may be longer or shorter."""


@dataclass(frozen=True, slots=True)
class RunConfig:
    """One load and its conditions.

    ``users``: set for a closed loop. Otherwise ``arrivals`` come at ``rate_per_s``, or at their own rate (None).
    ``warmup_s``: None for a cut from the rows. ``calibrate``: measure the limits of the generator first. ``command``:
    the command line that repeats the run. ``repeats``: each takes the next seed, from ``seed`` on. ``endpoint``: the
    SageMaker endpoint with the address ``target``. ``observe``: ask the server and its machine for their own figures
    before, beside and after the load; trials of a search, which need latency alone, leave it out. ``link_mbit``: the
    nominal rate of the link; None for the rate that its interface reports. ``burst``: probe the server with a few
    requests at once after the load. ``spare``: connections that are opened before a request needs them.
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
        """Seconds of one repeat with its warm-up. Arrivals with a duration of their own keep it."""
        own_s = arrivals.parse(self.arrivals).duration_s if self.users is None else None
        return own_s or self.duration_s + (AUTO_WARMUP_S if self.warmup_s is None else self.warmup_s)

    @property
    def quantiles(self) -> tuple[float, ...]:
        """The quantiles of every record, and that of the objective."""
        own = () if self.objective is None else (self.objective.quantile,)
        return tuple(sorted({*stages.QUANTILES, *own}))
