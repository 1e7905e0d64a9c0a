"""The watchdog: what counts as progress, and for how long none may be made."""

from __future__ import annotations

import pytest

from server.request import NEVER
from server.scheduling.watchdog import Watchdog

SECOND = 1_000_000_000


def test_requests_that_wait_while_no_batch_starts_are_a_stall_after_the_limit() -> None:
    dog = Watchdog(10 * SECOND)
    assert dog.check(0, 3, pulls=5, overdue_ns=0) == ""
    assert dog.check(10 * SECOND, 3, pulls=5, overdue_ns=0) == ""
    assert "3 rows have waited for 11 s" in dog.check(11 * SECOND, 3, pulls=5, overdue_ns=0)
    assert dog.check(12 * SECOND, 3, pulls=6, overdue_ns=0) == ""


def test_a_queue_that_was_empty_starts_the_time_anew() -> None:
    dog = Watchdog(10 * SECOND)
    assert dog.check(0, 3, pulls=5, overdue_ns=0) == ""
    assert dog.check(9 * SECOND, 0, pulls=5, overdue_ns=0) == ""
    assert dog.check(18 * SECOND, 1, pulls=5, overdue_ns=0) == ""


@pytest.mark.parametrize(("overdue_s", "stalled"), [(10, False), (11, True)])
def test_a_run_may_take_longer_than_predicted_by_the_limit(overdue_s: int, stalled: bool) -> None:
    reason = Watchdog(10 * SECOND).check(0, 0, pulls=1, overdue_ns=overdue_s * SECOND)
    assert bool(reason) == stalled


def test_without_a_limit_nothing_is_a_stall() -> None:
    dog = Watchdog()
    assert dog.check(0, 1, pulls=1, overdue_ns=0) == ""
    assert dog.check(NEVER, 1, pulls=1, overdue_ns=10**6 * SECOND) == ""
