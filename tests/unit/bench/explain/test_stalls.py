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
