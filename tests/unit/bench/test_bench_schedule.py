"""Schedules: known in advance, seeded, never drifting."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.errors import Unusable
from bench.load import schedule

rates = st.floats(min_value=0.5, max_value=5_000)
durations = st.floats(min_value=0.05, max_value=3)


@settings(derandomize=True, deadline=None, max_examples=60)
@given(arrivals=st.sampled_from(schedule.ARRIVALS), rate=rates, duration=durations, seed=st.integers(0, 2**32))
def test_instants_ascend_within_the_duration(arrivals: str, rate: float, duration: float, seed: int) -> None:
    offsets = schedule.build(arrivals, rate, duration, seed).offsets_ns
    assert offsets.dtype == np.int64
    assert (np.diff(offsets) >= 0).all()
    assert len(offsets) == 0 or (offsets[0] >= 0 and offsets[-1] < duration * 1e9)


@settings(derandomize=True, deadline=None, max_examples=60)
@given(rate=rates, duration=durations)
def test_constant_arrivals_do_not_drift(rate: float, duration: float) -> None:
    offsets = schedule.constant_offsets_ns(rate, duration)
    ideal = np.arange(len(offsets)) * (1e9 / rate)
    assert (np.abs(offsets - ideal) <= 1).all()
    assert abs(len(offsets) - rate * duration) <= 1


def test_the_seed_decides_poisson_arrivals() -> None:
    same = schedule.build("poisson", 100, 2, 7).offsets_ns, schedule.build("poisson", 100, 2, 7).offsets_ns
    other = schedule.build("poisson", 100, 2, 8).offsets_ns
    assert np.array_equal(*same)
    assert not np.array_equal(same[0], other)


def test_poisson_gaps_are_exponential() -> None:
    gaps_s = np.diff(schedule.build("poisson", 1_000, 60, 3).offsets_ns) / 1e9
    assert gaps_s.mean() == pytest.approx(1e-3, rel=0.02)
    assert gaps_s.std() == pytest.approx(1e-3, rel=0.03)  # an exponential's deviation is its mean
    assert (gaps_s > 2e-3).mean() == pytest.approx(np.exp(-2), rel=0.05)


@pytest.mark.parametrize(
    ("arrivals", "rate", "duration", "words"),
    [
        ("uniform", 1, 1, "unknown arrivals"),
        ("poisson", 0, 1, "rate"),
        ("poisson", float("nan"), 1, "rate"),
        ("constant", 1, -1, "duration"),
        ("constant", 1e6, 1e6, "more than"),
    ],
)
def test_what_makes_no_load_is_refused_in_words(arrivals: str, rate: float, duration: float, words: str) -> None:
    with pytest.raises(Unusable, match=words):
        schedule.build(arrivals, rate, duration, 1)
