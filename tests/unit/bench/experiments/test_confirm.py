"""Confirmation: what is loaded and changed, what comes of a verdict, and that everything is put back."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from bench.errors import Unusable
from bench.experiments import alternation, confirm, copies
from bench.experiments.config import RunConfig
from bench.experiments.confirm import Bodies, Trial
from bench.explain import interventions
from bench.explain.verdict import LIKELY, NAMES, NONE, PROVEN, UNDECIDED, Verdict
from bench.load import burst, payload_set
from bench.load.payload import Payload
from bench.load.server_timing import MISSING
from bench.observe import held as machine
from bench.result.record import RunRecord
from tests.unit.bench.changed_server import BINARY, SUBJECT, TRIAL, Machine, Server, block, cause, outcome, rows
from tests.unit.bench.planted_record import CONFIG


@pytest.mark.parametrize(("name", "fast"), [("batch_timer", "timer"), ("codec", "binary"), ("capacity", "rate")])
def test_a_true_cause_is_proven(monkeypatch: pytest.MonkeyPatch, name: str, fast: str) -> None:
    server = Server(monkeypatch, fast)
    (found,) = outcome(server, name).causes
    assert (found.name, found.confidence) == (name, PROVEN)
    assert "was forecast, and the placebo gave" in found.evidence[-1]


def test_a_stage_that_decides_is_proven_by_more_time_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(monkeypatch, "compute")
    (found,) = outcome(server, "hardware").causes
    assert (found.name, found.confidence) == ("hardware", PROVEN)
    assert server.log[:4] == ["compute 9000", "put back", "decode 50", "put back"]


@pytest.mark.parametrize(("ms_a_byte", "confidence"), [(15.0 / 40, PROVEN), (0.0, None)])
def test_bytes_that_are_no_work_for_the_server_tell_a_narrow_link(ms_a_byte: float, confidence: str | None) -> None:
    """``ms_a_byte``: on the way. The body has 40 bytes, and each block one caller."""
    body = Payload("numbers.json", "application/json", b'{"values": [1.25]}'.ljust(40))
    config = replace(CONFIG, payload=payload_set.single(body))

    def run(config: RunConfig, _watch: object) -> tuple[RunRecord, Any]:
        (sent,) = config.payload.payloads
        assert json.loads(sent.body) == {"values": [1.25]}
        assert config.users == 1
        return block((5.0 + ms_a_byte * len(sent.body)) * (1 + config.seed / 100)), rows()

    subject = replace(SUBJECT, rows=0, alone_ms=20.0, upload_ms=15.0)
    found = confirm.confirm(
        Verdict((cause("bandwidth"),)), Trial(config, subject, Bodies(), None), lambda: None, print, run=run
    )
    assert [one.confidence for one in found.causes if one.name == "bandwidth"] == ([confidence] if confidence else [])
    assert ("bandwidth" in found.ruled_out) == (confidence is None)


@pytest.mark.parametrize(("other", "proven"), [("threads", False), ("model_size", False), ("connections", True)])
def test_what_another_likely_cause_would_change_as_well_proves_nothing(
    monkeypatch: pytest.MonkeyPatch, other: str, proven: bool
) -> None:
    """Runs that are long for their threads are longer still with more time in them."""
    found = outcome(Server(monkeypatch, "compute"), other, "hardware")
    assert {one.name: one.confidence for one in found.causes} == {
        other: LIKELY,
        "hardware": PROVEN if proven else LIKELY,
    }


def test_a_cause_that_was_ruled_out_hides_no_other_one(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(monkeypatch, "compute")
    Machine(monkeypatch, server)
    trial = replace(TRIAL, subject=replace(SUBJECT, ahead=True), pids=(7,))
    found = outcome(server, "neighbour", "hardware", trial=trial)
    assert found.ruled_out == ("neighbour",)
    assert [(one.name, one.confidence) for one in found.causes] == [("hardware", PROVEN)]


def test_a_stage_that_the_server_did_not_slow_down_rules_nothing_out(monkeypatch: pytest.MonkeyPatch) -> None:
    found = outcome(Server(monkeypatch, "nothing"), "hardware")
    assert (found.causes[0].name, found.causes[0].confidence) == ("hardware", LIKELY)
    assert "it took no longer than before" in found.causes[0].evidence[-1]


def test_a_false_cause_is_ruled_out_and_the_next_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(monkeypatch, "binary")
    found = outcome(server, "batch_timer", "neighbour", "codec")
    assert [(one.name, one.confidence) for one in found.causes] == [("codec", PROVEN), ("neighbour", LIKELY)]
    assert found.ruled_out == ("batch_timer",)
    assert found.tried == ("batch_timer", "codec")
    assert server.log == ["queue_timer -3000", "put back"] * alternation.PAIRS
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


ABLE = replace(
    SUBJECT, ahead=True, unquota=True, copies=True, cores=2, threads=8, collects=True, churns=True, own_ahead=True,
    single_load=0.2,
)  # fmt: skip
TESTABLE = [name for name in NAMES if interventions.experiment(name, ABLE) is not None]


class Interrupted:
    """Everything that an experiment changes, and a request or a block in which something happens."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, at: int, what: BaseException) -> None:
        self.changed: list[str] = []
        self.seen: set[str] = set()
        self._calls, self._at, self._what = 0, at, what
        monkeypatch.setattr(confirm, "slowed", lambda _place, what, _seconds: self.holds(what.stage))
        monkeypatch.setattr(machine, "held", lambda what, _pids, alone: self.holds(what))
        monkeypatch.setattr(copies, "copied", lambda place, _pids, _flags: self.holds("copy", place))
        monkeypatch.setattr(burst, "one_by_one", lambda *_arguments: [self.call()] * 3)

    @contextlib.contextmanager
    def holds(self, name: str, value: object = None) -> Iterator[Any]:
        self.changed.append(name)
        self.seen.add(name)
        try:
            yield value
        finally:
            self.changed.remove(name)

    def call(self) -> float:
        self._calls += 1
        if self._calls > self._at:
            raise self._what
        return 20.0

    def run(self, config: RunConfig, _watch: object) -> tuple[RunRecord, Any]:
        if replace(config, seed=CONFIG.seed, duration_s=CONFIG.duration_s) != CONFIG:
            self.seen.add("load")
        return block(self.call()), rows(**dict.fromkeys(SUBJECT.stages_us, 1e6))


