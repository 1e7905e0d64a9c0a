"""What an experiment must lower, as blocks measure it."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from bench.errors import Unusable
from bench.experiments import amounts
from bench.experiments.amounts import Amount
from bench.load.burst import Work
from bench.load.server_timing import MISSING
from bench.observe import held, tree
from bench.result.record import ClientRecord
from server.system import cgroup
from server.system.cgroup import Throttling

FOUR = {"index": np.arange(4)}
RECORD: Any = SimpleNamespace(client=ClientRecord(3, 4, 0.25, None, None))


def of_block(amount: Amount, columns: dict[str, Any] = FOUR, record: Any = RECORD) -> float | None:
    return amount.start()(record, columns)


def test_a_server_waits_for_a_core_as_long_as_its_threads_do_per_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree, "with_children", lambda pids: (*pids, 8))
    monkeypatch.setattr(tree, "work_of", lambda pids: lambda: Work(5e6, 40e6) if pids == (7, 8) else None)
    assert of_block(amounts.of_hold(held.PRIORITY, (7,))) == 10e6
    assert of_block(amounts.of_hold(held.PRIORITY, ())) is None


def test_a_quota_stops_a_server_as_long_as_its_group_counts_per_request(monkeypatch: pytest.MonkeyPatch) -> None:
    found = iter([Throttling(9, 2, 1_000), Throttling(12, 4, 9_000), None, Throttling(1, 1, 1)])
    monkeypatch.setattr(cgroup, "of", lambda pid: SimpleNamespace(throttling=lambda: next(found)) if pid == 7 else None)
    amount = amounts.of_hold(held.QUOTA, (7, 8))
    assert of_block(amount) == 2_000
    assert of_block(amount) is None


def test_the_generator_waits_for_a_core_as_its_record_says() -> None:
    assert of_block(amounts.of_generator()) == 0.25
    assert of_block(amounts.of_generator(), record=SimpleNamespace(client=None)) is None
    unknown = replace(RECORD.client, run_delay=None)
    assert of_block(amounts.of_generator(), record=SimpleNamespace(client=unknown)) is None


def test_requests_wait_for_connections_until_they_are_sent() -> None:
    sent = {"picked_ns": np.array([10, 20, 30]), "send_ns": np.array([14, 28, MISSING])}
    assert of_block(amounts.of_connections(), sent) == 6
    assert of_block(amounts.of_connections(), {name: values[2:] for name, values in sent.items()}) is None


@pytest.mark.parametrize(
    ("before", "after", "fell"),
    [
        ([10.0, 12.0], [1.0, 2.0], True),
        ([10.0, None], [None, 6.0], True),
        ([10.0, 12.0], [8.0, 9.0], False),
        ([10.0, 2.0], [10.0, 2.0], False),
        ([0.0], [0.0], False),
        ([None], [1.0], False),
        ([10.0], [], False),
    ],
)
def test_an_amount_must_fall_by_a_clear_share(
    before: list[float | None], after: list[float | None], fell: bool
) -> None:
    amount = Amount("it waited as before", lambda: lambda _record, _columns: None)
    if fell:
        amounts.require_fall(amount, before, after)
    else:
        with pytest.raises(Unusable, match="it waited as before"):
            amounts.require_fall(amount, before, after)
