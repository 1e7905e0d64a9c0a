"""Forecasts against simulated servers whose behaviour after the change is known, and what is refused."""

from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np
import pytest

from bench.explain import changes, forecast, inline, workload
from bench.explain.changes import Change
from bench.explain.forecast import Forecast, Measured
from bench.explain.workload import NoForecast
from bench.load.measurements import Outcome
from bench.load.schedule import build
from server.request import NEVER
from server.scheduling.queue import BatchQueue
from tests.unit.bench.loop_world import LoopWorld
from tests.unit.bench.simulated_server import World

SECONDS = 4.0
RATE = 250.0
ONE = World()
TWO = World(instances=2, crowding=0.4)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forecast, "SEEDS", 1)
    monkeypatch.setattr(forecast, "RESAMPLED_REQUESTS", 400)


@functools.cache
def measured(world: World = ONE, rate: float = RATE) -> Measured:
    spans = [(0.0, SECONDS)]
    return forecast.measured(
        world.columns(rate, SECONDS, 1), spans, world.works(), binary="json" not in world.content_type
    )


def told(change: Change, world: World = ONE, *others: Measured) -> Forecast:
    return forecast.forecast(measured(world), change, others, resamples=2)


def p99_ms(world: World, rate: float, seed: int) -> float:
    rows = world.columns(rate, SECONDS, seed)
    return float(np.quantile(rows["last_byte_ns"] - rows["due_ns"], 0.99)) / 1e6


def true_ratio(before: World, after: World, rate: float = 1.0) -> float:
    """The mean of p99 after over before, over seeds: the arrivals of a pair are the same."""
    logs = [np.log(p99_ms(after, RATE * rate, seed) / p99_ms(before, RATE, seed)) for seed in range(1, 4)]
    return float(np.exp(np.mean(logs)))


@pytest.mark.parametrize(
    ("change", "after"),
    [
        (Change(rate=0.5), ONE),
        (Change(rate=1.4), ONE),
        (Change(compute=0.5), replace(ONE, fixed_ms=1.0, per_row_ms=0.25)),
        (Change(extra_us=1_000), replace(ONE, fixed_ms=3.0)),
        (Change(max_batch_size=4), replace(ONE, largest=4)),
        (Change(max_queue_delay_us=4_000), replace(ONE, timer_us=4_000)),
    ],
    ids=lambda one: one.words if isinstance(one, Change) else "",
)
def test_a_change_does_what_was_forecast(change: Change, after: World) -> None:
    found = told(change).predictions["p99"]
    truth = true_ratio(ONE, after, change.rate)
    assert found.ratio == pytest.approx(truth, rel=0.15)
    assert found.low <= truth <= found.high


def test_a_timer_that_is_taken_away_is_forecast() -> None:
    held = replace(ONE, timer_us=4_000)
    found = told(Change(max_queue_delay_us=0), held).predictions["p99"]
    assert found.ratio == pytest.approx(true_ratio(held, ONE), rel=0.15)
    assert found.high < 0.9


def test_one_instance_less_is_forecast_from_the_slowdown_of_two() -> None:
    found = told(Change(instances=1), TWO).predictions["p99"]
    assert measured(TWO).service.crowding == pytest.approx(0.4, abs=0.15)
    assert found.ratio == pytest.approx(true_ratio(TWO, replace(TWO, instances=1, crowding=0.0)), rel=0.2)


def test_more_instances_need_a_record_of_them() -> None:
    with pytest.raises(NoForecast, match="2 instances with 1 threads each were not measured"):
        told(Change(instances=2))
    found = told(Change(instances=2), ONE, measured(TWO)).predictions["p99"]
    assert found.ratio == pytest.approx(true_ratio(ONE, TWO), rel=0.2)


def test_a_changed_server_takes_the_time_around_its_runs_too() -> None:
    """Two instances leave less of the cores to the event loop, and to a load generator on the same machine."""
    slow = replace(TWO, decode_us=2_500.0, encode_us=1_500.0)
    found = told(Change(instances=2), ONE, measured(slow)).predictions["p99"]
    truth = true_ratio(ONE, slow)
    assert truth > 1.2 * true_ratio(ONE, TWO)
    assert found.ratio == pytest.approx(truth, rel=0.15)
    assert found.low <= truth <= found.high


