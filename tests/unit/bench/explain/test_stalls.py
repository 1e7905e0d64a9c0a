"""Stalls are times without answers while requests waited, and nothing else."""

from __future__ import annotations

import numpy as np

from bench.explain import stalls
from bench.observe.timeline import Pause

MS = 1_000_000


def rows(gap_ms: int = 10, count: int = 600, took_ms: float = 5.0) -> tuple[np.ndarray, np.ndarray]:
    """Requests at even times, and the ends of each."""
    due = np.arange(count, dtype=np.int64) * gap_ms * MS
    return due, due + int(took_ms * MS)


def test_a_stop_of_the_server_is_found_with_its_length() -> None:
    due, ended = rows()
    stopped = (due >= 2_000 * MS) & (due < 2_300 * MS)
    ended[stopped] = 2_300 * MS + 5 * MS
    (found,) = stalls.spans(due, ended)
    assert 290 * MS <= found[1] - found[0] <= 320 * MS


def test_silence_without_requests_is_no_stall() -> None:
    due, ended = rows()
    kept = (due < 2_000 * MS) | (due > 3_000 * MS)
    assert stalls.spans(due[kept], ended[kept]) == []


def test_one_slow_request_is_no_stall() -> None:
    due, ended = rows(gap_ms=100)
    ended[30] += 150 * MS
    ended[31] = ended[30] + MS
    assert stalls.spans(due, ended) == []


def test_a_slow_server_is_not_a_stalled_one() -> None:
    due, ended = rows(gap_ms=100, took_ms=90)
    assert stalls.spans(due, ended) == []


def test_a_stall_is_laid_beside_the_pauses_that_the_server_told() -> None:
    found = [(2_000 * MS, 2_300 * MS), (5_000 * MS, 5_200 * MS)]
    pauses = [Pause("gc", 2.29, 0.28), Pause("gc", 4.9, 0.3), Pause("gc", 5.1, 0.05)]
    assert stalls._during(found, pauses) == 1
    assert stalls._during(found, []) == 0


def test_a_short_stop_needs_more_requests_that_wait_than_a_long_one() -> None:
    due, ended = rows(gap_ms=2, took_ms=1.0)
    stopped = (due >= 300 * MS) & (due < 320 * MS)
    assert len(stalls.spans(due, np.where(stopped, 320 * MS + 1, ended))) == 1
    due, ended = rows(gap_ms=10, took_ms=1.0)
    stopped = (due >= 300 * MS) & (due < 320 * MS)
    assert stalls.spans(due, np.where(stopped, 320 * MS + 1, ended)) == []


def test_a_stop_of_the_generator_is_no_stop_of_the_server() -> None:
    due, _ = rows(gap_ms=2, took_ms=1.0)
    span = (300 * MS, 360 * MS)
    stopped = (due >= span[0]) & (due < span[1])
    on_time = {"due_ns": due, "picked_ns": due}
    late = {"due_ns": due, "picked_ns": np.where(stopped, span[1], due)}
    assert not stalls._stopped_itself(span, on_time)
    assert stalls._stopped_itself(span, late)
    assert not stalls._stopped_itself((due[-1] + MS, due[-1] + 90 * MS), late)  # nothing was due


def test_requests_that_are_held_up_one_by_one_are_no_stall() -> None:
    # A gateway that takes 100 ms for each new connection, and answers in the order in which they came.
    due, ended = rows(gap_ms=30, took_ms=2.0)
    new = np.arange(len(due)) % 8 < 3
    assert stalls.spans(due, np.where(new, due + 100 * MS, ended)) == []
    pairs = np.repeat(due, 2) + np.tile([0, MS], len(due))
    assert stalls.spans(pairs, pairs + np.where(np.repeat(new, 2), 100, 2) * MS) == []
    # They were sent at the same times, and the server stopped.
    stopped = np.where(new, due - np.arange(len(due)) % 8 * 30 * MS + 89 * MS, ended)
    assert len(stalls.spans(due, stopped)) == len(due) // 8 - 1  # nothing ended before the first one
