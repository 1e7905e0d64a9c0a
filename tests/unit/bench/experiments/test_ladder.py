"""The ladder: it ends where the server does, and blames the generator where that was it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench.errors import Unusable
from bench.experiments import ladder, sweep


def server(capacity_per_s: float, generator_per_s: float = 1e9) -> ladder.Measure:
    def measure(rate_per_s: float, seed: int | None) -> ladder.Rung:
        answered = min(rate_per_s, capacity_per_s)
        late = rate_per_s > generator_per_s
        return ladder.Rung(rate_per_s, None, seed or 0, rate_per_s, answered, 0.0, 100, None, late, ())

    return measure


@pytest.mark.parametrize(
    ("text", "found"),
    [("100,50", (50, 100)), ("50..800x5", (50, 100, 200, 400, 800)), ("1..32", (1, 2, 4, 8, 16, 32)), ("7", (7,))],
)
def test_rates_are_read(text: str, found: tuple[float, ...]) -> None:
    assert ladder.rates(text) == found


@pytest.mark.parametrize("text", ["", "a", "1..2x1", "0,1", "-1", "1..xx", "inf", "5.."])
def test_what_are_no_rates_is_refused(text: str) -> None:
    with pytest.raises(Unusable, match="cannot read"):
        ladder.rates(text)


def test_few_arrivals_by_chance_are_no_saturation() -> None:
    """20 requests are asked for, 16 arrivals are drawn, and all are answered."""
    drawn = ladder.Rung(5.0, None, 1, 4.0, 4.0, 0.0, 16, None, generator=False, reasons=(), offered_per_s=4.0)
    assert not drawn.saturated
    assert replace(drawn, goodput_per_s=3.0).saturated


def test_a_ladder_ends_at_the_first_saturated_rung() -> None:
    climbed = ladder.climb(server(150), (50, 100, 200, 400, 800))
    assert [one.rate_per_s for one in climbed] == [50, 100, 200]
    assert ladder.capacity_per_s(climbed) == 150
    assert ladder.capacity_per_s(climbed[:2]) is None


def test_the_generators_limit_is_not_the_servers_capacity() -> None:
    climbed = ladder.climb(server(1e6, generator_per_s=150), (50, 100, 200, 400))
    assert [one.rate_per_s for one in climbed] == [50, 100, 200]
    assert ladder.capacity_per_s(climbed) is None
    assert b'"capacity_per_s": null' in sweep.to_json(sweep.summary("", "", "u", climbed))


def test_a_disturbed_rung_is_measured_again_with_the_next_seed() -> None:
    seeds: list[int | None] = []

    def measure(rate_per_s: float, seed: int | None) -> ladder.Rung:
        seeds.append(seed)
        return server(100, 0 if len(seeds) < 3 else 1e9)(rate_per_s, seed)

    assert not ladder.patiently(measure, 10, seed=5).generator
    assert seeds == [5, 6, 7]


def test_the_first_rates_reach_from_idle_to_beyond_one_caller() -> None:
    found = ladder.first_rates(floor_ms=10, usable_per_s=5_000, count=6)
    assert found[0] == pytest.approx(10)
    assert found[-1] == pytest.approx(800)
    assert ladder.first_rates(0.1, 2_000, 6)[-1] == pytest.approx(2_000)