def test_a_shorter_record_of_such_a_server_is_spread_over_the_run() -> None:
    """Its moments come from all of its time, and not most of them from its last run."""
    rows = TWO.columns(RATE, 2.5, 1)
    short = forecast.measured(rows, [(0.0, 2.5)], TWO.works(), binary=False)
    late = short.service.begun_ns > short.service.begun_ns[-3]
    stopped = replace(short.service, stopped_ns=np.where(late, 40_000_000, 0))
    found = told(Change(instances=2), ONE, replace(short, service=stopped)).predictions["p99"]
    assert found.ratio == pytest.approx(true_ratio(ONE, TWO), rel=0.25)


def test_every_record_that_a_forecast_uses_must_replay_itself() -> None:
    with pytest.raises(NoForecast, match="the simulation of the record of such a server gives"):
        told(Change(instances=2), ONE, odd(TWO))
    assert told(Change(rate=0.9), ONE, odd(TWO)).predictions


def test_a_record_of_other_instances_with_other_bodies_is_no_record_of_such_a_server() -> None:
    binary = replace(ONE, content_type="application/octet-stream")
    both = Change(instances=2, binary=True)
    with pytest.raises(NoForecast, match="load such a server for some seconds with --binary"):
        told(both, ONE, measured(binary), measured(TWO))
    assert told(both, ONE, measured(replace(TWO, content_type=binary.content_type))).predictions


def test_binary_bodies_need_a_record_of_them() -> None:
    slow = replace(ONE, decode_us=2_000.0, encode_us=1_000.0)
    with pytest.raises(NoForecast, match="--binary"):
        told(Change(binary=True), slow)
    binary = replace(slow, decode_us=50.0, encode_us=30.0, content_type="application/octet-stream")
    found = told(Change(binary=True), slow, measured(binary)).predictions["p99"]
    assert found.ratio == pytest.approx(true_ratio(slow, binary), rel=0.15)


def test_few_runs_of_a_size_that_did_not_run_widen_the_interval_of_the_tail_only() -> None:
    base = measured()
    unsure = replace(base.service, table_error=1.0, ran=base.service.ran - {max(base.service.ran)})
    found = forecast.forecast(replace(base, service=unsure), Change(), resamples=2).predictions
    known = forecast.forecast(base, Change(), resamples=2).predictions
    wider = {name: (found[name].high - 1) / (known[name].high - 1) for name in found}
    assert wider["p99"] > 3 > 2 > wider["p50"] > 1


def test_a_cache_takes_requests_away_from_the_queue() -> None:
    few, many = (told(Change(cache=share)) for share in (0.1, 0.8))
    assert many.load < 0.3 * few.load
    assert many.predictions["p50"].ratio < 0.5 < few.predictions["p50"].ratio


def test_stops_of_the_machine_are_replayed_and_not_scaled() -> None:
    found = measured(replace(ONE, stop_ms=60.0)).service
    stops = np.flatnonzero(found.stopped_ns)
    assert found.stopped_ns[stops] == pytest.approx(60e6, rel=0.3)
    moments = found.moments(range(24), round(SECONDS * 1e9 / 24), seed=1)
    replayed = [moments(at)[1] for at in (*found.begun_ns.tolist(), *found.begun_ns[stops].tolist())]
    assert sum(replayed) == found.stopped_ns.sum()


def test_earlier_errors_widen_the_interval() -> None:
    wrong = [{"p50": 0.4, "p99": 0.4}] * 4
    narrow, wide = (
        forecast.forecast(measured(), Change(rate=0.8), errors=errors, resamples=2) for errors in ((), wrong)
    )
    assert wide.predictions["p99"].high > 1.3 * narrow.predictions["p99"].high
    assert wide.checked == 4


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (Change(max_batch_size=64, rate=6.0), "only runs of up to 8 were measured|refuse|capacity"),
        (Change(rate=4.8), "refuse|capacity"),
        (Change(instances=4), "were not measured"),
        (Change(threads=2), "were not measured"),
    ],
)
def test_what_was_not_measured_is_not_forecast(change: Change, why: str) -> None:
    with pytest.raises(NoForecast, match=why):
        told(change)


