"""The account of a request adds up, and planted stage times come back exactly."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from bench.explain import sentence, stages
from bench.load.measurements import COLUMNS, Outcome
from bench.load.server_timing import MISSING, STAGES

Columns = dict[str, NDArray[np.int64]]


def columns_of(count: int, **given_columns: object) -> Columns:
    """Requests 1 ms apart that took 1 ms each without anybody saying why, except for what is given."""
    due = np.arange(count, dtype=np.int64) * 1_000_000
    found = {name: np.full(count, MISSING, dtype=np.int64) for name in COLUMNS}
    found |= {"index": np.arange(count), "due_ns": due, "picked_ns": due, "send_ns": due, "sent_ns": due}
    found |= {
        "outcome": np.zeros(count, dtype=np.int64),
        "status": np.full(count, 200),
        "last_byte_ns": due + 1_000_000,
    }
    for name, value in given_columns.items():
        found[name] = np.broadcast_to(np.asarray(value, dtype=np.int64), count).copy()
    return found


def planted(seed: int, count: int) -> Columns:
    """Random client and server times, consistent with each other."""
    random = np.random.default_rng(seed)
    found = columns_of(count)
    parts = {name: random.integers(0, 5_000_000, count) for name in ("lag", "connect", "write", "rest", *STAGES)}
    found["picked_ns"] = found["due_ns"] + parts["lag"]
    found["send_ns"] = found["picked_ns"] + parts["connect"]
    found["sent_ns"] = found["send_ns"] + parts["write"]
    found["last_byte_ns"] = found["sent_ns"] + parts["rest"] + sum(parts[name] for name in STAGES)
    return found | {f"{name}_ns": parts[name] for name in STAGES}


@settings(derandomize=True, deadline=None, max_examples=50)
@given(seed=st.integers(0, 10_000), count=st.integers(1, 300))
def test_every_request_is_the_sum_of_its_terms(seed: int, count: int) -> None:
    columns = planted(seed, count)
    account = stages.join(columns)
    assert np.array_equal(account.terms_ns.sum(axis=1), columns["last_byte_ns"] - columns["due_ns"])
    for name in STAGES:
        assert np.array_equal(account.terms_ns[:, stages.TERMS.index(name)], columns[f"{name}_ns"])
    assert (account.terms_ns[:, stages.TERMS.index("residual")] >= 0).all()
    assert account.contradictions == 0


@settings(derandomize=True, deadline=None, max_examples=50)
@given(seed=st.integers(0, 10_000), count=st.integers(100, 1_000), quantile=st.sampled_from(stages.QUANTILES))
def test_a_band_adds_up_and_lies_around_its_quantile(seed: int, count: int, quantile: float) -> None:
    account = stages.join(planted(seed, count))
    band = stages.at_quantile(account, quantile)
    if band is None:
        assert count < 1_000
        return
    assert sum(band.terms_ms.values()) == pytest.approx(band.total_ms)
    in_order = np.sort(account.total_ns) / 1e6
    assert in_order[int(band.low * count)] <= band.total_ms <= in_order[min(int(band.high * count), count - 1)]


def test_the_tail_is_charged_to_the_stage_that_was_planted() -> None:
    queue = np.where(np.arange(2_000) % 50 == 0, 20_000_000, 0)  # one request in fifty waits 20 ms
    columns = columns_of(2_000, queue_busy_ns=queue, compute_ns=1_000_000)
    columns["last_byte_ns"] += queue
    account = stages.join(columns)
    median, tail = stages.at_quantile(account, 0.5), stages.at_quantile(account, 0.99)
    assert median is not None
    assert tail is not None
    contributions = stages.tail_contributions(median, tail)
    assert contributions.pop("queue_busy") == pytest.approx(20)
    assert all(ms == pytest.approx(0, abs=1e-9) for ms in contributions.values())
    text = sentence.where_the_time_went(median, tail, account.with_server)
    assert "1.00 ms (100%) is the run of the model (wall time)" in text
    assert "20.00 ms (100%) is waiting while every model instance was busy" in text


def test_failed_requests_are_not_in_the_account() -> None:
    outcome = np.array([Outcome.OK, Outcome.STATUS, Outcome.TIMEOUT, Outcome.CONNECTION, Outcome.TRUNCATED])
    assert len(stages.join(columns_of(5, outcome=outcome, compute_ns=1)).total_ns) == 1


def test_answers_without_stage_times_are_counted_apart() -> None:
    account = stages.join(columns_of(10, compute_ns=np.array([5] * 7 + [MISSING] * 3)))
    assert (len(account.total_ns), account.unaccounted) == (7, 3)


def test_without_a_server_that_tells_the_rest_is_one_term() -> None:
    account = stages.join(columns_of(10))
    assert not account.with_server
    band = stages.at_quantile(account, 0.5)
    assert stages.mean(account) is not None
    assert band is None  # one request in ten is no band
    assert (account.terms_ns[:, stages.TERMS.index("residual")] == 1_000_000).all()


def test_time_that_the_write_and_the_server_both_claim_is_the_servers() -> None:
    columns = columns_of(10, compute_ns=900_000)
    columns["sent_ns"] = columns["send_ns"] + 300_000  # the call returned when the server had long begun
    account = stages.join(columns)
    assert (account.terms_ns[:, stages.TERMS.index("write")] == 100_000).all()
    assert (account.terms_ns[:, stages.TERMS.index("residual")] == 0).all()
    assert account.contradictions == 0


def test_batch_sizes_count_requests() -> None:
    account = stages.join(columns_of(6, compute_ns=1, batch=[1, 4, 4, 4, 4, MISSING]))
    assert stages.batch_sizes(account) == {1: 1, 4: 4}


def test_nothing_measured_is_said_so() -> None:
    account = stages.join(columns_of(0))
    assert stages.mean(account) is None
    assert "Too few" in sentence.where_the_time_went(None, None, False)
