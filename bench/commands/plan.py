"""``bench plan``: instances, SageMaker's target value and cost, from a capacity and a peak."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import orjson

from .. import arguments
from ..errors import Unusable
from ..exits import OK
from ..experiments import capacity, sizing, sweep
from ..load import trace


def add(commands: arguments.Subparsers[argparse.ArgumentParser]) -> None:
    command = commands.add_parser("plan", help="instances, target-tracking value and cost for a peak")
    size = command.add_mutually_exclusive_group(required=True)
    size.add_argument("--capacity", type=arguments.positive, metavar="R", help="requests/s that one instance can serve")
    size.add_argument(
        "--slo", type=Path, metavar="slo.json", help="result of bench slo; the low end of its interval counts"
    )
    command.add_argument(
        "--peak", type=arguments.positive, required=True, metavar="R", help="requests/s in the busiest minute"
    )
    command.add_argument("--mean", type=arguments.positive, metavar="R", help="requests/s on average")
    command.add_argument(
        "--price", type=arguments.positive, required=True, metavar="P", help="price of an instance per hour"
    )
    command.add_argument(
        "--growth", type=arguments.percent, default=0.0, metavar="20%%", help="expected growth of the peak"
    )
    command.add_argument(
        "--rise",
        type=arguments.percent,
        default=0.1,
        metavar="10%%",
        help="rise of load per minute (default: 10%%)",
    )
    burst = command.add_mutually_exclusive_group()
    burst.add_argument("--burst", type=arguments.positive, metavar="B", help="busiest second over its minute's mean")
    burst.add_argument("--trace", type=Path, metavar="FILE", help="measure the burst of this trace")
    for name, default, words in (
        ("metric", 180.0, "until the alarm fires"),
        ("start", 240.0, "until a machine has started"),
        ("load", 30.0, "until the model has loaded"),
    ):
        words = f"seconds {words} (default: {default:g})"
        command.add_argument(f"--{name}-seconds", type=arguments.not_negative, default=default, metavar="S", help=words)
    command.add_argument("--spare", type=int, default=0, metavar="N", help="additional instances that may fail")
    command.add_argument("--policy", type=Path, metavar="FILE.json", help="write the scaling policy here")
    arguments.add_output(command)
    command.set_defaults(execute=run)


def run(asked: argparse.Namespace, _given: Sequence[str]) -> int:
    arguments.check_output(asked.output)
    burst = sizing.burst_of(trace.read(asked.trace).offsets_ns) if asked.trace is not None else asked.burst
    demand = sizing.Demand(
        asked.peak, asked.mean or asked.peak, asked.growth, asked.rise, burst or 1.0, burst_known=burst is not None
    )
    delays = sizing.Delays(asked.metric_seconds, asked.start_seconds, asked.load_seconds)
    per_instance = asked.capacity or _capacity(asked.slo)
    found = sizing.size(per_instance, demand, delays, asked.price, asked.spare)
    for path, what in ((asked.output, found), (asked.policy, found.policy)):
        if path is not None:
            sweep.write_json(path, what)
    if arguments.prints_json(asked):
        sys.stdout.write(sweep.to_json(found).decode())
    else:
        _show(found)
    return OK


def _capacity(path: Path) -> float:
    """The low end of the interval in a result of ``bench slo``, in requests/s. Raises Unusable."""
    try:
        result = orjson.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise Unusable(f"cannot read {str(path)!r}: {error}") from error
    found = (result.get("low_per_s") or result.get("rate_per_s")) if isinstance(result, dict) else None
    if not isinstance(found, int | float) or result.get("schema") != capacity.SCHEMA:
        raise Unusable(
            f"{str(path)!r} is not a result of bench slo with a rate: run bench slo again, or pass --capacity"
        )
    return float(found)


def _show(found: sizing.Sizing) -> None:
    print(f"instances   {found.instances} of {found.capacity_per_s:,.1f} requests/s each, {found.spare} of them spare")
    print(f"load each   {found.safety_factor:.0%} of its capacity, because {found.binds}")
    for name, bound in found.bounds.items():
        print(f"              {bound:4.0%}  {name}")
    print(f"target      {found.target_per_instance:,.0f} invocations per instance and minute (target tracking)")
    print(f"cost        {found.cost_per_million:,.2f} per million requests; {found.floor_per_million:,.2f} if full")
