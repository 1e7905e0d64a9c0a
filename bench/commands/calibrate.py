"""``bench calibrate``: the latency floor and the highest rate of the load generator on this machine."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from .. import arguments
from ..exits import OK
from ..load import calibration, payload

SMALL = payload.Payload("64 zeros", payload.JSON, b"[" + b"0," * 63 + b"0]")


def add(commands: arguments.Subparsers[argparse.ArgumentParser]) -> None:
    command = commands.add_parser("calibrate", help="measure the limits of the load generator on this machine")
    command.add_argument("--payload", type=Path, metavar="FILE", help="request body (default: a small JSON array)")
    command.add_argument("--seconds", type=arguments.positive, default=3.0, help="how long (default: %(default)s)")
    command.add_argument(
        "--processes", type=arguments.count, default=1, help="generator processes (default: %(default)s)"
    )
    command.set_defaults(execute=run)


def run(args: argparse.Namespace, _argv: Sequence[str]) -> int:
    body = payload.read(args.payload) if args.payload else SMALL
    limits = calibration.calibrate(body, seconds=args.seconds, processes=args.processes)
    callers = f"{32 * args.processes} callers"
    print(
        f"floor     {limits.floor_us:,.0f} us   median latency of one caller: the lowest latency that can be measured"
    )
    print(f"ceiling   {limits.ceiling_per_s:,.0f}/s   {callers}, the echo server on the same machine")
    print(f"usable    {limits.usable_rate_per_s:,.0f}/s   half of the ceiling: above it the generator queues requests")
    return OK
