"""Confirmation: what is loaded and changed, what comes of a verdict, and that everything is put back."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from bench.errors import Unusable
from bench.experiments import confirm
from bench.experiments.config import RunConfig
from bench.experiments.confirm import Bodies, Trial
from bench.experiments.slowdown import Slower
from bench.explain.interventions import Subject
from bench.explain.verdict import LIKELY, NONE, PROVEN, Cause, Gain, Verdict
from bench.load import payload_set
from bench.load.payload import Payload
from bench.result.record import RunRecord
from tests.unit.bench.planted_record import CONFIG

SUBJECT = Subject(450.0, rows=4, binary=False, payloads=2, timer_us=3_000, run_us=None, slows=True, p99_ms=40.0)
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

    def run(self, config: RunConfig, _watch: object) -> tuple[RunRecord, object]:
        what = {
            "timer": self.now is not None,
            "binary": config.payload is BINARY,
            "rate": (config.rate_per_s or 0.0) < (CONFIG.rate_per_s or 0.0),
        }
        ms = 20.0 * (0.5 if what.get(self.fast) else 1.0) * (1 + config.seed / 100)
        return block(ms), None


def block(ms: float) -> Any:
    values = {name: SimpleNamespace(value_ms=ms) for name in ("p50", "p90", "p99")}
    return SimpleNamespace(partial=False, latency=SimpleNamespace(corrected=values), window=SimpleNamespace(requests=9))


def outcome(server: Server, *names: str, trial: Trial = TRIAL) -> Verdict:
    said: list[str] = []
    found = confirm.confirm(
        Verdict(tuple(cause(name) for name in names)), trial, lambda: None, said.append, run=server.run
    )
    assert said
    return found


@pytest.mark.parametrize(("name", "fast"), [("batch_timer", "timer"), ("codec", "binary"), ("capacity", "rate")])
def test_a_true_cause_is_proven(monkeypatch: pytest.MonkeyPatch, name: str, fast: str) -> None:
    server = Server(monkeypatch, fast)
    (found,) = outcome(server, name).causes
    assert (found.name, found.confidence) == (name, PROVEN)
    assert "was forecast, and the placebo gave" in found.evidence[-1]


def test_a_false_cause_is_ruled_out_and_the_next_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(monkeypatch, "binary")
    found = outcome(server, "batch_timer", "neighbour", "codec")
    assert [(one.name, one.confidence) for one in found.causes] == [("codec", PROVEN), ("neighbour", LIKELY)]
    assert found.ruled_out == ("batch_timer",)
    assert found.tried == ("batch_timer", "codec")
    assert server.log == ["queue_timer -3000", "put back"] * confirm.ROUNDS
    assert server.now is None


def test_where_every_cause_is_ruled_out_none_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    found = outcome(Server(monkeypatch, "nothing"), "batch_timer")
    assert [one.name for one in found.causes] == [NONE]
    assert found.ruled_out == ("batch_timer",)


def test_a_failed_experiment_leaves_the_cause_as_likely_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    trial = replace(TRIAL, bodies=Bodies())
    (found,) = outcome(Server(monkeypatch, "binary"), "codec", trial=trial).causes
    assert found.confidence == LIKELY
    assert "the experiment failed" in found.evidence[-1]


def test_everything_is_put_back_when_the_user_interrupts(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(monkeypatch, "timer")

    def run(config: RunConfig, watch: object) -> tuple[RunRecord, object]:
        if server.now is not None:
            raise KeyboardInterrupt
        return server.run(config, watch)

    with pytest.raises(KeyboardInterrupt):
        confirm.confirm(Verdict((cause("batch_timer"),)), TRIAL, lambda: None, lambda _text: None, run=run)
    assert server.log == ["queue_timer -3000", "put back"]


def test_the_highest_percentile_that_blocks_have_requests_for_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = replace(TRIAL, config=replace(CONFIG, rate_per_s=30.0))
    server = Server(monkeypatch, "binary")
    (found,) = outcome(server, "codec", trial=slow).causes
    assert found.evidence[-1].startswith("p90 became")


def test_a_slowdown_that_the_server_refuses_is_an_error_of_the_experiment(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(monkeypatch, "timer")

    @contextlib.contextmanager
    def refused(*_args: object) -> Iterator[None]:
        raise Unusable("403")
        yield

    monkeypatch.setattr(confirm, "slowed", refused)
    (found,) = outcome(server, "batch_timer").causes
    assert "the experiment failed: 403" in found.evidence[-1]
