"""``bench plan``: number of instances, target-tracking value and cost, from a capacity and a peak rate."""

from __future__ import annotations

import argparse
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
    for name, default, description in (
        ("metric", 180.0, "until the alarm fires"),
        ("start", 240.0, "until a machine has started"),
        ("load", 30.0, "until the model has loaded"),
    ):
        description = f"seconds {description} (default: {default:g})"
        command.add_argument(
            f"--{name}-seconds", type=arguments.not_negative, default=default, metavar="S", help=description
        )
    command.add_argument("--spare", type=int, default=0, metavar="N", help="additional instances that may fail")
    command.add_argument("--policy", type=Path, metavar="FILE.json", help="write the scaling policy here")
    arguments.add_output(command)
    command.set_defaults(execute=run)


def run(args: argparse.Namespace, _argv: Sequence[str]) -> int:
    arguments.check_output(args.output)
    burst = sizing.burst_of(trace.read(args.trace).offsets_ns) if args.trace is not None else args.burst
    demand = sizing.Demand(
        args.peak, args.mean or args.peak, args.growth, args.rise, burst or 1.0, burst_known=burst is not None
    )
    delays = sizing.Delays(args.metric_seconds, args.start_seconds, args.load_seconds)
    capacity_per_s = args.capacity or _read_capacity(args.slo)
    result = sizing.size(capacity_per_s, demand, delays, args.price, args.spare)
    if args.policy is not None:
        sweep.write_json(args.policy, result.policy)
    arguments.give(args, result, lambda: _show(result))
    return OK


def _read_capacity(path: Path) -> float:
    """The low end of the interval in a result of ``bench slo``, in requests/s. Raises Unusable."""
    try:
        result = orjson.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise Unusable(f"cannot read {str(path)!r}: {error}") from error
    capacity_per_s = (result.get("low_per_s") or result.get("rate_per_s")) if isinstance(result, dict) else None
    if not isinstance(capacity_per_s, int | float) or result.get("schema") != capacity.SCHEMA:
        raise Unusable(
            f"{str(path)!r} is not a result of bench slo with a rate: run bench slo again, or pass --capacity"
        )
    return float(capacity_per_s)


def _show(result: sizing.Sizing) -> None:
    print(
        f"instances   {result.instances} of {result.capacity_per_s:,.1f} requests/s each, {result.spare} of them spare"
    )
    print(f"load each   {result.safety_factor:.0%} of its capacity, because {result.binds}")
    for reason, bound in result.bounds.items():
        print(f"              {bound:4.0%}  {reason}")
    print(f"target      {result.target_per_instance:,.0f} invocations per instance and minute (target tracking)")
    print(f"cost        {result.cost_per_million:,.2f} per million requests; {result.floor_per_million:,.2f} if full")
