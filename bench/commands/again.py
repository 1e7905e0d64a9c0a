"""The load of a record once more: its configuration, from the command line that the record holds."""

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
    found: RunRecord, block_s: float, *, binary: bool = False, rows: int | None = None, warmup_s: float = 1.0
) -> RunConfig:
    """The configuration of a block of ``block_s`` seconds with the load of a record.

    ``binary``: with binary bodies instead, and ``rows``: of as many rows, if they are generated. Raises Unusable if the
    record's command cannot be repeated, or if its payload has changed.
    """
    given = shlex.split(found.command)
    if given[: len(PREFIX)] != PREFIX:
        raise Unusable("the record does not hold a command of bench that can be repeated")
    asked = _parsed(given[len(PREFIX) :])
    asked.binary = asked.binary or binary
    asked.rate, asked.users, asked.preset = found.load.rate_per_s, found.load.users, None
    asked.arrivals = found.load.arrivals
    if rows is not None:
        asked.payload = [f"{payload_set.GENERATE}@{rows}"]
    asked.objective, asked.duration, asked.warmup = None, block_s, warmup_s
    if not _has_rate(found):
        asked.rate = None
    made = arguments.run_config(asked, given)
    if not binary and rows is None and made.payload.sha256 != found.load.payload.sha256:
        raise Unusable("the payload is not that of the record any more: measure again")
    return replace(made, calibrate=False, observe=False, burst=False, repeats=1)


def _has_rate(found: RunRecord) -> bool:
    """Whether arrivals take a rate; steps, ramps and traces have their own."""
    return (found.load.arrivals or "").partition(":")[0] in ("poisson", "constant", "gamma", "mmpp")


def _parsed(given: list[str]) -> argparse.Namespace:
    from . import record, run  # which offer --confirm, and so import this module

    parser = argparse.ArgumentParser(exit_on_error=False)
    commands = parser.add_subparsers()
    run.add(commands)
    record.add_replay(commands)
    try:
        return parser.parse_args(given if given[:1] in (["run"], ["replay"]) else ["run", *given])
    except (argparse.ArgumentError, SystemExit) as error:
        raise Unusable(f"the command of the record cannot be repeated: {error}") from error
