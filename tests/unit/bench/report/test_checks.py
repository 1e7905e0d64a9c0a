"""Checks of curves and searches: which of them fail, and which stay open."""

from __future__ import annotations

import pytest

from bench.experiments.capacity import Capacity, Trial, falls_short
from bench.experiments.ladder import Rung
from bench.report import checks


def rung(rate: float, answered: float, generator: bool = False) -> Rung:
    reasons = ("the generator was late",) if generator else ()
    return Rung(rate, None, 1, rate, answered, 0.0, 100, None, generator, reasons)


def states(found: tuple[checks.Check, ...]) -> dict[str, str]:
    return {one.name: "fails" if one.why else "skipped" if one.skipped else "holds" for one in found}


def test_a_curve_fails_for_its_generator_and_not_for_its_server() -> None:
    found = states(checks.of_sweep([rung(50, 50), rung(100, 100, generator=True)], 3, None))
    assert found == {
        "50 requests/s: the load generator was not the bottleneck": "holds",
        "100 requests/s: the load generator was not the bottleneck": "fails",
        "the curve is complete": "fails",
    }
    found = states(checks.of_sweep([rung(50, 50), rung(100, 60)], 3, None))  # it ends where the server does
    assert list(found.values()) == ["holds", "skipped", "holds"]


def test_a_curve_that_was_cut_short_says_why() -> None:
    *_, last = checks.of_sweep([rung(50, 50)], 1, "cannot reach it")
    assert last.why == "cannot reach it"


def capacity(rate: float | None, low: float, high: float, at_least: bool = False) -> Capacity:
    return Capacity(0.99, 50.0, rate, low, high, at_least, None if rate else "nothing met it", (Trial(1.0, 1.0),))


@pytest.mark.parametrize(
    ("found", "short"),
    [
        (capacity(100, 96, 104), True),  # 110 are wanted
        (capacity(108, 100, 115), None),
        (capacity(120, 112, 125), False),
        (capacity(120, 0, 0, at_least=True), False),
        (capacity(100, 0, 0, at_least=True), None),  # the generator ended before it
        (capacity(None, 0, 0), None),
    ],
)
def test_a_wish_is_missed_when_the_whole_interval_lies_below_it(found: Capacity, short: bool | None) -> None:
    assert falls_short(found, 110) is short
    states_of = list(states(checks.of_slo(found, "p99 <= 50 ms", 110, None)).values())
    assert states_of[1] == {True: "fails", None: "skipped", False: "holds"}[short]
    assert states_of[0] == ("holds" if found.rate_per_s else "fails")


def test_a_search_without_a_wish_is_held_to_finding_something() -> None:
    assert list(states(checks.of_slo(capacity(100, 96, 104), "p99", None, None)).values()) == ["holds"]
    assert list(states(checks.of_slo(capacity(100, 96, 104), "p99", None, "interrupted")).values()) == ["fails"]
