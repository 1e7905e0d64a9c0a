"""What can be changed beside a running server, from the record of a run."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench.experiments import abilities, copies
from bench.observe import held, timeline
from bench.observe import tree as trees
from bench.observe.scrape import Scraped
from bench.observe.timeline import Pause
from bench.result.record import RunRecord
from tests.unit.bench import planted
from tests.unit.bench.planted_record import planted_record


@pytest.fixture
def record() -> RunRecord:
    return planted_record(planted.simulate(1, 50, 12))


def test_a_server_of_which_nothing_is_known_leaves_the_load_to_change(record: RunRecord) -> None:
    found = abilities.of_record(replace(record, host=None))
    assert found.pids == ()
    assert not found.subject.slows
    assert set(abilities.with_testable(replace(record, host=None)).testable or ()) <= {
        *("capacity", "serial", "codec", "bandwidth", "input_size"),
    }


def test_what_this_user_may_change_on_this_machine_can_be_tested(
    monkeypatch: pytest.MonkeyPatch, record: RunRecord
) -> None:
    monkeypatch.setattr(trees, "processes", lambda _port: (7, 8))
    monkeypatch.setattr(held, "may_hold", lambda what, pids: what == held.QUOTA and pids == (7, 8))
    monkeypatch.setattr(copies, "can_copy", lambda _pids: True)
    host = replace(timeline.build(Scraped(), 0, []), slows=True, pauses=(Pause("gc", 1.0, 0.2),))
    told = replace(record, host=host)
    names = set(abilities.with_testable(told).testable or ())
    assert {"cpu_quota", "cold_start", "stall"} <= names
    assert not names & {"neighbour", "connections", "other_traffic"}
