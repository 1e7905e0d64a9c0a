"""The plan: how many instances a peak needs, when to add one, and what it costs."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import Unusable

SCHEMA = "slipway.bench.plan/1"
AWS_START = 0.5
"""What AWS advises to begin with where nothing has been measured."""


@dataclass(frozen=True, slots=True)
class Demand:
    """What the service must bear. ``peak_per_s``: the busiest minute's mean rate; ``mean_per_s``: over the whole bill.

    ``growth``: how much larger the peak will be (0.2: by a fifth). ``rise_per_minute``: how fast load rises at worst,
    as a share of what it was a minute ago. ``burst``: the busiest second over its minute's mean.
    """

    peak_per_s: float
    mean_per_s: float
    growth: float = 0.0
    rise_per_minute: float = 0.1
    burst: float = 1.0


@dataclass(frozen=True, slots=True)
class Delays:
    """What passes between a rise of load and an instance that answers, in seconds: until the alarm fires, until the
    machine has started, until the model has loaded."""

    metric_s: float = 180.0
    start_s: float = 240.0
    load_s: float = 30.0

    @property
    def total_s(self) -> float:
        return self.metric_s + self.start_s + self.load_s


@dataclass(frozen=True, slots=True)
class CapacityPlan:
    """``safety_factor``: the share of an instance's capacity that it should carry, and ``binds``: what decided it.

    ``bounds``: every candidate for it. ``target_per_instance``: invocations a minute, which is what SageMaker's target
    tracking wants. ``cost_per_million``: at the mean rate, and ``floor_per_million`` if instances were always full.
    """

    capacity_per_s: float
    bounds: dict[str, float]
    safety_factor: float
    binds: str
    instances: int
    spare: int
    target_per_instance: float
    price_per_hour: float
    cost_per_million: float
    floor_per_million: float
    policy: dict[str, Any]
    schema: str = field(default=SCHEMA)


def make(capacity_per_s: float, demand: Demand, delays: Delays, price_per_hour: float, spare: int = 0) -> CapacityPlan:
    """The plan for a capacity under the objective: use the lower end of its interval.

    While a new instance is on its way, load goes on rising, and those that are there must bear it: the factor is at
    most 1 / (1 + rise). The metric is a minute's mean, and the busiest second of a minute must be borne too: at most
    1 / burst. Raises Unusable for numbers that make no plan.
    """
    if not (capacity_per_s > 0 and demand.peak_per_s > 0 and demand.mean_per_s > 0 and demand.burst >= 1):
        raise Unusable("capacity, peak and mean must be positive, and a burst is at least 1")
    rise = (1 + demand.rise_per_minute) ** (delays.total_s / 60) - 1
    bounds = {
        f"load rises by {rise:.0%} in the {delays.total_s:.0f} s until a new instance answers": 1 / (1 + rise),
        f"the busiest second has {demand.burst:.2f} times its minute's mean": 1 / demand.burst,
    }
    binds = min(bounds, key=lambda name: bounds[name])
    factor = bounds[binds]
    needed = math.ceil(demand.peak_per_s * (1 + demand.growth) / (capacity_per_s * factor) - 1e-9)
    instances = needed + spare
    target = math.floor(capacity_per_s * factor * 60)
    return CapacityPlan(
        capacity_per_s=capacity_per_s,
        bounds=bounds,
        safety_factor=factor,
        binds=binds,
        instances=instances,
        spare=spare,
        target_per_instance=target,
        price_per_hour=price_per_hour,
        cost_per_million=price_per_hour * instances / (demand.mean_per_s * 3600) * 1e6,
        floor_per_million=price_per_hour / (capacity_per_s * 3600) * 1e6,
        policy=policy(target),
    )


def policy(target_per_instance: float) -> dict[str, Any]:
    """The configuration that Application Auto Scaling's ``put-scaling-policy`` takes.

    In quickly, out slowly: an instance too many costs its price, one too few costs the objective.
    """
    return {
        "TargetValue": target_per_instance,
        "PredefinedMetricSpecification": {"PredefinedMetricType": "SageMakerVariantInvocationsPerInstance"},
        "ScaleOutCooldown": 60,
        "ScaleInCooldown": 600,
        "DisableScaleIn": False,
    }


def burst_of(offsets_ns: NDArray[np.int64]) -> float:
    """The busiest second over its minute's mean, at the 99th percentile of minutes; of whole minutes with 60 requests.

    Raises Unusable for a trace without such a minute.
    """
    seconds = np.bincount(offsets_ns // 1_000_000_000)
    minutes = seconds[: len(seconds) // 60 * 60].reshape(-1, 60)
    busy = minutes[minutes.sum(axis=1) >= 60]
    if not len(busy):
        raise Unusable("the trace has no whole minute with at least 60 requests: give --burst instead")
    return float(np.quantile(busy.max(axis=1) / busy.mean(axis=1), 0.99))
