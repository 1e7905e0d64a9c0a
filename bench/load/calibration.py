"""Calibration: the floor and the ceiling of the generator itself, against a server that does nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np

from ..errors import Unusable
from . import engine, fleet, target, wire
from .child_server import child_server
from .measurements import Outcome
from .payload import Payload
from .server_timing import CARRIERS, Carrier

USABLE_SHARE = 0.5
"""Above this share of the ceiling the generator's own queueing shows up as latency (measured: lag grows fast)."""

ONLY = np.zeros(1, dtype=np.uint16)


@dataclass(frozen=True, slots=True)
class Calibration:
    """``floor_us``: median latency of one caller, the least that any server can show here. ``ceiling_per_s``: the most
    requests per second that the generator can send and read while the echo server runs on the same machine.
    ``transfer_us``: how much longer its body of ``body_bytes`` took to be answered than an empty one, on this machine
    and without a network."""

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
    """Load the echo server with this payload: a fifth of the time with one caller, the rest with 32 per process; and a
    tenth more with one caller and an empty body.

    The echo server is one process: where it is slower than all generators together, the ceiling is its own.

    Raises Unusable when the echo server does not start.
    """
    with echo_server() as url:
        place = target.parse(url)
        users = 32 * processes

        def shot_of(body: Payload) -> engine.Shot:
            return engine.Shot(place, (wire.render(place, body, carrier),), ONLY, carrier, 5.0, users)

        shot = shot_of(payload)
        empty = fleet.run(shot_of(replace(payload, body=b"")), fleet.Callers(1, seconds * 0.1), 1, None, engine_name)
        floor = fleet.run(shot, fleet.Callers(1, seconds * 0.2), 1, engine_name=engine_name)
        ceiling = fleet.run(shot, fleet.Callers(users, seconds * 0.8), processes, engine_name=engine_name)
    if empty.interrupted or floor.interrupted or ceiling.interrupted:
        raise KeyboardInterrupt  # the engine takes Ctrl-C for a wish to see what there is; here there is nothing yet
    floor_us = _median_us(floor)
    extra_us = max(floor_us - _median_us(empty), 0.0)
    return Calibration(floor_us, _rate_per_s(ceiling), len(payload.body), extra_us)


@contextmanager
def echo_server() -> Iterator[str]:
    """The URL of an echo server, gone when the block ends. Raises Unusable when it does not start."""
    with child_server("bench.load.echo_server") as address:
        yield f"{address}/invocations"


def _median_us(run: engine.RawRun) -> float:
    latency_ns = (run.columns["last_byte_ns"] - run.columns["due_ns"])[run.columns["outcome"] == Outcome.OK]
    if not len(latency_ns):
        raise Unusable("the echo server answered nothing: is 127.0.0.1 blocked here?")
    return float(np.median(latency_ns)) / 1e3


def _rate_per_s(run: engine.RawRun) -> float:
    ended_ns = run.columns["last_byte_ns"][run.columns["outcome"] == Outcome.OK]
    span_ns = int(ended_ns.max() - ended_ns.min()) if len(ended_ns) else 0
    return (len(ended_ns) - 1) / (span_ns / 1e9) if span_ns else 0.0