def test_all_that_can_be_tested_is_tried_below() -> None:
    assert set(TESTABLE) == set(NAMES) - {"network_latency", "other_traffic", "model_size", NONE}


@pytest.mark.parametrize("what", [KeyboardInterrupt(), MemoryError(), Unusable("gone"), ConnectionResetError("gone")])
@pytest.mark.parametrize("at", [0, 1, 2, 4])
@pytest.mark.parametrize("name", TESTABLE)
def test_everything_is_put_back_whatever_happens(
    monkeypatch: pytest.MonkeyPatch, name: str, at: int, what: BaseException
) -> None:
    world = Interrupted(monkeypatch, at, what)
    trial = Trial(CONFIG, ABLE, Bodies(lambda: BINARY, lambda: BINARY), None, (7,))
    given = Verdict((cause(name),))
    if isinstance(what, Unusable | OSError):
        (found,) = confirm.confirm(given, trial, lambda: None, lambda _text: None, run=world.run).causes
        assert (found.name, found.confidence) == (name, LIKELY)
        assert found.evidence[-1] == "the experiment failed: gone"
    else:
        with pytest.raises(type(what)):
            confirm.confirm(given, trial, lambda: None, lambda _text: None, run=world.run)
    assert world.changed == []
    assert at < 2 or world.seen


def test_the_highest_percentile_that_blocks_have_requests_for_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = replace(TRIAL, config=replace(CONFIG, rate_per_s=30.0))
    (found,) = outcome(Server(monkeypatch, "rate"), "capacity", trial=slow).causes
    assert found.evidence[-1].startswith("p50 became"), "half the rate is too little for p90"
    (found,) = outcome(Server(monkeypatch, "binary"), "codec", trial=replace(slow, config=CONFIG)).causes
    assert found.evidence[-1].startswith("p99 became")