def test_cores_that_others_hold_are_not_forecast_at_a_higher_rate() -> None:
    """A load generator on the server's machine takes more of its cores, too."""
    busy = replace(measured(), busy=0.6)
    with pytest.raises(NoForecast, match="want 90% of the cores"):
        forecast.forecast(busy, Change(rate=1.5), resamples=2)
    for change, others in (
        (Change(rate=1.3), ()),
        (Change(extra_us=500), ()),
        (Change(rate=1.5), (measured(ONE, 375),)),
    ):
        assert forecast.forecast(busy, change, others, resamples=2).predictions


def test_a_second_load_permits_a_forecast_near_the_capacity() -> None:
    change = Change(rate=4.7)
    with pytest.raises(NoForecast, match="measure at another rate too"):
        told(change)
    assert told(change, ONE, measured(ONE, 2 * RATE)).load > forecast.SURE_LOAD


def odd(world: World) -> Measured:
    """A record whose requests waited in the queue for something else than runs."""
    rows = world.columns(RATE, SECONDS, 1)
    rows["queue_busy_ns"] += 20_000_000
    rows["last_byte_ns"] += 20_000_000
    found = forecast.measured(rows, [(0.0, SECONDS)], world.works(), binary=False)
    return replace(found, workload=replace(found.workload, wake_ns=0))


def test_a_run_that_the_simulation_does_not_reproduce_is_not_forecast() -> None:
    with pytest.raises(NoForecast, match="the simulation of the run itself"):
        forecast.forecast(odd(ONE), Change(rate=0.9), resamples=2)


def test_records_that_cannot_be_simulated_say_why() -> None:
    rows, works, spans = ONE.columns(RATE, SECONDS, 1), ONE.works(), [(0.0, SECONDS)]
    (work,) = works
    assert work.choices is not None
    failed = {**rows, "outcome": np.full(len(rows["due_ns"]), int(Outcome.STATUS))}
    foreign = {**rows, "batch": rows["batch"] + (np.arange(len(rows["due_ns"])) % 2) * 4}
    silent = {name: np.full_like(column, -1) if name in STAGES else column for name, column in rows.items()}
    cases = [
        (failed, works, "failed"),
        (silent, works, "no stage times"),
        (rows, (), "several models or a pipeline"),
        (rows, (replace(work, step="encode"),), "several models or a pipeline"),
        (rows, (replace(work, choices=None),), "update it"),
        (rows, (replace(work, padding=5.0),), "pads"),
        (rows, (replace(work, choices=replace(work.choices, inline=True)),), "event loop"),
        ({name: column[:100] for name, column in rows.items()}, works, "too few"),
        (foreign, works, "not of this load"),
    ]
    for window, told_works, why in cases:
        with pytest.raises(NoForecast, match=why):
            forecast.measured(window, spans, told_works, binary=False)


STAGES = {
    f"{name}_ns"
    for name in ("receive", "decode", "queue_busy", "queue_timer", "assemble", "compute", "scatter", "encode")
}


def test_a_long_record_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workload, "MOST_REQUESTS", 600)
    rows = ONE.columns(RATE, SECONDS, 1)
    found = forecast.measured(rows, [(0.0, 1.0), (1.0, SECONDS), (SECONDS, 9.0)], ONE.works(), binary=False).workload
    assert len(found.due_ns) == 600
    assert found.seconds == pytest.approx(float(rows["due_ns"][600]) / 1e9)


def test_flags_become_a_change_and_back() -> None:
    found = changes.parse(
        ["instances=2", "max-queue-delay-us=0"], rate="x2", compute="x0.5", extra_us=7, cache=0.3, binary=True
    )
    assert found == Change(2.0, 0.5, 7, 0.3, True, instances=2, max_queue_delay_us=0)
    assert (
        found.words
        == "instances=2, max_queue_delay_us=0, rate x2, compute x0.5, 7 us more in each run, binary bodies, cache 30%"
    )
    assert found.kind == "several"
    assert Change(rate=2).kind == "rate"
    assert " ".join(found.flags()).startswith("--set instances=2 --set max_queue_delay_us=0 --rate x2")


