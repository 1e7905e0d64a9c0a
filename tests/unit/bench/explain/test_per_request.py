"""What the server tells of single requests: queue, padding, cache and sizes, from rows to figures."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bench.explain import per_request, sizes, stages
from bench.load.measurements import COLUMNS, Outcome
from bench.load.server_timing import MISSING
from tests.unit.bench.known import known

MS = 1_000_000
COUNT = 120
SLOW = np.arange(COUNT) % 20 == 0


def window(latency_ms: Any, **given: Any) -> dict[str, np.ndarray]:
    """Requests 100 ms apart with a payload each."""
    due = np.arange(COUNT, dtype=np.int64) * 100 * MS
    last = due + (np.broadcast_to(latency_ms, COUNT) * MS).astype(np.int64)
    found = {name: np.full(COUNT, MISSING, np.int64) for name in COLUMNS}
    found |= {"due_ns": due, "picked_ns": due, "send_ns": due, "sent_ns": due, "last_byte_ns": last}
    found |= {"outcome": np.full(COUNT, int(Outcome.OK)), "payload": np.arange(COUNT, dtype=np.int64)}
    return found | {name: np.broadcast_to(np.asarray(value, np.int64), COUNT).copy() for name, value in given.items()}


def found_of(rows: dict[str, np.ndarray]) -> per_request.PerRequest | None:
    account = stages.join(rows)
    return per_request.of(account, np.flatnonzero(~SLOW), np.flatnonzero(SLOW))


def sizes_of(rows: dict[str, np.ndarray]) -> sizes.Sizes:
    return sizes.of(rows, stages.join(rows), np.flatnonzero(SLOW)[:3])


def test_a_server_that_tells_nothing_of_requests_gives_nothing() -> None:
    assert found_of(window(5.0, bytes_out=900)) is None


def test_the_queue_that_requests_met_is_told_for_typical_and_slow_ones() -> None:
    found = known(found_of(window(5.0, rows=1, ahead=np.where(SLOW, 9, 2))))
    assert (found.ahead, found.ahead_slow) == (2, 9)
    assert (found.padded_ms, found.cached, found.cached_ms) == (None, 0, None)


def test_padding_is_that_of_the_run_in_which_a_request_was() -> None:
    """Every 20th request runs with the one behind it: 10 of its 40 positions are its own, and those of the other 40."""
    pair = SLOW | np.roll(SLOW, 1)
    last = (np.arange(COUNT) // 20 * 20 * 100.0 + 120.0) - np.arange(COUNT) * 100.0
    rows = window(
        np.where(pair, last, 5.0), rows=1, ahead=0, batch=np.where(pair, 2, 1), compute_ns=np.where(pair, 8 * MS, MS),
        assemble_ns=0, length=np.where(SLOW, 10, 40), padded=40,
    )  # fmt: skip
    found = known(found_of(rows))
    assert found.padded_slow_ms == pytest.approx(8 * (1 - 50 / 80))
    assert found.padded_ms == pytest.approx(8 * (1 - 50 / 80) * pair[~SLOW].mean())


def test_requests_from_the_cache_are_apart_from_those_that_ran() -> None:
    rows = window(
        np.where(SLOW, 41.0, 0.4), rows=1, cached=np.where(SLOW, MISSING, 1), compute_ns=np.where(SLOW, 40 * MS, 0)
    )
    found = known(found_of(rows))
    assert found.cached == pytest.approx(0.95)
    assert (found.cached_ms, found.ran_ms, found.compute_ms) == pytest.approx((0.4, 41.0, 40.0))


def test_bodies_that_the_cache_answers_are_no_short_inputs() -> None:
    even = np.arange(COUNT) % 2 == 0
    rows = window(np.where(even, 41.0, 0.5), payload=np.where(even, 0, 1), bytes_out=900, rows=1)
    assert sizes_of(rows).more_ms == pytest.approx(40.5)
    assert sizes_of(rows | {"cached": np.where(even, MISSING, 1)}).more_ms == 0


def test_long_inputs_are_found_by_size_if_every_request_has_another_body() -> None:
    sent = np.where(SLOW, 50_000, 900 + np.arange(COUNT) % 7)
    found = sizes_of(window(np.where(SLOW, 110.0, 6.0 + sent % 5), bytes_out=sent))
    assert found.more_ms == pytest.approx(104, abs=3)
    assert found.long == set(np.flatnonzero(SLOW).tolist())
    assert found.unit == "bytes"


def test_the_size_of_an_input_is_what_the_server_makes_of_it() -> None:
    """Bodies differ in bytes at random, and latency goes with rows x length."""
    sent = np.random.default_rng(1).integers(500, 5_000, COUNT)
    found = sizes_of(
        window(np.where(SLOW, 60.0, 6.0), bytes_out=sent, rows=2, length=np.where(SLOW, 500, 20), padded=500)
    )
    assert found.more_ms == pytest.approx(54)
    assert (found.slow, found.unit) == (1_000, "positions")
    rows = sizes_of(window(np.where(SLOW, 60.0, 6.0), bytes_out=sent, rows=np.where(SLOW, 64, 1)))
    assert rows.more_ms == pytest.approx(54)
    assert (rows.slow, rows.unit) == (64, "rows")


def test_bodies_of_one_size_that_are_sent_seldom_say_nothing() -> None:
    assert sizes_of(window(np.where(SLOW, 56.0, 6.0), bytes_out=900)) == sizes.Sizes()


@pytest.mark.parametrize(("long", "told"), [(3, True), (2, False)])
def test_a_few_long_inputs_are_told_or_said_to_be_too_few(long: int, told: bool) -> None:
    """The long ones are those around p99; other requests take 13 ms."""
    is_long = np.cumsum(SLOW) * SLOW * (np.cumsum(SLOW) <= long) > 0
    rows = window(np.where(is_long, 120.0, 13.0), bytes_out=np.where(is_long, 3_371, 100))
    found = sizes.of(rows, stages.join(rows), np.flatnonzero(is_long))
    assert (found.more_ms == pytest.approx(107.0)) == told
    assert found.rare == (not told)
