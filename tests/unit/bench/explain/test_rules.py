"""The rules of the verdict: from the facts that a plant leaves, its cause comes first; without a plant, none does."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench.explain import judgement, turns
from bench.explain.facts import Cold, Facts, Host, Load, Model
from bench.explain.stages import TERMS
from bench.explain.stalls import Stalls
from bench.load.burst import Burst, Together

COMMAND = "python -m bench run http://127.0.0.1:8080 --rate 40"
ONE_BY_ONE, AT_ONCE = 1.0, 0.0


def terms(**ms: float) -> dict[str, float]:
    return {**dict.fromkeys(TERMS, 0.0), **ms}


def burst(alone_ms: float = 6.0, serial: float = AT_ONCE, **fields: object) -> Burst:
    """The probe of a server that adds ``serial`` times the latency alone for each further request."""
    together = tuple(Together(size, tuple(alone_ms * (1 + serial * at) for at in range(size))) for size in (2, 4, 8))
    found = Burst(
        alone_ms=alone_ms, floor_ms=0.4, connect_ms=0.2, fresh_ms=alone_ms + 0.3, together=together,
        stagger_ms=alone_ms / 2, staggered_ms=alone_ms * (1 + serial / 2), padding_bytes=20_000, padded_ms=alone_ms,
        reading_ms=0.0, reply_bytes=25, cpu_ms=0.8 * alone_ms, run_delay_ms=0.0, quiet_cores=0.0, requests=100,
        failed=0, seconds=2.0,
    )  # fmt: skip
    return replace(found, **fields)  # type: ignore[arg-type]


LOAD = Load(
    offered_per_s=40.0, answered_per_s=40.0, failed_share=0.0, shed_share=0.0, requests=500, connections=6,
    run_delay=0.0, generator_cpu=0.05, resent=0, json_ms=0.02, body_bytes=500.0, payloads=1,
)  # fmt: skip
HOST = Host(
    here=True, cores=2.0, server_cores=0.2, busiest_thread=0.2, other_cores=0.0, run_delay=0.0, throttled=0.0,
    steal=0.0, major_faults=0.0, rss_bytes=8e7, own_bytes=4e7, memory_bytes_per_s=1e10, strangers=0.0,
)  # fmt: skip


def facts(p50_ms: float = 6.0, p99_ms: float = 9.0, **fields: object) -> Facts:
    """A foreign server at ease, with the fields that a plant changes."""
    made = Facts(
        p50_ms, p99_ms, terms(residual=p50_ms), terms(residual=p99_ms), with_server=False, load=LOAD, host=HOST,
        burst=burst(),
    )  # fmt: skip
    return replace(made, **fields)  # type: ignore[arg-type]


def slipway(typical: dict[str, float], slow: dict[str, float], **fields: object) -> Facts:
    """A server with stage times."""
    p50_ms, p99_ms = sum(typical.values()), sum(slow.values())
    fields = {"burst": burst(p50_ms), **fields}
    return facts(p50_ms, p99_ms, typical=terms(**typical), slow=terms(**slow), with_server=True, **fields)


PLANTS: dict[str, tuple[str, Facts]] = {
    "at ease": ("none", facts()),
    "a long sleep in parallel": ("none", facts(60, 65, burst=burst(60, cpu_ms=3.0))),
    "more requests than it can answer": (
        "capacity",
        facts(900, 3000, load=replace(LOAD, offered_per_s=80, answered_per_s=40), growing=4.0, burst=burst(20)),
    ),
    "requests refused for load": ("capacity", facts(6, 9, load=replace(LOAD, shed_share=0.3, failed_share=0.3))),
    "a busy server with waiting requests": (
        "capacity",
        facts(20, 80, host=replace(HOST, server_cores=1.7), burst=burst(20)),
    ),
    "a lock around a sleep": (
        "serial",
        facts(60, 200, burst=burst(24, ONE_BY_ONE, cpu_ms=3.0), load=replace(LOAD, answered_per_s=35)),
    ),
    "a saturated lock": (
        "serial",
        facts(
            900, 3000, growing=4.0, burst=burst(24, ONE_BY_ONE, cpu_ms=3.0),
            load=replace(LOAD, offered_per_s=80, answered_per_s=41),
        ),
    ),
    "a batch timer": ("batch_timer", facts(35, 38, burst=burst(36, staggered_ms=18.0, cpu_ms=3.0))),
    "a computing model": ("hardware", facts(40, 45, burst=burst(38))),
    "JSON that takes long": ("codec", facts(90, 100, burst=burst(85), load=replace(LOAD, json_ms=30.0))),
    "a slow link": (
        "bandwidth",
        facts(60, 70, burst=burst(60, padded_ms=115.0, cpu_ms=4.0, padding_bytes=40_000),
              load=replace(LOAD, body_bytes=40_000)),
    ),
    "a long way": ("network_latency", facts(86, 90, burst=burst(86, floor_ms=80.0, cpu_ms=4.0))),
    "large weights": ("model_size", facts(60, 65, burst=burst(58), host=replace(HOST, own_bytes=5e8))),
    "pages read from disk": ("model_size", facts(60, 65, host=replace(HOST, major_faults=500.0))),
    "a CPU quota": ("cpu_quota", facts(40, 160, host=replace(HOST, throttled=0.4, quota_cores=0.2))),
    "other programs": (
        "neighbour",
        facts(9, 40, host=replace(HOST, other_cores=1.8, run_delay=0.3), burst=burst(8, run_delay_ms=6.0)),
    ),
    "stolen cores": ("neighbour", facts(9, 40, host=replace(HOST, steal=0.3))),
    "stops of the process": ("stall", facts(6, 280, stalls=Stalls(5, 300.0, 1500.0, 1.0, 0.0))),
    "a burst of threads": (
        "threads",
        facts(130, 200, burst=burst(130, cpu_ms=240.0, run_delay_ms=900.0), host=replace(HOST, run_delay=3.0)),
    ),
    "some long inputs": ("input_size", facts(6, 90, input_ms=80.0, stalls=Stalls(9, 90.0, 500.0, 1.0, 1.0))),
    "a cold start": ("cold_start", facts(6, 9, cold=Cold(1, 1500.0, 6.0, 0.0))),
    "closed connections": ("connections", facts(6, 9, load=replace(LOAD, connections=500))),
    "another client": (
        "other_traffic",
        facts(30, 90, host=replace(HOST, strangers=3.0, server_cores=0.5), burst=burst(20, quiet_cores=0.4)),
    ),
    "another client with short connections": (
        "other_traffic",
        facts(30, 90, host=replace(HOST, strangers=0.3, server_cores=0.5), burst=burst(20, quiet_cores=0.3)),
    ),
    "a proxy that keeps no connection": (
        "connections",
        slipway({"compute": 5}, {"compute": 6}, model=Model(requests_share=1.0, connections_share=1.0)),
    ),
    "a late generator": (
        "generator",
        facts(6, 50, slow=terms(send_lag=40.0, residual=10.0)),
    ),
    "stages: a timer": ("batch_timer", slipway({"queue_timer": 9, "compute": 2}, {"queue_timer": 10, "compute": 3})),
    "stages: a codec": ("codec", slipway({"decode": 20, "compute": 5}, {"decode": 25, "compute": 6})),
    "stages: a link": ("bandwidth", slipway({"receive": 40, "compute": 5}, {"receive": 60, "compute": 5})),
    "stages: padding": (
        "padding",
        slipway({"compute": 20}, {"compute": 30}, model=Model(waste=0.7)),
    ),
    "stages: other clients": (
        "other_traffic",
        slipway({"compute": 5}, {"compute": 5, "queue_busy": 30}, model=Model(requests_share=0.3)),
    ),
    "stages: one instance that waits": (
        "serial",
        slipway(
            {"compute": 20, "queue_busy": 10}, {"compute": 20, "queue_busy": 80},
            burst=burst(21, ONE_BY_ONE, cpu_ms=1.0), model=Model(utilisation=0.8),
        ),
    ),
    "stages: overload": (
        "capacity",
        slipway(
            {"compute": 20, "queue_busy": 500}, {"compute": 20, "queue_busy": 2000}, burst=burst(21, 0.5),
            load=replace(LOAD, offered_per_s=100, answered_per_s=60), model=Model(utilisation=1.0),
        ),
    ),
    "stages: weights": (
        "model_size",
        slipway({"compute": 40}, {"compute": 42}, model=Model(weights_ms=30.0, file_bytes=3e8)),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PLANTS)
def test_the_planted_cause_comes_first(name: str) -> None:
    wanted, planted = PLANTS[name]
    found = judgement.judge(planted, COMMAND).causes
    assert found[0].name == wanted, [(one.name, one.gain) for one in found]
    assert 1 <= len(found) <= 3
    assert all(one.evidence and one.do and one.prove for one in found)
    assert all(0 <= (one.gain.low or 0) <= (one.gain.high or 0) for one in found)
    assert all((one.gain.high or 0) <= planted.p99_ms for one in found if one.gain.unit == "ms of p99")


def test_every_name_of_a_cause_has_a_plant() -> None:
    assert set(judgement.REMEDIES) == {wanted for wanted, _ in PLANTS.values()}


def test_a_cause_with_two_faults_keeps_both() -> None:
    both = facts(30, 400, stalls=Stalls(5, 300.0, 1500.0, 0.9, 0.0), burst=burst(30, staggered_ms=15.0, cpu_ms=2.0))
    assert {one.name for one in judgement.judge(both, COMMAND).causes} == {"stall", "batch_timer"}


def test_too_few_requests_give_no_verdict_that_sounds_sure() -> None:
    (only,) = judgement.judge(None, COMMAND).causes
    assert (only.name, only.confidence) == ("none", "undecided")


def test_half_the_rate_proves_a_queue() -> None:
    _, planted = PLANTS["a lock around a sleep"]
    assert judgement.judge(planted, COMMAND).causes[0].prove.endswith("--rate 20")


def test_a_cause_is_ruled_out_by_figures_and_not_by_their_absence() -> None:
    assert "cpu_quota" in judgement.judge(facts(), COMMAND).ruled_out
    assert "cpu_quota" not in judgement.judge(facts(host=Host(here=False)), COMMAND).ruled_out


@pytest.mark.parametrize(("serial", "in_order"), [(ONE_BY_ONE, True), (AT_ONCE, True)])
def test_turns_of_a_queue_and_of_a_parallel_server(serial: float, in_order: bool) -> None:
    found = turns.of(burst(20, serial), 500)
    assert found is not None
    assert found.serial == pytest.approx(serial * 20 / 19.6)
    assert found.in_order == in_order
    assert found.timer_ms == 0


def test_threads_that_share_a_core_are_not_in_order() -> None:
    shared = tuple(Together(size, (20.0 * size,) * size) for size in (2, 4, 8))
    found = turns.of(burst(20, together=shared, staggered_ms=30.0), 500)
    assert found is not None
    assert found.serial > turns.SERIAL_FROM
    assert not found.in_order


def test_a_rule_says_nothing_where_the_probe_failed() -> None:
    assert turns.of(burst(together=(Together(8, ()),)), 500) is None
    assert judgement.judge(facts(burst=None, quick_ms=5.0), COMMAND).causes[0].name == "none"


def names(found: Facts) -> list[str]:
    return [one.name for one in judgement.judge(found, COMMAND).causes]


def test_threads_whose_cores_other_programs_hold_are_not_too_many() -> None:
    waiting = burst(40, cpu_ms=20.0, run_delay_ms=120.0)
    busy = facts(40, 160, burst=waiting, host=replace(HOST, other_cores=1.9, run_delay=0.6))
    assert names(busy)[0] == "neighbour"
    assert "threads" not in names(busy)


def test_a_timer_in_every_request_is_not_hidden_by_noise_in_the_tail() -> None:
    typical, slow = {"queue_timer": 43.0, "compute": 7.0}, {"queue_timer": 40.0, "queue_busy": 300.0, "compute": 60.0}
    noisy = slipway(typical, slow, host=replace(HOST, other_cores=1.5, run_delay=0.4, server_cores=0.3))
    assert names(noisy).index("batch_timer") <= 1


@pytest.mark.parametrize(("lag_ms", "named"), [(1.6, False), (4.0, True), (8.0, True)])
def test_a_small_lag_of_the_generator_is_usual(lag_ms: float, named: bool) -> None:
    found = facts(1.2, lag_ms + 4.8, slow=terms(send_lag=lag_ms, residual=4.8), burst=burst(1.0))
    assert ("generator" in names(found)) == named


def test_a_wait_within_the_codec_in_the_tail_alone_is_not_its_work() -> None:
    found = slipway({"decode": 0.3, "scatter": 0.2, "compute": 5.0}, {"scatter": 6.0, "compute": 9.0})
    assert names(found) == ["none"]


def test_a_run_that_waits_is_not_called_computing() -> None:
    waits, works = (
        slipway({"compute": 40}, {"compute": 45}, burst=None, quick_ms=40.0, model=Model(cpu_share=share))
        for share in (0.1, 0.95)
    )
    assert names(waits) == ["none"]
    assert names(works) == ["hardware"]
    assert "had a core 95% of that time" in judgement.judge(works, COMMAND).causes[0].evidence[0]


def test_a_stall_names_the_collector_that_ran_in_it() -> None:
    for of_gc, of_loop, text in ((4, 4, "garbage collector ran in 4"), (0, 3, "event loop could not run in 3")):
        stopped = facts(6, 280, stalls=Stalls(5, 300.0, 1500.0, 1.0, 0.0, of_gc, of_loop))
        assert any(text in line for line in judgement.judge(stopped, COMMAND).causes[0].evidence)
