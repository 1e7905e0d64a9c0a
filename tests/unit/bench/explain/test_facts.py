"""Facts of a run that its rows show: slow requests at its start are a cold start, whatever way a server takes turns."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from bench.explain import facts
from bench.load.measurements import Outcome
from bench.load.server_timing import STAGES
from bench.observe.timeline import Totals
from tests.unit.bench.known import known
from tests.unit.bench.planted_facts import LOAD

MS = 1_000_000


def cold(latency_ms: np.ndarray, gap_ms: int = 40) -> facts.Cold | None:
    due = np.arange(len(latency_ms), dtype=np.int64) * gap_ms * MS
    columns = {
        "due_ns": due,
        "last_byte_ns": due + (latency_ms * MS).astype(np.int64),
        "outcome": np.full(len(due), int(Outcome.OK)),
    }
    account: Any = SimpleNamespace(due_ns=due)
    return facts._cold(columns, account, np.arange(5))


def test_one_slow_first_request_is_a_cold_start() -> None:
    latency = np.full(200, 6.0)
    latency[0] = 1_500
    found = known(cold(latency))
    assert (found.count, found.slowest_ms, found.later_ms) == (1, 1_500, 6)


@pytest.mark.parametrize("start_ms", [1_500, 4_000])
def test_all_that_wait_for_the_first_one_belong_to_it(start_ms: int) -> None:
    """A server that answers one by one: each request waits for the start, less by the time at which it came."""
    latency = np.maximum(start_ms - np.arange(200) * 40.0, 6.0)
    found = known(cold(latency))
    assert found.count == pytest.approx(start_ms / 40, abs=3)


def test_a_server_that_warms_up_over_many_requests_has_a_cold_start() -> None:
    """Every fourth of the first forty requests is quick already."""
    latency = np.where(np.arange(200) < 40, 400.0 - 8 * np.arange(200), 6.0)
    latency[2:40:4] = 6.0
    found = known(cold(latency))
    assert found.count == pytest.approx(40, abs=4)
    latency[0:150:5] = 400.0  # slow ones all along
    assert cold(latency) is None or cold(latency).count <= 2  # type: ignore[union-attr]


def test_a_slow_request_is_overtaken_by_later_ones() -> None:
    due = np.arange(100, dtype=np.int64) * 40 * MS
    total = np.full(100, 5 * MS)
    total[[20, 50]] = 200 * MS  # five later ones are answered meanwhile
    account: Any = SimpleNamespace(due_ns=due, total_ns=total)
    assert facts._overtaken(account, np.array([20, 50])) == 1
    assert facts._overtaken(account, np.array([19, 50])) == 0.5
    total[20:25] = (25 - np.arange(20, 25)) * 40 * MS + 5 * MS  # all wait for the same end
    assert facts._overtaken(account, np.array([20])) == 0
    assert facts._overtaken(account, np.array([], dtype=np.intp)) == 0


def _of_payloads(latency_ms: np.ndarray, payloads: int) -> facts.Cold | None:
    due = np.arange(len(latency_ms), dtype=np.int64) * 40 * MS
    columns = {
        "due_ns": due,
        "last_byte_ns": due + (latency_ms * MS).astype(np.int64),
        "outcome": np.full(len(due), int(Outcome.OK)),
        "payload": np.arange(len(due)) % payloads,
    }
    account: Any = SimpleNamespace(due_ns=due)
    return facts._first_of_each(columns, account, np.argsort(latency_ms)[-3:])


def test_a_cache_that_is_empty_makes_the_first_request_of_each_payload_slow() -> None:
    found = known(_of_payloads(np.where(np.arange(200) < 30, 200.0, 1.5), payloads=30))
    assert (found.count, found.of_each, found.tail_share) == (30, True, 1.0)


@pytest.mark.parametrize(
    "latency_ms",
    [
        np.full(200, 200.0),  # no request is quick
        np.where(np.arange(200) % 30 == 7, 200.0, 1.5),  # one payload is slow at all times
        np.where(np.arange(200) % 100 < 30, 200.0, 1.5),  # stops, of which one is at the start
    ],
)
def test_payloads_that_are_slow_later_too_are_no_cold_start(latency_ms: np.ndarray) -> None:
    assert _of_payloads(latency_ms, payloads=30) is None


@pytest.mark.parametrize(
    ("latency_ms", "together"),
    [
        (lambda due_ms: np.full(len(due_ms), 50.0), 0.0),  # each waits by itself
        (lambda due_ms: 60.0 - due_ms % 60.0, 1.0),  # all wait for the next tick
        (lambda due_ms: np.full(len(due_ms), 5.0), 0.0),  # none meets another one
    ],
)
def test_requests_that_wait_for_the_same_moment_are_answered_together(latency_ms: Any, together: float) -> None:
    due_ms = np.random.default_rng(0).exponential(25.0, 400).cumsum()
    account: Any = SimpleNamespace(
        due_ns=(due_ms * MS).astype(np.int64), total_ns=(latency_ms(due_ms) * MS).astype(np.int64)
    )
    assert facts._together(account) == pytest.approx(together, abs=0.02)


@pytest.mark.parametrize(
    "latency",
    [
        np.full(200, 6.0),
        np.linspace(6.0, 3_000.0, 200),  # overload
        np.where(np.arange(200) % 50 == 20, 900.0, 6.0),  # stops from time to time
        np.where(np.arange(200) < 100, 300.0, 6.0),  # another load, which ended in the middle
    ],
)
def test_what_is_slow_at_another_time_or_for_longer_is_none(latency: np.ndarray) -> None:
    assert cold(latency) is None


@pytest.mark.parametrize(("foreign", "shares"), [(0, (1.0, 1.0)), (2, (1.0, 1.0)), (50, (0.5, 0.1))])
def test_other_clients_are_what_the_server_counted_beyond_the_answers_between_its_scrapes(
    foreign: int, shares: tuple[float, float]
) -> None:
    due = np.arange(100, dtype=np.int64) * 10 * MS  # 1 s, and the scrapes are at 0.25 and 0.75 s
    columns = {"last_byte_ns": due + 5 * MS, "status": np.full(100, 200), **{f"{one}_ns": 0 * due for one in STAGES}}
    columns["compute_ns"] = np.full(100, MS)
    counted = Totals(0.5, 50 + foreign, 0.05 + 0.009 * foreign, 0, 0, 0, between_s=((0.25, 0.75),))
    load = replace(LOAD, answered_per_s=10.0)
    assert facts._ours(counted, columns, load) == pytest.approx(shares)
    assert facts._ours(replace(counted, between_s=()), columns, load) == (None, None)
