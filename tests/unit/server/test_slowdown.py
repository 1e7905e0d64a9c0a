"""The slowdown: what it reaches, and that nothing of it stays."""

from __future__ import annotations

import gc
from collections.abc import Callable

import pytest

from server.errors import UnprocessableInput
from server.scheduling.queue import BatchQueue
from server.slowdown import COLLECTOR, STAGES, TIMER, Injected, Slowdown


class Later:
    """The event loop's timers, which ring when the test says so."""

    def __init__(self) -> None:
        self.calls: list[Callable[[], None]] = []

    def __call__(self, _seconds: float, call: Callable[[], None]) -> None:
        self.calls.append(call)


@pytest.mark.parametrize("stage", [one for one in STAGES if one != TIMER])
def test_only_the_chosen_stage_takes_longer(stage: str) -> None:
    spent: list[int] = []
    slowdown = Slowdown(Later(), spent.append)
    calls = {one: slowdown.around(one, lambda value: value + 1) for one in STAGES}
    assert [call(1) for call in calls.values()] == [2] * len(STAGES)
    assert spent == []
    slowdown.inject(Injected(stage, 70), 10)
    assert [call(1) for call in calls.values()] == [2] * len(STAGES)
    assert spent == [70_000]
    slowdown.end()
    calls[stage](1)
    assert spent == [70_000]


def test_a_timer_is_shortened_or_lengthened_and_put_back() -> None:
    slowdown, queue = Slowdown(Later()), BatchQueue(8, [(1, 1_000)], max_delay_ns=2_000_000)
    slowdown.hold(queue)
    for extra_us, delay_ns in ((-500, 1_500_000), (-9_000, 0), (1_000, 3_000_000)):
        slowdown.inject(Injected(TIMER, extra_us), 10)
        assert queue.max_delay_ns == delay_ns
    slowdown.end()
    assert queue.max_delay_ns == 2_000_000


def test_it_ends_by_itself_and_an_older_end_does_not_end_a_newer_one() -> None:
    later = Later()
    slowdown = Slowdown(later)
    slowdown.inject(Injected("compute", 5), 1)
    slowdown.inject(Injected("decode", 7), 1)
    first, second = later.calls
    first()
    assert slowdown.now == Injected("decode", 7)
    second()
    assert slowdown.now is None


@pytest.mark.parametrize(
    ("stage", "extra_us", "seconds"),
    [("send", 5, 1), ("compute", -1, 1), ("compute", 10**7, 1), ("compute", 5, 0), ("compute", 5, 10_000)],
)
def test_what_cannot_be_injected_is_refused_and_changes_nothing(stage: str, extra_us: int, seconds: float) -> None:
    slowdown = Slowdown(Later())
    slowdown.inject(Injected("scatter", 3), 1)
    with pytest.raises(UnprocessableInput):
        slowdown.inject(Injected(stage, extra_us), seconds)
    assert slowdown.now == Injected("scatter", 3)


def test_the_collector_stops_for_a_while_and_runs_again() -> None:
    slowdown = Slowdown(Later())
    try:
        for _ in range(2):
            slowdown.inject(Injected(COLLECTOR, 0), 10)
            assert not gc.isenabled()
            assert gc.get_freeze_count() > 0
    finally:
        slowdown.end()
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0


def test_the_collector_takes_no_extra_time() -> None:
    with pytest.raises(UnprocessableInput, match="no extra_us"):
        Slowdown(Later()).inject(Injected(COLLECTOR, 5), 10)
    assert gc.isenabled()
