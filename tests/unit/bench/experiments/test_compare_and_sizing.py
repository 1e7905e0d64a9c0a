"""Ratios with intervals that hold, verdicts that follow from them, and plans that can be checked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bench.errors import Unusable
from bench.experiments import compare, sizing
from tests.unit.bench.queues import waits_and_service_ms


def latency_ns(service_ms: float, seed: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    found: np.ndarray[tuple[int], np.dtype[np.int64]] = (
        waits_and_service_ms(500, service_ms, 10_000, seed) * 1e6
    ).astype(np.int64)
    return found


def test_a_slower_server_is_found_slower_and_fails_the_gate() -> None:
    found = compare.of_records(0.99, latency_ns(1.0, 1), latency_ns(1.3, 2), margin=0.02)
    truth = (1000 - 500) / (1000 / 1.3 - 500)
    assert found.low <= truth <= found.high
    assert "slower, by more than 2%" in found.verdict
    assert compare.failed(found, compare.gate("p99:+5%"))
    assert not compare.failed(found, compare.gate("p99:+200%"))
    assert "faster" in compare.of_records(0.99, latency_ns(1.3, 2), latency_ns(1.0, 1), margin=0.02).verdict


def test_the_same_server_twice_is_hardly_ever_called_different() -> None:
    found = [compare.of_records(0.95, latency_ns(1, seed), latency_ns(1, seed + 50), 0.02) for seed in range(20)]
    assert sum(one.low <= 1 <= one.high for one in found) >= 17
    assert sum(compare.failed(one, compare.Gate(0.95, 0.05)) for one in found) <= 1


def test_pairs_cancel_what_both_sides_share() -> None:
    """A machine that drifts by half changes no ratio of neighbours."""
    drift = np.linspace(10, 15, 12)
    noise = np.random.default_rng(1).normal(1, 0.01, (2, 12))
    same = compare.of_pairs(0.99, (drift * noise[0]).tolist(), (drift * noise[1]).tolist(), margin=0.02)
    assert same.verdict == "no difference beyond 2%"
    slower = compare.of_pairs(0.99, (drift * noise[0]).tolist(), (1.1 * drift * noise[1]).tolist(), margin=0.02)
    assert slower.ratio == pytest.approx(1.1, rel=0.02)
    assert slower.low > 1.05


def test_one_pair_decides_nothing() -> None:
    assert compare.of_pairs(0.5, [1.0], [2.0], 0.02).verdict.startswith("undecided")


def test_blocks_alternate_so_that_neither_side_is_always_first() -> None:
    assert "".join(compare.order(4)) == "ABBAABBA"


@pytest.mark.parametrize("text", ["p99", "p99:5", "5%", "p99:-5%", "p100:+5%"])
def test_what_is_no_gate_is_refused(text: str) -> None:
    with pytest.raises(Unusable):
        compare.gate(text)


def test_a_plan_adds_up() -> None:
    demand = sizing.Demand(peak_per_s=3_000, mean_per_s=1_000, growth=0.2, rise_per_minute=0.1, burst=1.3)
    found = sizing.size(400, demand, sizing.Delays(180, 240, 60), price_per_hour=0.408, spare=1)
    factor = 1 / 1.1**8
    assert found.safety_factor == pytest.approx(factor)
    assert "480 s" in found.binds
    assert found.instances == math.ceil(3_600 / (400 * factor)) + 1
    assert found.target_per_instance == math.floor(400 * factor * 60)
    assert found.cost_per_million == pytest.approx(0.408 * found.instances / 3.6)
    assert found.floor_per_million == pytest.approx(0.408 / (400 * 3600) * 1e6)
    assert found.policy["TargetValue"] == found.target_per_instance


def test_bursts_bind_where_load_hardly_rises() -> None:
    demand = sizing.Demand(100, 100, rise_per_minute=0.0, burst=2.0)
    found = sizing.size(100, demand, sizing.Delays(), price_per_hour=1)
    assert (found.safety_factor, found.instances) == (0.5, 2)
    assert "busiest second" in found.binds
    with pytest.raises(Unusable):
        sizing.size(0, demand, sizing.Delays(), 1)


def test_the_burst_of_a_trace_is_its_busiest_second() -> None:
    seconds = np.concatenate([np.repeat(np.arange(60), 2), np.full(60, 7), [120]])
    assert sizing.burst_of(np.sort(seconds) * 1_000_000_000) == pytest.approx(62 / 3)
    with pytest.raises(Unusable, match="--burst"):
        sizing.burst_of(np.arange(10) * 1_000_000_000)


def test_a_burst_that_nobody_measured_is_said_to_be_assumed() -> None:
    assumed = sizing.size(10, sizing.Demand(100, 100, burst_known=False), sizing.Delays(), 1.0)
    measured = sizing.size(10, sizing.Demand(100, 100), sizing.Delays(), 1.0)
    assert any("assumed, not measured" in name for name in assumed.bounds)
    assert not any("assumed" in name for name in measured.bounds)
    assert assumed.instances == measured.instances


@pytest.mark.parametrize(
    ("ratio", "low", "high", "fails", "holds"),
    [
        (1.2, 1.1, 1.3, True, False),
        (1.2, 0.9, 1.6, False, False),
        (1.0, 0.99, 1.02, False, True),
        (0.8, 0.7, 0.9, False, True),
    ],
)
def test_a_gate_holds_fails_or_is_undecided(ratio: float, low: float, high: float, fails: bool, holds: bool) -> None:
    found = compare.Comparison(0.99, ratio, low, high, 0.02, "", "", ())
    gate = compare.gate("p99:+5%")
    assert (compare.failed(found, gate), compare.holds(found, gate)) == (fails, holds)
