"""The rules of the verdict: from the facts that a plant leaves, its cause comes first; without a plant, none does."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from bench.explain import concurrency, judgement
from bench.explain.facts import Cold, Facts, Host, Model
from bench.explain.per_request import PerRequest
from bench.explain.sizes import Sizes
from bench.explain.stalls import Stalls
from bench.load.burst import Together
from tests.unit.bench.known import known
from tests.unit.bench.planted_facts import AT_ONCE, HOST, LOAD, ONE_BY_ONE, burst, facts, slipway, terms

COMMAND = "python -m bench run http://127.0.0.1:8080 --rate 40"
TWO_AT_A_TIME = Together(8, (52.0, 52.0, 104.0, 104.0, 156.0, 156.0, 208.0, 208.0))
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
    "a pool of two connections to a service": (
        "serial",
        facts(70, 250, load=replace(LOAD, answered_per_s=30),
              burst=burst(52, together=(TWO_AT_A_TIME,), cpu_ms=3.0)),
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
    "stages: answers that are lost on the way": (
        "network_latency",
        slipway({"compute": 2, "residual": 0.3}, {"compute": 2, "residual": 200.0}, overtaken=0.9),
    ),
    "answers of any kind that are held up": (
        "network_latency", facts(3, 205, overtaken=1.0, burst=burst(2.5, floor_slow_ms=201.0)),
    ),
    "stages: threads that take turns with the interpreter": (
        "threads",
        slipway({"compute": 27}, {"compute": 30, "queue_busy": 6}, model=Model(cpu_share=0.18),
                host=replace(HOST, switches_per_s=17_000.0)),
    ),
    "lost segments": (
        "network_latency", facts(6, 210, load=replace(LOAD, resent=40), overtaken=0.8),
    ),
    "the memory of a framework with a small model": (
        "hardware",
        facts(14, 20, burst=burst(14, cpu_ms=13.0), host=replace(HOST, own_bytes=2.8e8, memory_bytes_per_s=2.7e10)),
    ),
    "stages that count a long way, and a link that is slow for the response": (
        "bandwidth",
        slipway({"compute": 1, "residual": 21.0}, {"compute": 2, "residual": 78.0},
                burst=burst(20.6, reading_ms=19.1, reply_bytes=24_000, cpu_ms=1.0)),
    ),
    "an upload of a kind that gets no white space": (
        "bandwidth",
        facts(105, 193, burst=burst(104, cpu_ms=6.0, padded_ms=None, upload_ms=95.0),
              load=replace(LOAD, body_bytes=120_000, offered_per_s=3.0, answered_per_s=3.0)),
    ),
    "a delayed acknowledgement of an answer without a model": (
        "codec",
        facts(115, 190, burst=burst(81, cpu_ms=81.0, floor_ms=43.8), load=replace(LOAD, json_ms=89.0)),
    ),
    "large weights": ("model_size", facts(60, 65, burst=burst(58), host=replace(HOST, own_bytes=5e8))),
    "pages read from disk": ("model_size", facts(60, 65, host=replace(HOST, major_faults=500.0))),
    "a CPU quota": ("cpu_quota", facts(40, 160, host=replace(HOST, throttled=0.4, quota_cores=0.2))),
    "a CPU quota in long periods": (
        "cpu_quota",
        facts(25, 300, host=replace(HOST, throttled=0.05, quota_cores=0.3), burst=burst(24),
              slow_host=replace(HOST, throttled=0.45)),
    ),
    "three hundred callers of one client": (
        "generator",
        facts(
            60, 180, burst=burst(2, 0.5), host=replace(HOST, server_cores=0.9, busiest_thread=0.6),
            load=replace(LOAD, offered_per_s=None, answered_per_s=2_500, generator_cpu=0.97),
        ),
    ),
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
    "some long inputs": ("input_size", facts(6, 90, sizes=Sizes(80.0), stalls=Stalls(9, 90.0, 500.0, 1.0, 1.0))),
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
    "another client that sends many at once, now and then": (
        "other_traffic",
        facts(11, 120, burst=burst(10.6), stalls=Stalls(1, 216.0, 216.0, 0.4, 0.0), host=replace(HOST, strangers=0.3),
              slow_host=replace(HOST, strangers=2.6, server_cores=0.9)),
    ),
    "a proxy that keeps no connection": (
        "connections",
        slipway({"compute": 5}, {"compute": 6}, model=Model(requests_share=1.0, connections_share=1.0)),
    ),
    "a late generator": (
        "generator",
        facts(6, 50, slow=terms(send_lag=40.0, residual=10.0)),
    ),
    "a generator that hardly works, and waits for a core then": (
        "generator",
        slipway({"compute": 0.5, "residual": 0.6}, {"send_lag": 3.9, "compute": 0.5, "residual": 6.3},
                load=replace(LOAD, run_delay=0.117, generator_cpu=0.018), burst=burst(1.1)),
    ),
    "stages: a timer": ("batch_timer", slipway({"queue_timer": 9, "compute": 2}, {"queue_timer": 10, "compute": 3})),
    "stages: a codec": ("codec", slipway({"decode": 20, "compute": 5}, {"decode": 25, "compute": 6})),
    "stages: a link": ("bandwidth", slipway(
            {"receive": 40, "compute": 5}, {"receive": 60, "compute": 5},
            burst=burst(45, padded_ms=85.0, padding_bytes=20_000), load=replace(LOAD, body_bytes=20_000),
        ),
    ),
    "stages: padding": (
        "padding",
        slipway({"compute": 20}, {"compute": 30}, model=Model(waste=0.7)),
    ),
    "stages: padding in the runs of slow requests": (
        "padding",
        slipway({"compute": 9}, {"compute": 30}, per_request=PerRequest(padded_ms=0.2, padded_slow_ms=22.0)),
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
    "stages: a gateway that holds requests alone": (
        "network_latency",
        slipway({"compute": 0.2, "residual": 46.0}, {"compute": 2.0, "residual": 50.0}, burst=burst(46.5, cpu_ms=0.7)),
    ),
    "requests that keep both cores busy": (
        "capacity",
        facts(40, 250, burst=burst(10, ONE_BY_ONE, cpu_ms=18.5), load=replace(LOAD, answered_per_s=74),
              host=replace(HOST, server_cores=1.5, busiest_thread=0.75)),
    ),
    "a window that each request opens anew": (
        "batch_timer",
        facts(47, 117, burst=burst(46, staggered_ms=46.5, cpu_ms=0.7), together=0.98),
    ),
    "stages: weights": (
        "model_size",
        slipway({"compute": 40}, {"compute": 42}, model=Model(weights_ms=30.0)),
    ),
    "stages: weights, which slow runs share with others": (
        "model_size",
        slipway({"compute": 20.4}, {"compute": 48}, model=Model(weights_ms=20.6, cpu_share=0.94)),
    ),
    "stages: weights that are read in 7 ms": (
        "model_size",
        slipway({"compute": 8, "decode": 0.6}, {"compute": 9, "decode": 0.7}, model=Model(weights_ms=7.3)),
    ),
    "a thread that polls": (
        "threads",
        facts(30, 60, burst=burst(28, ONE_BY_ONE, cpu_ms=31.0, quiet_cores=0.97)),
    ),
    "stages: a thread that polls, and the interpreter that others wait for": (
        "threads",
        slipway(
            {"compute": 9, "decode": 6, "encode": 6}, {"compute": 14, "decode": 12, "encode": 9},
            burst=burst(21, ONE_BY_ONE, cpu_ms=25.0, quiet_cores=0.97), model=Model(requests_share=1.0),
        ),
    ),
    "stages: stops of a server that decodes": (
        "stall",
        slipway({"decode": 15, "compute": 1}, {"decode": 220, "compute": 20}, stalls=Stalls(8, 250, 2000, 1.0, 0.0)),
    ),
    "overload beside programs that make it worse": (
        "capacity",
        facts(
            900, 3000, growing=4.0, burst=burst(21, 0.5), load=replace(LOAD, offered_per_s=120, answered_per_s=75),
            host=replace(HOST, server_cores=1.5, run_delay=1.2, other_cores=0.5),
        ),
    ),
    "callers that fill all cores": (
        "capacity",
        facts(
            900, 1400, burst=burst(33, 0.8), load=replace(LOAD, offered_per_s=None, answered_per_s=50, run_delay=0.8),
            host=replace(HOST, server_cores=1.9, run_delay=2.1, other_cores=0.1),
        ),
    ),
    "one connection of the generator": (
        "generator", facts(60, 240, slow=terms(connect=180.0, residual=60.0), burst=burst(41, cpu_ms=2.0)),
    ),
    "more than the generator can send": (
        "generator",
        facts(2, 12, load=replace(LOAD, offered_per_s=5_500, answered_per_s=5_500, ceiling_per_s=6e3), burst=burst(1)),
    ),
    "short inputs behind long ones": (
        "input_size",
        slipway(
            {"compute": 2, "queue_busy": 40}, {"compute": 50, "queue_busy": 600}, burst=burst(2.6, 0.5),
            sizes=Sizes(55.0, frozenset({1}), 138, 177, uneven=0.9), stalls=Stalls(11, 650, 5400, 1.0, 1.0),
        ),
    ),
    "a serial server whose answers are far apart": (
        "serial",
        facts(
            3, 100, burst=burst(25, ONE_BY_ONE, cpu_ms=2.0), load=replace(LOAD, answered_per_s=31),
            stalls=Stalls(9, 27.0, 220.0, 1.0, 0.0),
        ),
    ),
    "one new connection in three": (
        "connections",
        facts(2, 39, burst=burst(2, fresh_ms=37.0), load=replace(LOAD, connections=160)),
    ),
    "stages: a script that waits for company": (
        "batch_timer",
        slipway({"compute": 60}, {"compute": 61}, burst=burst(61, staggered_ms=31.0, cpu_ms=2.0),
                model=Model(cpu_share=0.01)),
    ),
    "stages: a few long requests of another client": (
        "other_traffic",
        slipway({"compute": 6}, {"compute": 140}, model=Model(requests_share=0.86, time_share=0.4),
                stalls=Stalls(5, 216.0, 978.0, 0.8, 0.0)),
    ),
    "other programs at the end of the run": (
        "neighbour",
        facts(
            9, 40, host=replace(HOST, other_cores=0.5, run_delay=0.05), burst=burst(8),
            slow_host=replace(HOST, other_cores=1.8, run_delay=0.3),
        ),
    ),
    "stages: programs that the model starts": (
        "hardware",
        slipway({"compute": 40}, {"compute": 45}, model=Model(cpu_share=0.02), burst=burst(41, 0.5, cpu_ms=38.0)),
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


def test_a_cold_start_within_the_warm_up_is_told_and_not_blamed() -> None:
    first, second = judgement.judge(facts(2, 3, cold=Cold(20, 1000.0, 2.0, 0.0, measured=False)), COMMAND).causes
    assert (first.name, first.confidence) == ("none", "likely")
    assert (second.name, second.confidence) == ("cold_start", "undecided")


def test_a_cause_with_two_faults_keeps_both() -> None:
    both = facts(30, 400, stalls=Stalls(5, 300.0, 1500.0, 0.9, 0.0), burst=burst(30, staggered_ms=15.0, cpu_ms=2.0))
    assert {one.name for one in judgement.judge(both, COMMAND).causes} == {"stall", "batch_timer"}


def test_too_few_requests_give_no_verdict_that_sounds_sure() -> None:
    (only,) = judgement.judge(None, COMMAND).causes
    assert (only.name, only.confidence) == ("none", "undecided")


def test_a_server_that_refuses_nearly_all_requests_is_too_small() -> None:
    (only,) = judgement.judge(None, COMMAND, load=replace(LOAD, shed_share=0.97, answered_per_s=0.25)).causes
    assert (only.name, only.confidence) == ("capacity", "likely")
    assert "refused 97% of the requests" in only.evidence[0]


def test_half_the_rate_proves_a_queue() -> None:
    _, planted = PLANTS["a lock around a sleep"]
    assert judgement.judge(planted, COMMAND).causes[0].prove.endswith("--rate 20")


def test_a_cause_is_ruled_out_by_figures_and_not_by_their_absence() -> None:
    assert "cpu_quota" in judgement.judge(facts(), COMMAND).ruled_out
    assert "cpu_quota" not in judgement.judge(facts(host=Host()), COMMAND).ruled_out


@pytest.mark.parametrize(("serial", "in_order"), [(ONE_BY_ONE, True), (AT_ONCE, True)])
def test_turns_of_a_queue_and_of_a_parallel_server(serial: float, in_order: bool) -> None:
    found = known(concurrency.of(burst(20, serial), 500))
    assert found.serial == pytest.approx(serial * 20 / 19.6)
    assert found.in_order == in_order
    assert found.timer_ms == 0


def test_a_straggler_makes_no_turns() -> None:
    held_up = Together(8, (2.8, 3.3, 4.3, 4.7, 4.8, 5.4, 6.8, 203.0))
    found = known(concurrency.of(burst(2.0, together=(held_up,)), 500))
    assert found.each_ms < 2


def test_threads_that_share_a_core_are_not_in_order() -> None:
    shared = tuple(Together(size, (20.0 * size,) * size) for size in (2, 4, 8))
    found = known(concurrency.of(burst(20, together=shared, staggered_ms=30.0), 500))
    assert found.serial > concurrency.SERIAL_FROM
    assert not found.in_order


def test_a_rule_says_nothing_where_the_probe_failed() -> None:
    assert concurrency.of(burst(together=(Together(8, ()),)), 500) is None
    assert judgement.judge(facts(burst=None, quick_ms=5.0), COMMAND).causes[0].name == "none"


def names(found: Facts) -> list[str]:
    return [one.name for one in judgement.judge(found, COMMAND).causes]


def test_a_timer_in_every_request_is_not_hidden_by_noise_in_the_tail() -> None:
    typical, slow = {"queue_timer": 43.0, "compute": 7.0}, {"queue_timer": 40.0, "queue_busy": 300.0, "compute": 60.0}
    noisy = slipway(typical, slow, host=replace(HOST, other_cores=1.5, run_delay=0.4, server_cores=0.3))
    assert names(noisy).index("batch_timer") <= 1


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


@pytest.mark.parametrize(
    ("cpu_share", "typical_ms", "of_loop", "first"),
    [
        (0.97, 30.0, 0, "hardware"),  # its runs compute, and take long at times
        (0.97, 30.0, 3, "stall"),  # the event loop stopped, too
        (0.3, 30.0, 0, "stall"),  # its runs wait
        (0.97, 0.2, 0, "stall"),  # the share is that of the short runs
    ],
)
def test_a_long_run_that_computes_is_no_stall(cpu_share: float, typical_ms: float, of_loop: int, first: str) -> None:
    found = slipway(
        {"compute": typical_ms},
        {"compute": 230.0},
        model=Model(cpu_share=cpu_share),
        stalls=Stalls(4, 370.0, 1_250.0, 0.8, 0.0, of_loop=of_loop),
    )
    assert names(found)[0] == first


def test_latency_of_two_levels_is_explained_by_the_cache() -> None:
    cached = PerRequest(cached=0.8, cached_ms=0.4, ran_ms=41.0, compute_ms=40.0)
    typical, slow = {"decode": 0.4}, {"compute": 41.0}
    found = judgement.judge(slipway(typical, slow, per_request=cached, model=Model(cpu_share=0.95)), COMMAND).causes[0]
    assert found.name == "hardware"
    assert "the response cache answered 80% of the requests, in 0.40 ms; the others took 41.00 ms" in found.evidence


def test_a_deep_queue_is_evidence_of_too_many_requests_but_not_on_the_event_loop() -> None:
    busy = {"compute": 20.0, "queue_busy": 300.0}
    deep = slipway(
        {"compute": 20.0},
        busy,
        burst=burst(20),
        model=Model(utilisation=0.9),
        per_request=PerRequest(ahead=1.0, ahead_slow=14.0),
    )
    text = "14.0 rows waited when a slow request joined the queue, 1.0 for a typical one"
    assert text in judgement.judge(deep, COMMAND).causes[0].evidence
    inline = replace(deep, model=replace(deep.model, inline=True))
    assert text not in judgement.judge(inline, COMMAND).causes[0].evidence


@pytest.mark.parametrize(
    ("missing", "names_"),
    [
        ({"host": Host()}, {"cpu quota", "neighbour", "threads"}),
        ({"burst": None}, {"serial", "batch timer", "network latency"}),
        ({}, set()),
    ],
)
def test_none_is_likely_only_where_every_cause_could_have_been_seen(missing: dict[str, Any], names_: set[str]) -> None:
    (first, *_) = judgement.judge(facts(quick_ms=5.0, **missing), COMMAND).causes
    assert (first.name, first.confidence) == ("none", "undecided" if names_ else "likely")
    said = next((line for line in first.evidence if line.startswith("this run cannot tell")), "")
    assert all(name in said for name in names_)


def test_a_cause_that_the_run_could_not_refute_is_undecided() -> None:
    runs = slipway({"compute": 40}, {"compute": 45}, burst=None, quick_ms=40.0, model=Model(cpu_share=0.95))
    assert judgement.judge(runs, COMMAND).causes[0].confidence == "likely"
    blind = replace(runs, model=Model())
    assert [(one.name, one.confidence) for one in judgement.judge(blind, COMMAND).causes] == [
        ("none", "undecided"), ("hardware", "undecided"),
    ]  # fmt: skip


@pytest.mark.parametrize(("weights_ms", "named"), [(4.0, False), (30.0, True), (90.0, False)])
def test_a_run_that_is_much_slower_or_faster_than_the_memory_does_not_read_all_weights(
    weights_ms: float, named: bool
) -> None:
    found = slipway({"compute": 40}, {"compute": 42}, model=Model(weights_ms=weights_ms, cpu_share=1.0))
    assert ("model_size" in names(found)) == named
    assert "hardware" in names(found)


STOPS = Stalls(5, 200.0, 900.0, 1.0, 0.0)
PROXY = replace(HOST, server_cores=0.0, run_delay=0.001, other_cores=0.4)
TWINS: dict[str, tuple[str, str, Facts]] = {
    "threads whose cores other programs hold": (
        "neighbour", "threads",
        facts(40, 160, burst=burst(40, cpu_ms=20.0, run_delay_ms=120.0),
              host=replace(HOST, other_cores=1.9, run_delay=0.6)),
    ),
    "a lag of the generator of 1.6 ms, which is usual": (
        "none", "generator", facts(1.2, 6.4, slow=terms(send_lag=1.6, residual=4.8), burst=burst(1.0)),
    ),
    "a lag of 4 ms": ("generator", "", facts(1.2, 8.8, slow=terms(send_lag=4.0, residual=4.8), burst=burst(1.0))),
    "a lag of 8 ms": ("generator", "", facts(1.2, 12.8, slow=terms(send_lag=8.0, residual=4.8), burst=burst(1.0))),
    "a wait within the codec in the tail alone": (
        "none", "codec",
        slipway({"decode": 0.3, "scatter": 0.2, "compute": 5.0}, {"scatter": 6.0, "compute": 9.0}),
    ),
    "padding in the runs of others": (
        "", "padding",
        slipway({"compute": 20}, {"compute": 30}, model=Model(waste=0.7),
                per_request=PerRequest(padded_ms=1.0, padded_slow_ms=1.0)),
    ),
    "a proxy that hardly works, beside its server": (
        "", "neighbour", facts(35, 45, host=PROXY, slow_host=PROXY, burst=burst(34, cpu_ms=0.0)),
    ),
    "stops": ("stall", "", facts(3, 205, stalls=STOPS)),
    "stops that later requests overtake": ("", "stall", facts(3, 205, stalls=STOPS, overtaken=0.9)),
    "segments that a busy machine sends again": (
        "", "network_latency",
        slipway({"compute": 30}, {"compute": 30, "queue_busy": 170}, load=replace(LOAD, resent=60)),
    ),
    "connections of a third of a millisecond, and a tail of 200": (
        "none", "", facts(3, 203, load=replace(LOAD, connections=500)),
    ),
    "a small special cause beside another one": (
        "stall", "",
        facts(6, 280, stalls=Stalls(5, 300.0, 1500.0, 1.0, 0.0), host=replace(HOST, throttled=0.012, quota_cores=0.5)),
    ),
    "a body that twice the bytes do not slow down: a busy event loop reads late": (
        "", "bandwidth", slipway({"receive": 40, "compute": 5}, {"receive": 60, "compute": 5}),
    ),
    "a probe that other programs disturbed": (
        "", "bandwidth",
        slipway({"compute": 7}, {"compute": 9}, burst=burst(8, padded_ms=30.0, padding_bytes=20_000),
                load=replace(LOAD, body_bytes=20_000)),
    ),
}  # fmt: skip
"""What looks like a cause: the one that comes first, and the one that is not named."""


@pytest.mark.parametrize("name", TWINS)
def test_what_looks_like_a_cause_is_none(name: str) -> None:
    first, never, found = TWINS[name]
    assert names(found)[0] == (first or names(found)[0])
    assert never not in names(found)


@pytest.mark.parametrize(("users", "waited"), [(1, False), (2, True)])
def test_a_single_caller_waits_for_nobody(users: int, waited: bool) -> None:
    closed = replace(LOAD, offered_per_s=None, answered_per_s=42.0, users=users)
    found = facts(20, 60, burst=burst(20, ONE_BY_ONE, cpu_ms=19.0), load=closed, host=replace(HOST, server_cores=1.0))
    assert bool({"capacity", "serial"} & set(names(found))) == waited
