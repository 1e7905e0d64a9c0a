"""Interventions: which experiment a cause gets, and that only what its outcome shows is called proven."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from bench.experiments import alternation
from bench.experiments.blocks import Block
from bench.explain import interventions
from bench.explain.changes import Change
from bench.explain.interventions import Subject
from bench.explain.ratio import Ratio
from bench.explain.verdict import LIKELY, P99_MS, PROVEN, RULED_OUT, UNDECIDED, Cause, Gain
from tests.unit.bench.known import known

STAGES_US = {"decode": 100.0, "compute": 4_000.0, "encode": 300.0}
SUBJECT = Subject(
    rate_per_s=300.0, rows=4, binary=False, payloads=8, timer_us=2_000, slows=True, p99_ms=40.0, p50_ms=20.0,
    stages_us=STAGES_US, answered_per_s=300.0,
)  # fmt: skip
SAME = Ratio(1.0, 0.95, 1.05)
HALF = Ratio(0.5, 0.4, 0.62)


@pytest.mark.parametrize(
    ("cause", "change"),
    [
        ("capacity", Change(rate=0.5)),
        ("serial", None),
        ("batch_timer", Change(max_queue_delay_us=0)),
        ("codec", None),
        ("bandwidth", None),
        ("input_size", None),
        ("hardware", Change(extra_us=2_000)),
    ],
)
def test_each_cause_has_the_experiment_that_tells_it(cause: str, change: Change | None) -> None:
    found = known(interventions.experiment(cause, SUBJECT))
    assert (found.cause, found.change) == (cause, change)


CLOSED = Subject(None, 0, binary=True, payloads=1, timer_us=None, slows=False, p99_ms=40.0, p50_ms=20.0)
ABLE = replace(SUBJECT, ahead=True, unquota=True, copies=True, cores=2, threads=12, instances=1, collects=True)


@pytest.mark.parametrize(
    ("subject", "causes"),
    [
        (SUBJECT, "neighbour cpu_quota stall cold_start generator other_traffic none"),
        (ABLE, "network_latency other_traffic model_size"),
        (CLOSED, "capacity batch_timer codec bandwidth input_size hardware"),
        (replace(ABLE, threads=1), "threads"),
        (replace(ABLE, threads=2), "threads"),
        (replace(SUBJECT, copies=True, single_load=0.8), "padding"),  # alone it cannot keep up
    ],
)
def test_what_cannot_be_changed_has_no_experiment(subject: Subject, causes: str) -> None:
    assert [one for one in causes.split() if interventions.experiment(one, subject) is not None] == []


@pytest.mark.parametrize("cause", ["neighbour", "cpu_quota", "stall", "cold_start", "threads"])
def test_what_can_be_changed_beside_the_server_has_one(cause: str) -> None:
    found = known(interventions.experiment(cause, ABLE))
    assert found.hold or found.flags or found.first_request or found.stage == "gc"


@pytest.mark.parametrize(
    ("cause", "needs"),
    [
        ("connections", {"churns": True}),
        ("generator", {"own_ahead": True}),
        ("padding", {"copies": True, "single_load": 0.2}),
    ],
)
def test_these_have_one_where_it_can_be_made(cause: str, needs: dict[str, Any]) -> None:
    assert interventions.experiment(cause, replace(SUBJECT, **needs)) is not None
    assert interventions.experiment(cause, SUBJECT) is None


@pytest.mark.parametrize(
    ("rate_per_s", "users", "answered_per_s", "share"),
    [(300.0, None, 299.0, 0.5), (300.0, None, 100.0, 1 / 6), (300.0, None, 0.0, 0.5), (None, 8, 50.0, None)],
)
def test_half_the_load_is_half_of_what_the_server_can_answer(
    rate_per_s: float | None, users: int | None, answered_per_s: float, share: float | None
) -> None:
    subject = replace(SUBJECT, rate_per_s=rate_per_s, users=users, answered_per_s=answered_per_s)
    found = known(interventions.experiment("capacity", subject))
    assert (None if found.change is None else found.change.rate) == pytest.approx(share)
    assert interventions.experiment("capacity", replace(subject, rate_per_s=None, users=1)) is None


@pytest.mark.parametrize(
    ("cause", "rate_per_s", "stage", "extra_us", "rival", "rival_us"),
    [
        ("hardware", 300.0, "compute", 2_000, "encode", 150),  # more would be too much for one core
        ("hardware", 30.0, "compute", 4_000, "encode", 300),
        ("hardware", None, "compute", 2_000, "encode", 150),
        ("codec", 300.0, "encode", 300, "compute", 4_000),
    ],
)
def test_a_stage_and_its_rival_get_the_same_share_of_their_own_time_more(
    cause: str, rate_per_s: float | None, stage: str, extra_us: int, rival: str, rival_us: int
) -> None:
    subject = replace(SUBJECT, rate_per_s=rate_per_s, rows=0)
    found = known(interventions.experiment(cause, subject))
    assert found.rival is not None
    assert (found.stage, found.extra_us, found.stage_us) == (stage, extra_us, STAGES_US[stage])
    assert (found.rival.stage, found.rival.extra_us) == (rival, rival_us)
    told = known(interventions.expected(found, Cause(cause, LIKELY, (), "", Gain(1.0, 2.0), ""), 20.0, 40.0))
    more_ms = extra_us / 1e3
    assert told.low < 1 + more_ms / 40 < 1 + more_ms / 20 < told.high


@pytest.mark.parametrize("busy", [0.05, 0.2, 0.4, 0.55])
@pytest.mark.parametrize("rest_ms", [1.0, 40.0])
def test_a_forecast_of_longer_runs_holds_where_they_queue(busy: float, rest_ms: float) -> None:
    """Runs of 30 ms that take turns, and a rest of the latency that does not."""

    def percentiles(took_ms: float) -> tuple[float, float]:
        arrivals_ms = np.random.default_rng(0).exponential(30.0 / busy, 20_000).cumsum()
        ends_ms, free_ms = [], 0.0
        for arrival_ms in arrivals_ms:
            free_ms = max(free_ms, arrival_ms) + took_ms
            ends_ms.append(free_ms - arrival_ms + rest_ms)
        p50, p99 = np.quantile(ends_ms, [0.5, 0.99])
        return float(p50), float(p99)

    p50_ms, p99_ms = percentiles(30.0)
    subject = replace(
        SUBJECT, rate_per_s=busy * 1e3 / 30, stages_us={"compute": 30_000.0}, p50_ms=p50_ms, p99_ms=p99_ms
    )
    found = known(interventions.experiment("hardware", subject))
    assert found.expected is not None
    longer_ms, _ = percentiles(30.0 + found.extra_us / 1e3)
    assert found.expected[0] <= longer_ms / p50_ms <= found.expected[1]


@pytest.mark.parametrize(
    ("seen", "placebo", "told", "confidence"),
    [
        (HALF, SAME, Ratio(0.55, 0.4, 0.7), PROVEN),
        (HALF, SAME, None, None),
        (HALF, SAME, Ratio(0.95, 0.85, 1.1), None),  # the forecast does not exclude no effect
        (HALF, SAME, Ratio(0.93, 0.92, 0.95), None),  # an effect too small for a few blocks
        (HALF, HALF, Ratio(0.55, 0.4, 0.7), UNDECIDED),  # the placebo does as much
        (HALF, Ratio(0.65, 0.5, 0.8), Ratio(0.55, 0.4, 0.7), UNDECIDED),
        (Ratio(0.5, 0.2, 1.2), SAME, Ratio(0.55, 0.4, 0.7), None),  # may be chance, and may be the cause
        (Ratio(0.2, 0.15, 0.25), SAME, Ratio(0.55, 0.4, 0.7), UNDECIDED),  # more than this cause explains
        (SAME, SAME, Ratio(0.55, 0.4, 0.7), RULED_OUT),
        (Ratio(1.5, 1.3, 1.7), SAME, Ratio(1.5, 1.2, 1.9), PROVEN),
        (SAME, SAME, Ratio(1.5, 1.2, 1.9), RULED_OUT),
        (HALF, SAME, Ratio(1.5, 1.2, 1.9), RULED_OUT),
    ],
)
def test_a_proof_needs_an_effect_a_forecast_and_a_weaker_placebo(
    seen: Ratio, placebo: Ratio, told: Ratio | None, confidence: str | None
) -> None:
    assert interventions.judge(seen, placebo, told)[0] == confidence


def decide(random: np.random.Generator, effect: float, told: Ratio, scatter: float) -> str | None:
    """One confirmation whose blocks scatter by ``scatter`` and whose experiment really multiplies by ``effect``.

    Blocks of a cycle have arrivals in common, and the machine drifts from one block to the next."""
    cycles: list[alternation.Cycle] = []
    drift = 1.0
    for _ in range(alternation.PAIRS // 2):
        arrivals = 20 * np.exp(random.normal(0, 0.3))
        blocks: dict[str, list[Block]] = {alternation.OLD: [], alternation.NEW: []}
        for side in (alternation.OLD, alternation.NEW, alternation.NEW, alternation.OLD):
            drift *= np.exp(random.normal(0, scatter / 3))
            ms = arrivals * drift * (effect if side == alternation.NEW else 1.0) * np.exp(random.normal(0, scatter))
            blocks[side].append(Block({"p99": float(ms)}))
        cycles.append({side: (first, second) for side, (first, second) in blocks.items()})
    found = alternation.effect(cycles, ["p99"])
    return interventions.judge(found.change, found.placebo, told, found.agree)[0]


@pytest.mark.parametrize("scatter", [0.03, 0.1, 0.25])
@pytest.mark.parametrize("told", [Ratio(0.5, 0.35, 0.7), Ratio(0.8, 0.7, 0.9), Ratio(1.4, 1.15, 1.7)])
def test_no_experiment_without_an_effect_is_a_proof(told: Ratio, scatter: float) -> None:
    """A/A: 200 confirmations of a change that changes nothing."""
    random = np.random.default_rng(13)
    assert PROVEN not in [decide(random, 1.0, told, scatter) for _ in range(200)]


def test_a_true_effect_is_proven_on_a_quiet_machine() -> None:
    random = np.random.default_rng(13)
    found = [decide(random, 0.5, Ratio(0.5, 0.35, 0.7), 0.06) for _ in range(100)]
    assert found.count(PROVEN) >= 95


def cause(name: str, low: float | None = 10.0, high: float | None = 20.0, unit: str = P99_MS) -> Cause:
    return Cause(name, LIKELY, ("because",), "do", Gain(low, high, unit), "prove")


def test_the_gain_of_the_verdict_is_a_forecast_where_nothing_can_be_simulated() -> None:
    codec = known(interventions.experiment("codec", SUBJECT))
    found = known(interventions.expected(codec, cause("codec"), 20.0, 40.0))
    assert (found.low, found.high) == pytest.approx((1 - interventions.ESTIMATE * 0.5, 0.85))
    lower = known(interventions.expected(codec, cause("codec"), 20.0, 40.0, at_ms=20.0))
    assert (lower.low, lower.high) == pytest.approx((interventions.LEAST_RATIO, 0.85))
    of_tail = known(interventions.expected(replace(codec, of_tail=True), cause("codec"), 20.0, 40.0, at_ms=36.0))
    assert (of_tail.low, of_tail.high) == pytest.approx(((1 - interventions.ESTIMATE * 0.5) ** 1.5, 0.85**0.5))
    # As many milliseconds are nearly all of a percentile that is half as long.
    shorter = known(interventions.expected(replace(codec, of_tail=True), cause("codec"), 20.0, 40.0, at_ms=30.0))
    assert (shorter.low, shorter.high) == pytest.approx((1 - interventions.ESTIMATE * 20 / 30, 0.85**0.5))
    assert interventions.expected(codec, cause("codec", None, None), 20.0, 40.0) is None
    assert interventions.expected(codec, cause("codec", unit="s"), 20.0, 40.0) is None
    serial = known(interventions.experiment("serial", SUBJECT))
    own = known(interventions.expected(serial, cause("serial", None, None), 20.0, 40.0))
    assert own.value == pytest.approx(math.sqrt(0.2 * 0.45))