@pytest.mark.parametrize("name", ["cpu_quota", "neighbour"])
def test_what_is_held_on_the_machine_proves_its_cause(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    server = Server(monkeypatch, "timer")
    Machine(monkeypatch, server)
    trial = replace(TRIAL, subject=replace(SUBJECT, ahead=True, unquota=True), pids=(7,))
    (found,) = outcome(server, name, trial=trial).causes
    assert found.confidence == PROVEN
    assert server.log == [f"{'quota' if name == 'cpu_quota' else 'priority'} 0", "put back"] * alternation.PAIRS


@pytest.mark.parametrize("fast", ["timer", "nothing"])
@pytest.mark.parametrize("waits", [(8.0, 7.0), (0.0, 0.0), (8.0, None)])
@pytest.mark.parametrize("name", ["cpu_quota", "neighbour", "generator"])
def test_a_hold_that_changed_nothing_says_nothing_of_its_cause(
    monkeypatch: pytest.MonkeyPatch, name: str, waits: tuple[float, float | None], fast: str
) -> None:
    """The latency may have changed or not, by chance."""
    server = Server(monkeypatch, fast)
    Machine(monkeypatch, server, waits).of_generator = True
    trial = replace(TRIAL, subject=replace(SUBJECT, ahead=True, unquota=True, own_ahead=True), pids=(7,))
    found = outcome(server, name, trial=trial)
    assert [(one.name, one.confidence) for one in found.causes] == [(name, LIKELY)]
    assert "it waited as before" in found.causes[0].evidence[-1]
    assert found.tried == (name,)


@pytest.mark.parametrize(("left_ms", "confidence"), [(1.0, PROVEN), (9.0, LIKELY)])
def test_connections_that_were_opened_ahead_must_have_been_there(
    monkeypatch: pytest.MonkeyPatch, left_ms: float, confidence: str
) -> None:
    """``left_ms``: what requests still wait for connections, of 10 ms."""

    def run(config: RunConfig, _watch: object) -> tuple[RunRecord, Any]:
        wait_ms = left_ms if config.spare else 10.0
        return block(10.0 if config.spare else 20.0), {**rows(), "send_ns": np.array([MISSING, wait_ms * 1e6])}

    trial = replace(TRIAL, subject=replace(SUBJECT, churns=True))
    (found,) = confirm.confirm(Verdict((cause("connections"),)), trial, lambda: None, print, run=run).causes
    assert found.confidence == confidence


def test_the_generator_runs_ahead_of_other_programs_wherever_it_is_not_the_cause(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = Server(monkeypatch, "timer")
    host = Machine(monkeypatch, server)
    trial = replace(TRIAL, subject=replace(SUBJECT, ahead=True, own_ahead=True), pids=(7,))
    for name, first in (
        ("neighbour", [("priority", True), ("priority", False)]),
        ("generator", [("priority", True)] * 2),
    ):
        host.log.clear()
        host.of_generator = name == "generator"
        (found,) = outcome(server, name, trial=trial).causes
        assert found.confidence == PROVEN
        assert host.log[:2] == first


LATE = "the generator was late by 9.00 ms for the requests around p99"


def test_blocks_that_the_generator_spoiled_are_made_again_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every fifth block is lost: its pair is, and another cycle replaces it."""
    server, count = Server(monkeypatch, "timer"), iter(range(1_000))

    def run(config: RunConfig, watch: object) -> tuple[RunRecord, Any]:
        found, columns = server.run(config, watch)
        return (block(1e3, LATE, names=()) if next(count) % 5 == 4 else found), columns

    found = confirm.confirm(Verdict((cause("batch_timer"),)), TRIAL, lambda: None, lambda _text: None, run=run)
    assert found.causes[0].confidence == PROVEN
    assert f"pairs of blocks were invalid: {LATE}" in found.causes[0].evidence[-1]


@pytest.mark.parametrize(("ms", "confidence"), [(10.0, PROVEN), (20.0, UNDECIDED)])
def test_a_generator_that_is_late_where_the_cause_is_gone_hides_nothing_and_rules_nothing_out(
    ms: float, confidence: str
) -> None:
    """It can only have added to what is left: an effect is one all the same, and none may be the generator's."""

    def run(config: RunConfig, _watch: object) -> tuple[RunRecord, Any]:
        return (block(ms, LATE, names=()) if config.payload is BINARY else block(20.0)), rows()

    found = confirm.confirm(Verdict((cause("codec"),)), TRIAL, lambda: None, lambda _text: None, run=run)
    assert (found.causes[0].name, found.causes[0].confidence) == ("codec", confidence)


def test_a_lower_percentile_decides_where_the_generator_spoiled_the_higher_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = Server(monkeypatch, "binary")

    def run(config: RunConfig, _watch: object) -> tuple[RunRecord, Any]:
        return block(10.0 if config.payload is BINARY else 20.0, LATE, names=("p50",)), rows()

    found = confirm.confirm(Verdict((cause("codec"),)), TRIAL, lambda: None, lambda _text: None, run=run)
    assert server.log == []
    assert found.causes[0].evidence[-1].startswith("p50 became")
    assert found.causes[0].confidence == PROVEN


def test_a_generator_that_is_always_late_is_named_as_the_reason_and_the_time_is_kept() -> None:
    now_s = [0.0]

    def run(_config: RunConfig, _watch: object) -> tuple[RunRecord, Any]:
        now_s[0] += 2.6
        return block(20.0, LATE, names=()), rows()

    found = confirm.confirm(
        Verdict((cause("codec"), cause("capacity"))), TRIAL, lambda: None, lambda _text: None, run, lambda: now_s[0]
    )
    assert found.tried == ("codec", "capacity")
    assert found.causes[0].confidence == LIKELY
    assert found.causes[0].evidence[-1].endswith(f"5 are needed: {LATE}")
    assert 60 < now_s[0] <= 90


@pytest.mark.parametrize(("percentile", "confidence"), [("p99", None), ("p50", LIKELY)])
def test_a_percentile_that_a_cause_of_the_tail_need_not_move_rules_nothing_out(
    monkeypatch: pytest.MonkeyPatch, percentile: str, confidence: str | None
) -> None:
    rate = 450.0 if percentile == "p99" else 5.0
    trial = replace(TRIAL, config=replace(CONFIG, rate_per_s=rate), subject=replace(SUBJECT, ahead=True), pids=(7,))
    server = Server(monkeypatch, "nothing")
    Machine(monkeypatch, server)
    found = outcome(server, "neighbour", trial=trial)
    if confidence is None:
        assert found.ruled_out == ("neighbour",)
    else:
        assert (found.causes[0].name, found.causes[0].confidence) == ("neighbour", UNDECIDED)


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Copies of the server, which note their beginning and end."""
    log: list[str] = []

    @contextlib.contextmanager
    def copied(place: Any, _pids: object, flags: tuple[str, ...]) -> Iterator[Any]:
        log.append("start " + " ".join(flags))
        yield replace(place, port=9_000 + len(flags))
        log.append("end")

    monkeypatch.setattr(copies, "copied", copied)
    return log


def test_threads_are_proven_on_a_second_server(monkeypatch: pytest.MonkeyPatch, fresh: list[str]) -> None:
    def run(config: RunConfig, _watch: object) -> tuple[RunRecord, Any]:
        return block((10.0 if config.target.port == 9_002 else 20.0) * (1 + config.seed / 100)), rows()

    trial = replace(TRIAL, subject=replace(SUBJECT, copies=True, threads=12, cores=2))
    found = confirm.confirm(Verdict((cause("threads"),)), trial, lambda: None, lambda _text: None, run=run)
    assert found.causes[0].confidence == PROVEN
    assert fresh == ["start --threads 2", "start ", "end", "end"]


@pytest.mark.parametrize(("later_ms", "confidence"), [((6.0, 6.1), PROVEN), ((900.0, 890.0), LIKELY)])
def test_a_cold_start_is_proven_on_fresh_servers(
    monkeypatch: pytest.MonkeyPatch, fresh: list[str], later_ms: tuple[float, float], confidence: str
) -> None:
    rounds = iter(range(confirm.FRESH))

    def one_by_one(*_arguments: object) -> list[float]:
        return [(1 + next(rounds) / 100) * 1_000.0, *later_ms]

    monkeypatch.setattr(burst, "one_by_one", one_by_one)
    trial = replace(TRIAL, subject=replace(SUBJECT, copies=True))
    server = Server(monkeypatch, "nothing")
    found = outcome(server, "cold_start", trial=trial)
    if confidence == PROVEN:
        assert (found.causes[0].name, found.causes[0].confidence) == ("cold_start", PROVEN)
    else:
        assert found.ruled_out == ("cold_start",)
    assert fresh == ["start ", "end"] * confirm.FRESH
