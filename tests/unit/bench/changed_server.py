"""A server, and a machine, that are faster while something is changed, for the experiments of a confirmation."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from bench.experiments import amounts, confirm
from bench.experiments.amounts import Amount
from bench.experiments.config import RunConfig
from bench.experiments.confirm import Bodies, Trial
from bench.experiments.slowdown import Slower
from bench.explain.interventions import Subject
from bench.explain.verdict import LIKELY, Cause, Gain, Verdict
from bench.load import payload_set
from bench.load.measurements import COLUMNS
from bench.load.payload import Payload
from bench.load.server_timing import MISSING
from bench.observe import held as machine
from bench.result.record import RunRecord
from bench.result.repeats import Columns
from tests.unit.bench.planted_record import CONFIG

SUBJECT = Subject(
    450.0, rows=4, binary=False, payloads=2, timer_us=3_000, slows=True, p99_ms=40.0, p50_ms=20.0,
    stages_us={"decode": 100.0, "compute": 18_000.0, "encode": 100.0}, answered_per_s=450.0,
)  # fmt: skip
BINARY = payload_set.single(Payload("binary", "application/octet-stream", b"1"))
TRIAL = Trial(CONFIG, SUBJECT, Bodies(lambda: BINARY), None)


def cause(name: str, low: float = 15.0, high: float = 25.0) -> Cause:
    return Cause(name, LIKELY, ("because",), "do", Gain(low, high), "prove")


class Server:
    """A server that is faster while something is changed; it notes what was injected and ended."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, fast: str) -> None:
        self.now: Slower | None = None
        self.log: list[str] = []
        self.fast = fast
        monkeypatch.setattr(confirm, "slowed", self.slowed)

    @contextlib.contextmanager
    def slowed(self, _target: object, what: Slower, _seconds: float) -> Iterator[None]:
        self.now = what
        self.log.append(f"{what.stage} {what.extra_us}")
        try:
            yield
        finally:
            self.now = None
            self.log.append("put back")

    def run(self, config: RunConfig, _watch: object) -> tuple[RunRecord, Any]:
        if self.fast in SUBJECT.stages_us and self.now is not None and self.now.stage == self.fast:
            return block(20.0 + self.now.extra_us / 1e3), rows(**{self.fast: self.now.extra_us})
        what = {
            "timer": self.now is not None,
            "binary": config.payload is BINARY,
            "rate": (config.rate_per_s or 0.0) < (CONFIG.rate_per_s or 0.0),
        }
        ms = 20.0 * (0.5 if what.get(self.fast) else 1.0) * (1 + config.seed / 100)
        return block(ms), rows()


def rows(**more_us: float) -> Columns:
    """The raw rows of a block. ``more_us``: what stages took more than usual."""
    took_us = {name: us + more_us.get(name, 0.0) for name, us in SUBJECT.stages_us.items()}
    named = {f"{name}_ns": np.array([MISSING, us * 1e3]) for name, us in took_us.items()}
    named |= {"index": np.arange(2), "picked_ns": np.zeros(2), "send_ns": np.zeros(2)}
    assert set(named) <= set(COLUMNS)
    return named


def block(ms: float, late: str = "", names: tuple[str, ...] = ("p50", "p90", "p99")) -> Any:
    """The record of a block. ``late``: why the generator spoiled its percentiles, but ``names``."""
    values = {name: SimpleNamespace(value_ms=ms) for name in ("p50", "p90", "p95", "p99")}
    trusted = {name: one for name, one in values.items() if not late or name in names}
    return SimpleNamespace(
        partial=False,
        client=None,
        latency=SimpleNamespace(corrected=trusted or None, untrusted=values),
        validity=SimpleNamespace(reasons=(late,) if late else (), generator_bound=bool(late)),
    )


class Machine:
    """A machine on which something is held, and what the server waits for in each block without it and with it.

    ``log``: what was held, and whether for the load generator itself, which is no change of the server.
    """

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, server: Server, waits: tuple[float | None, float | None] = (8.0, 1.0)
    ) -> None:
        self.log: list[tuple[str, bool]] = []
        self.of_generator = False
        self._server, self._waits = server, waits
        monkeypatch.setattr(machine, "held", self.held)
        monkeypatch.setattr(amounts, "of_hold", self.amount)
        monkeypatch.setattr(amounts, "of_generator", self.amount)

    @contextlib.contextmanager
    def held(self, what: str, pids: tuple[int, ...], alone: bool) -> Iterator[None]:
        own = pids == (os.getpid(),)
        assert own or pids == (7,)
        assert alone == own, "no other program is raised with the generator"
        self.log.append((what, own))
        is_change = self.of_generator or not own
        with self._server.slowed(None, Slower(what, 0), 1.0) if is_change else contextlib.nullcontext():
            yield

    def amount(self, *_arguments: object) -> Amount:
        return Amount(
            "it waited as before", lambda: lambda _record, _columns: self._waits[self._server.now is not None]
        )


def outcome(server: Server, *names: str, trial: Trial = TRIAL) -> Verdict:
    said: list[str] = []
    found = confirm.confirm(
        Verdict(tuple(cause(name) for name in names)), trial, lambda: None, said.append, run=server.run
    )
    assert said
    return found
