"""Calibration: the least latency and the highest rate of the generator itself, against an echo server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np

from ..errors import Unusable
from . import fleet, target, wire
from .callers import Callers
from .child_server import child_server
from .measurements import Outcome
from .payload import Payload
from .raw_run import RawRun
from .server_timing import CARRIERS, Carrier
from .shot import Shot

USABLE_SHARE = 0.5
"""The share of the ceiling above which the generator's own queueing shows up as latency (measured)."""

IDLE, LEAST_CPU = 0.3, 0.01
"""Shares of a core that a generator uses which is not the limit of a load, and the least that is told from none."""

ONLY = np.zeros(1, dtype=np.uint16)
"""The choices of a load with one payload."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """``floor_us``: median latency of one caller, the least that the generator can measure of any server.

    ``ceiling_per_s``: the highest rate that the generator reaches while the echo server runs on the same machine.
    ``transfer_us``: the latency that a body of ``body_bytes`` adds to an empty one, without a network.
    """

    floor_us: float
    ceiling_per_s: float
    body_bytes: int = 0
    transfer_us: float | None = None

    @property
    def usable_rate_per_s(self) -> float:
        return USABLE_SHARE * self.ceiling_per_s


def calibrate(
    payload: Payload,
    carrier: Carrier = CARRIERS["header"],
    seconds: float = 1.0,
    processes: int = 1,
    engine_name: str = fleet.FAST,
) -> Calibration:
    """Load the echo server with this payload for ``seconds``: a fifth of them with one caller, the rest with 32 per
    process. A tenth of ``seconds`` before that goes to one caller with an empty body.

    The echo server is one process. Where it is slower than all generators together, the ceiling is its own.

    Raises Unusable when the echo server does not start or does not answer, and KeyboardInterrupt on Ctrl-C.
    """
    with echo_server() as url:
        parsed = target.parse(url)
        users = 32 * processes

        def shot_of(body: Payload) -> Shot:
            return Shot(parsed, (wire.render(parsed, body, carrier),), ONLY, carrier, 5.0, users)

        shot = shot_of(payload)
        empty = fleet.run(shot_of(replace(payload, body=b"")), Callers(1, seconds * 0.1), 1, None, engine_name)
        floor = fleet.run(shot, Callers(1, seconds * 0.2), 1, engine_name=engine_name)
        ceiling = fleet.run(shot, Callers(users, seconds * 0.8), processes, engine_name=engine_name)
    if empty.interrupted or floor.interrupted or ceiling.interrupted:
        raise KeyboardInterrupt  # the engine returns normally on Ctrl-C, and part of a calibration is of no use
    floor_us = _median_us(floor)
    extra_us = max(floor_us - _median_us(empty), 0.0)
    # One caller alone can reach more than many do in so short a time, where a body takes a large part of it.
    reached = max(_rate_per_s(ceiling), 1e6 / floor_us)
    # A generator that was idle waited for a slow network, which is no limit of its own.
    if ceiling.generator_cpu < IDLE:
        reached /= max(ceiling.generator_cpu, LEAST_CPU) / IDLE
    return Calibration(floor_us, reached, len(payload.body), extra_us)


@contextmanager
def echo_server() -> Iterator[str]:
    """The URL of an echo server that runs until the block ends. Raises Unusable when it does not start."""
    with child_server("bench.load.echo_server") as address:
        yield f"{address}/invocations"


def _median_us(run: RawRun) -> float:
    latency_ns = (run.columns["last_byte_ns"] - run.columns["due_ns"])[run.columns["outcome"] == Outcome.OK]
    if not len(latency_ns):
        raise Unusable("the echo server did not answer: allow connections to 127.0.0.1")
    return float(np.median(latency_ns)) / 1e3


def _rate_per_s(run: RawRun) -> float:
    ended_ns = run.columns["last_byte_ns"][run.columns["outcome"] == Outcome.OK]
    span_ns = int(ended_ns.max() - ended_ns.min()) if len(ended_ns) else 0
    return (len(ended_ns) - 1) / (span_ns / 1e9) if span_ns else 0.0
