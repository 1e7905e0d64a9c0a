"""The CPU time of runs, on clocks that are set by hand."""

from __future__ import annotations

import pytest

from server.observe.run_counters import RunCounters
from server.observe.run_cpu import LONG_NS, MOST_PENDING, SAMPLE, RunCpu


class Clocks:
    """Wall and CPU time that a run moves on."""

    def __init__(self) -> None:
        self.wall_ns = self.cpu_ns = self.reads = 0

    def wall(self) -> int:
        return self.wall_ns

    def cpu(self) -> int:
        self.reads += 1
        return self.cpu_ns

    def run(self, spent_ns: tuple[int, int]) -> int:
        wall_ns, cpu_ns = spent_ns
        self.wall_ns += wall_ns
        self.cpu_ns += cpu_ns
        return wall_ns


def made() -> tuple[RunCpu, Clocks]:
    clocks = Clocks()
    return RunCpu(clocks.wall, clocks.cpu), clocks


def test_the_cpu_time_of_long_runs_is_counted_beside_their_wall_time() -> None:
    found, clocks = made()
    run = found.around(clocks.run)
    assert [run((2 * LONG_NS, LONG_NS)) for _ in range(3)] == [2 * LONG_NS] * 3
    found.fold()
    assert (found.cpu_ns, found.wall_ns) == (3 * LONG_NS, 6 * LONG_NS)


def test_of_short_runs_a_sample_is_measured_and_the_others_read_no_clock() -> None:
    found, clocks = made()
    run = found.around(clocks.run)
    for _ in range(2 * SAMPLE):
        run((LONG_NS // 2, LONG_NS // 4))
    found.fold()
    assert clocks.reads == 2 * 2
    assert found.cpu_ns / found.wall_ns == 0.5


def test_a_run_that_raises_is_not_counted_and_the_next_one_is() -> None:
    found, clocks = made()

    def fail(spent_ns: tuple[int, int]) -> None:
        clocks.run(spent_ns)
        raise ValueError

    with pytest.raises(ValueError):
        found.around(fail)((LONG_NS, LONG_NS))
    found.around(clocks.run)((LONG_NS, 1))
    found.fold()
    assert (found.cpu_ns, found.wall_ns) == (1, LONG_NS)


def test_what_no_scrape_fetches_is_dropped_and_not_kept() -> None:
    found, clocks = made()
    run = found.around(clocks.run)
    for _ in range(MOST_PENDING + 10):
        run((LONG_NS, LONG_NS))
    found.fold()
    assert found.wall_ns == MOST_PENDING * LONG_NS


def test_a_copy_holds_the_counts_of_its_moment() -> None:
    counters = RunCounters()
    run = counters.measured(sum)
    run([1, 2])
    before = counters.copied()
    for _ in range(SAMPLE):
        run([1, 2])
    assert 0 < before.cpu_wall_ns < counters.copied().cpu_wall_ns
    assert RunCounters().copied().cpu_wall_ns == 0
