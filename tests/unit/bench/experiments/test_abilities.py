"""What can be changed beside a running server, from the record of a run."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench.experiments import abilities, copies
from bench.observe import held, scrape, timeline
from bench.observe.model_work import Cost
from bench.observe.scrape import Scraped
from bench.observe.timeline import Pause
from bench.result.record import ClientRecord, RunRecord
from tests.unit.bench import planted
from tests.unit.bench.planted_facts import burst
from tests.unit.bench.planted_record import planted_record
from tests.unit.bench.simulated_server import World

ROWS = planted.simulate(1, 50, 12)


@pytest.fixture
def record() -> RunRecord:
    return planted_record(ROWS)


def test_a_server_of_which_nothing_is_known_leaves_the_load_to_change(record: RunRecord) -> None:
    found = abilities.of_record(replace(record, host=None), ROWS)
    assert found.pids == ()
    assert not found.subject.slows
    assert set(abilities.with_testable(replace(record, host=None), ROWS).testable or ()) <= {
        *("capacity", "serial", "codec", "bandwidth", "input_size", "generator"),
    }


def test_what_this_user_may_change_on_this_machine_can_be_tested(
    monkeypatch: pytest.MonkeyPatch, record: RunRecord
) -> None:
    monkeypatch.setattr(scrape, "processes", lambda _port: (7, 8))
    monkeypatch.setattr(held, "may_hold", lambda what, pids: what == held.QUOTA and pids == (7, 8))
    monkeypatch.setattr(copies, "can_copy", lambda _pids: True)
    host = replace(timeline.build(Scraped(), 0, []), slows=True, pauses=(Pause("gc", 1.0, 0.2),))
    told = replace(record, host=host)
    names = set(abilities.with_testable(told, ROWS).testable or ())
    assert {"cpu_quota", "cold_start", "stall"} <= names
    assert not names & {"neighbour", "connections", "other_traffic"}


def test_a_load_that_opened_a_connection_for_each_request_can_open_them_ahead(record: RunRecord) -> None:
    opened = replace(record, client=ClientRecord(500, 510, None, None, None))
    assert "connections" in (abilities.with_testable(opened, ROWS).testable or ())


@pytest.mark.parametrize(("single_ms", "testable"), [(2.0, True), (20.0, False)])
def test_padding_is_tested_where_the_server_keeps_up_without_batches(
    monkeypatch: pytest.MonkeyPatch, record: RunRecord, single_ms: float, testable: bool
) -> None:
    monkeypatch.setattr(scrape, "processes", lambda _port: (7,))
    monkeypatch.setattr(held, "may_hold", lambda _what, _pids: False)
    monkeypatch.setattr(copies, "can_copy", lambda _pids: True)
    (work,) = World().works()
    pads = replace(work, real=10.0, padding=30.0, costs=(Cost(0, 1, single_ms),))
    host = replace(timeline.build(Scraped(), 0, []), works=(pads,))
    assert ("padding" in (abilities.with_testable(replace(record, host=host), ROWS).testable or ())) == testable


@pytest.mark.parametrize(
    ("content_type", "json"),
    [
        ("application/json", True),
        ("application/json; charset=utf-8", True),
        ("application/json, application/x-npy", False),
        ("application/jsonlines", False),
    ],
)
def test_white_space_is_put_behind_json_alone(record: RunRecord, content_type: str, json: bool) -> None:
    payload = replace(record.load.payload, content_type=content_type, bytes=40_000)
    slow_link = burst(60, padded_ms=115.0, padding_bytes=40_000)
    found = replace(record, host=None, burst=slow_link, load=replace(record.load, payload=payload))
    assert (abilities.of_record(found, ROWS).subject.upload_ms > 0) == json


def test_a_run_with_few_requests_tells_stages_and_latencies_too() -> None:
    few = planted.simulate(1, 2, 12)
    found = planted_record(few)
    assert set(found.stages.bands) == {"mean"}, "too few for a band around the median"
    subject = abilities.of_record(found, few).subject
    assert 0 < subject.p50_ms <= subject.p99_ms
    assert subject.stages_us["compute"] > 0
