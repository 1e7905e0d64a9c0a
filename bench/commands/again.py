"""The configuration that repeats the load of a record, from the command line in the record."""

from __future__ import annotations

import argparse
import shlex
from dataclasses import replace

from .. import arguments
from ..errors import Unusable
from ..experiments.config import RunConfig
from ..load import payload_set
from ..result.record import RunRecord

PREFIX = ["python", "-m", "bench"]


def config(
    record: RunRecord, block_s: float, *, binary: bool = False, rows: int | None = None, warmup_s: float = 1.0
) -> RunConfig:
    """The configuration of one block of ``block_s`` measured seconds with the load of a record.

    ``binary``: send binary tensors instead of JSON. ``rows``: generate bodies of that many rows; None keeps the
    recorded bodies. Raises Unusable if the record's command cannot be repeated, or if its payload has changed.
    """
    argv = shlex.split(record.command)
    if argv[: len(PREFIX)] != PREFIX:
        raise Unusable("the record holds no bench command to repeat: measure again with bench run --output")
    args = _parse(argv[len(PREFIX) :])
    args.binary = args.binary or binary
    args.rate, args.users, args.preset = record.load.rate_per_s, record.load.users, None
    args.arrivals = record.load.arrivals
    if rows is not None:
        args.payload = [f"{payload_set.GENERATE}@{rows}"]
    args.objective, args.duration, args.warmup = None, block_s, warmup_s
    if not _takes_rate(record):
        args.rate = None
    run_config = arguments.run_config(args, argv)
    if not binary and rows is None and run_config.payload.sha256 != record.load.payload.sha256:
        raise Unusable("the payload has changed since the record was made: measure again")
    return replace(run_config, calibrate=False, observe=False, burst=False, repeats=1)


def _takes_rate(record: RunRecord) -> bool:
    """Whether the arrival process takes ``--rate``; steps, ramps and traces define their own rates."""
    return (record.load.arrivals or "").partition(":")[0] in ("poisson", "constant", "gamma", "mmpp")


def _parse(argv: list[str]) -> argparse.Namespace:
    from . import record, run  # imported here, because both import this module for --confirm

    parser = argparse.ArgumentParser(exit_on_error=False)
    commands = parser.add_subparsers()
    run.add(commands)
    record.add_replay(commands)
    try:
        return parser.parse_args(argv if argv[:1] in (["run"], ["replay"]) else ["run", *argv])
    except (argparse.ArgumentError, SystemExit) as error:
        raise Unusable(f"the command of the record cannot be repeated ({error}): measure again") from error
