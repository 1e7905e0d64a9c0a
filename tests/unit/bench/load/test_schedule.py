"""Schedules: known in advance, seeded, never drifting, as bursty as asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.errors import Unusable
from bench.load import arrivals, schedule, trace

SPECS = ("poisson", "constant", "gamma:0.5", "gamma:3", "mmpp:8x0.2")
PROFILES = ("steps:100x1,300x2", "ramp:0-400x2", "steps:50x0.5,50-500x1,0x0.5,20x1")
rates = st.floats(min_value=0.5, max_value=5_000)
durations = st.floats(min_value=0.05, max_value=3)


@given(spec=st.sampled_from(SPECS), rate=rates, duration=durations, seed=st.integers(0, 2**32))
def test_instants_ascend_within_the_duration(spec: str, rate: float, duration: float, seed: int) -> None:
    offsets = schedule.build(spec, rate, duration, seed).offsets_ns
    assert offsets.dtype == np.int64
    assert (np.diff(offsets) >= 0).all()
    assert len(offsets) == 0 or (offsets[0] >= 0 and offsets[-1] < duration * 1e9)


@settings(max_examples=40)
@given(spec=st.sampled_from((*SPECS, *PROFILES)), seed=st.integers(0, 100), parts=st.integers(1, 7))
def test_the_shares_of_processes_are_the_whole_schedule(spec: str, seed: int, parts: int) -> None:
    whole = schedule.build(spec, None if spec in PROFILES else 200, 1, seed)
    rebuilt = np.full(len(whole.offsets_ns), -1, dtype=np.int64)
    for part in range(parts):
        share = whole.share(part, parts)
        rebuilt[share.first :: share.step] = share.offsets_ns
    assert np.array_equal(rebuilt, whole.offsets_ns)


@given(rate=rates, duration=durations)
def test_constant_arrivals_do_not_drift(rate: float, duration: float) -> None:
    offsets = schedule.build("constant", rate, duration, 1).offsets_ns
    ideal = np.arange(len(offsets)) * (1e9 / rate)
    assert (
        np.abs(offsets - ideal) < 1.001
    ).all()  # truncated to whole nanoseconds, and a float of 1e9 is exact to 1e-7
    assert abs(len(offsets) - rate * duration) <= 1


@pytest.mark.parametrize("spec", [*SPECS, *PROFILES])
def test_the_seed_decides(spec: str) -> None:
    rate = None if spec in PROFILES else 100
    same = schedule.build(spec, rate, 2, 7).offsets_ns, schedule.build(spec, rate, 2, 7).offsets_ns
    other = schedule.build(spec, rate, 2, 8).offsets_ns
    assert np.array_equal(*same)
    assert np.array_equal(same[0], other) == (spec == "constant")


def test_poisson_gaps_are_exponential() -> None:
    gaps_s = np.diff(schedule.build("poisson", 1_000, 60, 3).offsets_ns) / 1e9
    assert gaps_s.mean() == pytest.approx(1e-3, rel=0.02)
    assert gaps_s.std() == pytest.approx(1e-3, rel=0.03)  # an exponential's deviation is its mean
    assert (gaps_s > 2e-3).mean() == pytest.approx(np.exp(-2), rel=0.05)


@pytest.mark.parametrize("variation", [0.3, 0.5, 2.0, 4.0])
def test_gamma_gaps_vary_as_much_as_asked(variation: float) -> None:
    gaps_s = np.diff(schedule.build(f"gamma:{variation}", 1_000, 100, 5).offsets_ns) / 1e9
    assert gaps_s.mean() == pytest.approx(1e-3, rel=0.05)
    assert gaps_s.std() / gaps_s.mean() == pytest.approx(variation, rel=0.05)


def test_modulated_arrivals_keep_the_mean_rate_and_clump() -> None:
    """The index of dispersion of counts is 1 for Poisson; modulation at a slower pace than the count raises it."""
    offsets_s = schedule.build("mmpp:9x0.5", 200, 2_000, 2).offsets_ns / 1e9
    counts = np.bincount(offsets_s.astype(int), minlength=2_000)
    assert counts.mean() == pytest.approx(200, rel=0.08)
    assert counts.var() / counts.mean() > 20


def test_a_profile_follows_its_segments() -> None:
    plan = schedule.build("steps:100x10,0x5,300x10", None, 1, 4)
    assert (plan.duration_s, plan.rate_per_s) == (25, 160)
    seconds = plan.offsets_ns / 1e9
    assert (seconds < 10).sum() == pytest.approx(1_000, abs=100)
    assert not ((seconds >= 10) & (seconds < 15)).any()
    assert (seconds >= 15).sum() == pytest.approx(3_000, abs=170)


def test_a_ramp_rises_in_a_straight_line() -> None:
    seconds = schedule.build("ramp:0-1000x60", None, 1, 4).offsets_ns / 1e9
    quarters = np.histogram(seconds, bins=4, range=(0, 60))[0] / len(seconds)
    assert quarters == pytest.approx([1 / 16, 3 / 16, 5 / 16, 7 / 16], abs=0.01)


def test_a_trace_comes_back_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "t.trace"
    rows = [trace.Arrival(7.5, 10, "k", "a.json"), trace.Arrival(5.0), trace.Arrival(6.0, payload="b.json")]
    made = trace.make("log", rows)
    trace.write(path, made)
    plan = schedule.build(f"trace:{path}", None, 1, 1)
    assert plan.offsets_ns.tolist() == [0, 1_000_000_000, 2_500_000_000]
    assert plan.duration_s == pytest.approx(3.75)
    assert plan.payload_names == (None, "b.json", "a.json")
    back = trace.read(path)
    assert (back.bytes_in.tolist(), back.keys) == ([-1, -1, 10], (None, None, "k"))
    assert trace.faster(back, 2).offsets_ns.tolist() == [0, 500_000_000, 1_250_000_000]
    assert trace.faster(back, 2).rate_per_s == pytest.approx(2 * back.rate_per_s)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "line 1 is not JSON"),
        ('{"schema": "other"}', "is no trace"),
        ('{"schema": "slipway.bench.trace/1", "duration_s": 1}', "holds no request"),
        ('{"schema": "slipway.bench.trace/1", "duration_s": 1}\n{"at_s": -1}', "line 2: at_s"),
        ('{"schema": "slipway.bench.trace/1", "duration_s": 1}\n[]', "line 2 is no JSON object"),
        ('{"schema": "slipway.bench.trace/1", "duration_s": 1}\n{"at_s": 0, "bytes": "x"}', "bytes"),
    ],
)
def test_a_broken_trace_is_refused_with_its_line(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "t.trace"
    path.write_text(text)
    with pytest.raises(Unusable, match=words):
        trace.read(path)


@pytest.mark.parametrize(
    "spec",
    ["uniform", "gamma:", "gamma:-1", "gamma:nan", "mmpp:3", "steps:", "steps:100", "steps:0x5", "ramp:1-x5", "trace:"],
)
def test_unreadable_arrivals_are_refused_with_the_ways_of_writing_them(spec: str) -> None:
    with pytest.raises(Unusable, match="gamma:CV"):
        arrivals.parse(spec)


@pytest.mark.parametrize(
    ("spec", "rate", "duration", "words"),
    [
        ("poisson", 0, 1, "rate"),
        ("poisson", None, 1, "give --rate"),
        ("steps:1x1", 5, 1, "leave --rate out"),
        ("poisson", float("nan"), 1, "rate"),
        ("constant", 1, -1, "duration"),
        ("constant", 1e6, 1e6, "more than"),
    ],
)
def test_what_makes_no_load_is_refused_in_words(spec: str, rate: float | None, duration: float, words: str) -> None:
    with pytest.raises(Unusable, match=words):
        schedule.build(spec, rate, duration, 1)