@pytest.mark.parametrize(
    ("settings", "flags", "why"),
    [
        (["instance=2"], {}, "the nearest is instances"),
        (["zzz=2"], {}, "there are instances"),
        (["instances=0"], {}, "write for example --set instances=2"),
        (["instances"], {}, "cannot read"),
        ([], {"rate": "fast"}, "x2"),
        ([], {"compute": "x0"}, "x0.5"),
        ([], {"cache": 1.5}, "--cache 0.3"),
    ],
)
def test_a_wrong_flag_says_what_to_write(settings: list[str], flags: dict[str, object], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        changes.parse(settings, **flags)  # type: ignore[arg-type]


LOOP = LoopWorld()
LOOP_RATE, LOOP_S = 1_500.0, 2.0


def on_loop(world: LoopWorld = LOOP) -> Measured:
    rows, loop_ns = world.columns(LOOP_RATE, LOOP_S, 1)
    return forecast.measured(rows, [(0.0, LOOP_S)], world.works(), binary=False, loop_ns=loop_ns)


@pytest.mark.parametrize(
    ("change", "after"),
    [
        (Change(rate=0.5), LOOP),
        (Change(rate=1.5), LOOP),
        (Change(compute=2.0), replace(LOOP, fixed=240.0, per_row=40.0)),
        (Change(max_batch_size=1), replace(LOOP, largest=1)),
    ],
    ids=lambda one: one.words if isinstance(one, Change) else "",
)
def test_a_model_on_the_event_loop_is_forecast_with_what_no_stage_counts(change: Change, after: LoopWorld) -> None:
    base = on_loop()
    assert base.workload.loop is not None
    assert base.workload.loop.own_ns == pytest.approx(LOOP.own * 1e3, rel=0.1)
    found = forecast.forecast(base, change, resamples=2).predictions["p99"]
    logs = []
    for seed in (1, 2, 3):
        latency = [
            rows["last_byte_ns"] - rows["due_ns"]
            for rows, _ in (LOOP.columns(LOOP_RATE, LOOP_S, seed), after.columns(LOOP_RATE * change.rate, LOOP_S, seed))
        ]
        logs.append(np.log(np.quantile(latency[1], 0.99) / np.quantile(latency[0], 0.99)))
    assert found.ratio == pytest.approx(float(np.exp(np.mean(logs))), rel=0.15)


def test_the_loop_is_a_single_queue() -> None:
    """M/D/1: mean wait = load x service / (2 (1 - load)), with one row in each run."""
    service_ns, load = 200_000, 0.6
    due = build("poisson", load * 1e9 / service_ns, 20.0, 4).offsets_ns.tolist()
    works = [inline.Work(at, 1, 0, 0) for at in due]
    sizes = inline.serve(works, BatchQueue(1, [(1, service_ns)]), lambda _batch: service_ns, NEVER)
    waits = [one.done_ns - one.at_ns - service_ns for one in works]
    assert set(sizes) == {1}
    assert np.mean(waits) == pytest.approx(load * service_ns / (2 * (1 - load)), rel=0.05)


def test_a_timer_on_the_loop_ends_with_the_batch_that_is_full_or_late() -> None:
    works = [inline.Work(at * 1_000_000, 1, 0, 0) for at in (0, 1, 50)]
    inline.serve(works, BatchQueue(2, [(1, 1_000), (2, 1_000)], max_delay_ns=10_000_000), lambda _batch: 1_000, NEVER)
    assert [one.done_ns for one in works] == [1_001_000, 1_001_000, 60_001_000]


def test_what_a_forecast_on_the_event_loop_needs() -> None:
    rows, _ = LOOP.columns(LOOP_RATE, LOOP_S, 1)
    with pytest.raises(NoForecast, match="server on this machine"):
        forecast.measured(rows, [(0.0, LOOP_S)], LOOP.works(), binary=False)
    with pytest.raises(NoForecast, match="something else than work"):
        forecast.measured(rows, [(0.0, LOOP_S)], LOOP.works(), binary=False, loop_ns=1_000.0)
    with pytest.raises(NoForecast, match="several instances would not"):
        forecast.forecast(on_loop(), Change(instances=2))
