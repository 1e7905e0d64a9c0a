"""Sizing: the instances for a peak, the target value of their autoscaling, and their cost."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import Unusable

SCHEMA = "slipway.bench.plan/1"


@dataclass(frozen=True, slots=True)
class Demand:
    """The demand on a service, in requests/s. ``peak_per_s``: mean of the busiest minute. ``mean_per_s``: for cost.

    ``growth``: expected growth of the peak (0.2: by a fifth). ``rise_per_minute``: fastest rise of load, as a share of
    the load one minute before. ``burst``: rate of the busiest second over the mean of its minute.
    ``burst_known``: False if ``burst`` was not measured.
    """

    peak_per_s: float
    mean_per_s: float
    growth: float = 0.0
    rise_per_minute: float = 0.1
    burst: float = 1.0
    burst_known: bool = True


@dataclass(frozen=True, slots=True)
class Delays:
    """The seconds from a rise of load to a new instance that serves.

    ``metric_s``: until the alarm fires. ``start_s``: until the machine has started. ``load_s``: until the model has
    loaded.
    """

    metric_s: float = 180.0
    start_s: float = 240.0
    load_s: float = 30.0

    @property
    def total_s(self) -> float:
        return self.metric_s + self.start_s + self.load_s


@dataclass(frozen=True, slots=True)
class Sizing:
    """The instances for a demand.

    ``safety_factor``: the highest allowed load of an instance, as a share of its capacity. ``bounds``: the upper bounds
    of that factor, by reason. ``binds``: the reason of the lowest bound. ``target_per_instance``: invocations per
    minute, the value for SageMaker's target tracking. ``cost_per_million``: cost of a million requests at the mean
    rate. ``floor_per_million``: the same if all instances always ran at their capacity.
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


def size(capacity_per_s: float, demand: Demand, delays: Delays, price_per_hour: float, spare: int = 0) -> Sizing:
    """The sizing for ``capacity_per_s``, the requests/s of one instance under the objective.

    Pass the lower end of the interval of the capacity. Two bounds limit the safety factor. Until a new instance serves,
    the present ones must serve the rising load: at most 1 / (1 + rise). The autoscaling metric is the mean over a
    minute, and instances must serve its busiest second: at most 1 / burst. Raises Unusable for rates that are not
    positive, and for a burst below 1.
    """
    if not (capacity_per_s > 0 and demand.peak_per_s > 0 and demand.mean_per_s > 0 and demand.burst >= 1):
        raise Unusable("capacity, peak and mean must be above 0, and burst at least 1: pass larger numbers")
    rise = (1 + demand.rise_per_minute) ** (delays.total_s / 60) - 1
    bounds = {
        f"load rises by {rise:.0%} in the {delays.total_s:.0f} s until a new instance serves": 1 / (1 + rise),
        _burst_in_words(demand): 1 / demand.burst,
    }
    binds = min(bounds, key=lambda reason: bounds[reason])
    factor = bounds[binds]
    needed = math.ceil(demand.peak_per_s * (1 + demand.growth) / (capacity_per_s * factor) - 1e-9)
    instances = needed + spare
    target = math.floor(capacity_per_s * factor * 60)
    return Sizing(
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


def _burst_in_words(demand: Demand) -> str:
    text = f"the busiest second has {demand.burst:.2f} times its minute's mean"
    return text if demand.burst_known else f"{text} (assumed, not measured: pass --trace or --burst)"


def policy(target_per_instance: float) -> dict[str, Any]:
    """The configuration for ``put-scaling-policy`` of Application Auto Scaling.

    Instances are added quickly and removed slowly: a surplus instance costs its price, a missing one the objective.
    """
    return {
        "TargetValue": target_per_instance,
        "PredefinedMetricSpecification": {"PredefinedMetricType": "SageMakerVariantInvocationsPerInstance"},
        "ScaleOutCooldown": 60,
        "ScaleInCooldown": 600,
        "DisableScaleIn": False,
    }


def burst_of(offsets_ns: NDArray[np.int64]) -> float:
    """The rate of the busiest second over the mean of its minute.

    It is the 99th percentile over all whole minutes with at least 60 requests.

    ``offsets_ns``: int64 [n], arrivals. Raises Unusable for a trace without such a minute.
    """
    seconds = np.bincount(offsets_ns // 1_000_000_000)
    minutes = seconds[: len(seconds) // 60 * 60].reshape(-1, 60)
    busy = minutes[minutes.sum(axis=1) >= 60]
    if not len(busy):
        raise Unusable("the trace has no whole minute with at least 60 requests: pass --burst instead")
    return float(np.quantile(busy.max(axis=1) / busy.mean(axis=1), 0.99))
