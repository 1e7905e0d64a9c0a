"""Where a warm-up ends, and whether an objective is met."""

from __future__ import annotations

import numpy as np
import pytest

from bench.errors import Unusable
from bench.load.measurements import Outcome
from bench.result import objective, warmup
from bench.result import statistics as stats


def test_mser_cuts_a_warm_up_and_little_else() -> None:
    random = np.random.default_rng(1)
    calm = random.exponential(1e6, 5_000)
    calm[:400] += np.linspace(2e7, 1e6, 400)
    cut = warmup.mser5(calm.astype(np.int64))
    assert cut.steady
    assert 350 <= cut.rows <= 900


def test_mser_leaves_a_steady_run_alone() -> None:
    cuts = [warmup.mser5(np.random.default_rng(seed).exponential(1e6, 4_000).astype(np.int64)) for seed in range(20)]
    assert all(one.steady for one in cuts)
    assert np.median([one.rows for one in cuts]) <= 400


def test_mser_says_when_a_run_never_settled() -> None:
    rising = (np.arange(4_000) * 1e5 + np.random.default_rng(1).exponential(1e6, 4_000)).astype(np.int64)
    assert not warmup.mser5(rising).steady
    assert warmup.mser5(rising[:50]) == warmup.Cut(0, steady=True)


@pytest.mark.parametrize(
    ("text", "found"),
    [("p99:50ms", (0.99, 50)), ("p50:0.2s", (0.5, 200)), ("p99.9:800us", (0.999, 0.8)), ("p95:5", (0.95, 5))],
)
def test_an_objective_is_read(text: str, found: tuple[float, float]) -> None:
    read = objective.parse(text)
    assert (read.quantile, read.limit_ms) == pytest.approx(found)


@pytest.mark.parametrize("text", ["p99", "99:50ms", "p100:5ms", "p0:5ms", "p99:", "p99:0ms", "p99:-5ms", "p99:5h"])
def test_what_is_no_objective_is_refused(text: str) -> None:
    with pytest.raises(Unusable):
        objective.parse(text)


@pytest.mark.parametrize(
    ("low", "high", "state"),
    [(10.0, 40.0, "met"), (60.0, 90.0, "missed"), (45.0, 55.0, "undecided"), (10.0, None, "undecided")],
)
def test_an_objective_is_judged_by_the_whole_interval(low: float, high: float | None, state: str) -> None:
    window = {
        "due_ns": np.zeros(4, dtype=np.int64),
        "last_byte_ns": np.array([1, 49, 51, 10], dtype=np.int64) * 1_000_000,
        "outcome": np.full(4, Outcome.OK),
    }
    found = stats.Percentile(0.99, 50.0, low, high, "repeats", False, 1_000, 473)
    judged = objective.judge(objective.parse("p99:50ms"), found, window, seconds=2.0)
    assert (judged.state, judged.good_share, judged.goodput_per_s) == (state, 0.75, 1.5)
    window["outcome"][3] = Outcome.STATUS
    assert objective.judge(objective.parse("p99:50ms"), found, window, 2.0).state == "missed"
    assert objective.judge(objective.parse("p99:50ms"), None, window, 2.0).state == "unknown"
