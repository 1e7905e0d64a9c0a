"""Metrics: stages that add up, histograms that agree with counting by hand, an exposition that a scraper reads."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from server.observe.device_metrics import gpu_families
from server.observe.histograms import BATCH_BOUNDS, BOUNDS_S
from server.observe.metrics import CONTENT_TYPE, PENDING_REQUESTS, Metrics, ModelMetrics, StageClock, stage_durations_ns
from server.observe.process import Collections, Cores, LoopLag, Pauses, Switches
from server.observe.steps import StepMetrics
from server.request import STAGES, InferRequest
from server.scheduling.batch import Batch
from server.system.gpu import Gpu
from tests.fakes import FakeLoop

SERIES = (*STAGES, "total")
BOUNDS_NS = [round(bound * 1e9) for bound in BOUNDS_S]
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]

durations = st.one_of(st.integers(0, 10**11), st.sampled_from(BOUNDS_NS), st.sampled_from([b + 1 for b in BOUNDS_NS]))
requests = st.lists(st.tuples(*(durations,) * len(STAGES)), max_size=12)


def record(clock: StageClock, stages_ns: tuple[int, ...], begun_ns: int = 1_000) -> None:
    """Record a request that spent these times in its stages."""
    receive, decode, busy, timer, assemble, compute, scatter, encode, send = stages_ns
    stamps = list(
        itertools.accumulate(
            (receive, decode, busy + timer, assemble, compute, scatter, encode, send), initial=begun_ns
        )
    )
    request = InferRequest((), 1, lambda _: None, decoded_ns=stamps[2])
    request.held_ns = timer
    request.picked_ns, request.assembled_ns, request.computed_ns, request.scattered_ns = stamps[3:7]
    clock.record(request, stamps[0], stamps[1], stamps[7], stamps[8])


def batch_of(*rows: int, lengths: tuple[int, ...] = (), padded_to: int = 0, took_ns: int = 0) -> Batch:
    """A batch that has run: one request for each number of rows."""
    slices = []
    for count, length in zip(rows, lengths or (0,) * len(rows), strict=True):
        request = InferRequest((), count, lambda _: None)
        request.length = length
        slices.append((request, 0, count))
    batch = Batch(None, slices, sum(rows), 0, padded_to)
    batch.assembled_ns, batch.computed_ns = 1_000, 1_000 + took_ns
    return batch


def by_hand(values_ns: list[int]) -> list[int]:
    return [*(sum(value <= bound for value in values_ns) for bound in BOUNDS_NS), len(values_ns)]


@given(st.lists(st.lists(st.integers(0, 10**15), min_size=10, max_size=10), min_size=1, max_size=8))
def test_the_stages_of_any_stamps_add_up_to_the_total(stamps: list[list[int]]) -> None:
    spent = stage_durations_ns(np.array(stamps, np.int64))
    assert spent.shape == (len(stamps), len(SERIES))
    np.testing.assert_array_equal(spent[:, :-1].sum(axis=1), spent[:, -1])
    assert spent[:, -1].tolist() == [row[9] - row[0] for row in stamps]


@given(requests)
def test_histograms_agree_with_counting_by_hand(stages_ns: list[tuple[int, ...]]) -> None:
    clock = StageClock()
    for spent in stages_ns:
        record(clock, spent)
    columns = [[spent[index] for spent in stages_ns] for index in range(len(STAGES))]
    columns.append([sum(spent) for spent in stages_ns])
    seen = list(clock.histograms())
    assert [name for name, _, _ in seen] == list(SERIES)
    for (_, counts, total_s), values_ns in zip(seen, columns, strict=True):
        assert counts == by_hand(values_ns)
        assert total_s == pytest.approx(sum(values_ns) / 1e9)


def test_each_stage_is_counted_under_its_own_name() -> None:
    clock = StageClock()
    record(clock, tuple(range(1, 10)))
    assert {name: round(total_s * 1e9) for name, _, total_s in clock.histograms()} == {
        **dict(zip(STAGES, range(1, 10), strict=True)),
        "total": 45,
    }


@pytest.mark.parametrize("count", [PENDING_REQUESTS - 1, PENDING_REQUESTS, 2 * PENDING_REQUESTS + 1])
def test_nothing_is_lost_or_counted_twice_when_the_buffer_is_emptied(count: int) -> None:
    clock = StageClock()
    for number in range(count):
        record(clock, (number,) * 9)
    first = list(clock.histograms())
    assert first == list(clock.histograms())
    assert all(counts[-1] == count for _, counts, _ in first)
    assert first[0][2] == pytest.approx(sum(range(count)) / 1e9)


def test_requests_are_counted_on_after_a_scrape() -> None:
    clock = StageClock()
    for scrape in range(3):
        record(clock, (5,) * 9)
        assert {counts[-1] for _, counts, _ in clock.histograms()} == {scrape + 1}


def test_bounds_rise() -> None:
    assert all(low < high for bounds in (BOUNDS_S, BATCH_BOUNDS) for low, high in itertools.pairwise(bounds))


def scrape(metrics: Metrics) -> Samples:
    samples: Samples = {}
    for family in text_string_to_metric_families(metrics.text().decode()):
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in samples, "a series is there twice"
            samples[key] = sample.value
    return samples


def add(metrics: Metrics, name: str, version: str = "1") -> ModelMetrics:
    model = ModelMetrics(name, version)
    metrics.add(model)
    return model


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples[name, frozenset(labels.items())]


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(lambda: True, "1.2.3")


def test_the_exposition_of_a_server_without_a_model_parses(metrics: Metrics) -> None:
    samples = scrape(metrics)
    assert value(samples, "slipway_build_info", version="1.2.3") == 1
    assert value(samples, "slipway_ready") == 1
    assert CONTENT_TYPE.startswith(b"text/plain; version=0.0.4")


def test_readiness_is_asked_at_each_scrape() -> None:
    answers: Iterator[bool] = iter([False, True])
    ready: Callable[[], bool] = lambda: next(answers)  # noqa: E731 - a name for its type
    metrics = Metrics(ready, "1")
    assert value(scrape(metrics), "slipway_ready") == 0
    assert value(scrape(metrics), "slipway_ready") == 1


def test_every_family_of_ours_has_our_prefix_and_help(metrics: Metrics) -> None:
    add(metrics, "m").answers["ok"] += 1
    families = list(text_string_to_metric_families(metrics.text().decode()))
    ours = [family for family in families if not family.name.startswith("process_")]
    assert ours
    for family in ours:
        assert family.name.startswith("slipway_")
        assert family.documentation


def test_answers_are_counted_by_outcome_and_model(metrics: Metrics) -> None:
    add(metrics, "m").answers.update({"ok": 3, "overloaded": 1})
    add(metrics, "n", "2").answers["ok"] += 2
    metrics.refused["unknown_model"] += 4
    samples = scrape(metrics)
    assert value(samples, "slipway_requests_total", model="m", version="1", outcome="ok") == 3
    assert value(samples, "slipway_requests_total", model="m", version="1", outcome="overloaded") == 1
    assert value(samples, "slipway_requests_total", model="n", version="2", outcome="ok") == 2
    assert value(samples, "slipway_refused_total", code="unknown_model") == 4


def test_stage_histograms_are_exposed_with_the_total_apart(metrics: Metrics) -> None:
    clock = add(metrics, "m").stages
    record(clock, (20_000,) * 9)
    samples = scrape(metrics)
    for stage in STAGES:
        labels = {"model": "m", "version": "1", "stage": stage}
        assert value(samples, "slipway_stage_seconds_count", **labels) == 1
        assert value(samples, "slipway_stage_seconds_sum", **labels) == pytest.approx(2e-5)
        assert value(samples, "slipway_stage_seconds_bucket", **labels, le="1e-05") == 0
        assert value(samples, "slipway_stage_seconds_bucket", **labels, le="2.5e-05") == 1
    assert value(samples, "slipway_request_seconds_sum", model="m", version="1") == pytest.approx(1.8e-4)
    assert not any(("stage", "total") in labels for _, labels in samples)


@settings(max_examples=30)
@given(st.lists(st.integers(1, 400), max_size=20))
def test_batch_sizes_agree_with_counting_by_hand(sizes: list[int]) -> None:
    metrics = Metrics(lambda: True, "1")
    model = add(metrics, "m")
    for rows in sizes:
        model.record_run(batch_of(rows), 0)
    samples = scrape(metrics)
    labels = {"model": "m", "version": "1"}
    for bound in BATCH_BOUNDS:
        count = value(samples, "slipway_batch_rows_bucket", **labels, le=str(float(bound)))
        assert count == sum(rows <= bound for rows in sizes)
    assert value(samples, "slipway_batch_rows_bucket", **labels, le="+Inf") == len(sizes)
    assert value(samples, "slipway_batch_rows_count", **labels) == len(sizes)
    assert value(samples, "slipway_batch_rows_sum", **labels) == sum(sizes)


def test_what_waits_and_what_runs_cost_is_asked_at_each_scrape(metrics: Metrics) -> None:
    model = add(metrics, "m")
    waiting = itertools.count(5)
    model.waiting_rows = lambda: next(waiting)
    model.backlog_ns = lambda: 1_500_000
    model.costs = lambda: [(0, 1, 20_000), (0, 8, 50_000)]
    model.load_seconds = 0.25
    samples = scrape(metrics)
    labels = {"model": "m", "version": "1"}
    assert value(samples, "slipway_queue_rows", **labels) == 5
    assert value(samples, "slipway_backlog_seconds", **labels) == pytest.approx(1.5e-3)
    assert value(samples, "slipway_load_seconds", **labels) == 0.25
    assert value(samples, "slipway_cost_seconds", **labels, length="0", batch_size="1") == pytest.approx(2e-5)
    assert value(samples, "slipway_cost_seconds", **labels, length="0", batch_size="8") == pytest.approx(5e-5)
    assert value(scrape(metrics), "slipway_queue_rows", **labels) == 6


def test_labels_are_escaped(metrics: Metrics) -> None:
    name = 'a "quoted"\nback\\slash'
    add(metrics, name).answers["ok"] += 1
    assert value(scrape(metrics), "slipway_requests_total", model=name, version="1", outcome="ok") == 1


def test_two_servers_in_one_process_count_apart() -> None:
    one, other = Metrics(lambda: True, "1"), Metrics(lambda: True, "1")
    one.refused["x"] += 1
    assert ("slipway_refused_total", frozenset({("code", "x")})) not in scrape(other)


def test_slices_that_failed_are_counted() -> None:
    model = ModelMetrics("m", "1")
    model.record_run(batch_of(8), 2)
    model.record_run(batch_of(4), 1)
    assert model.failed_slices == 3


def test_padding_is_told_beside_what_was_asked_for(metrics: Metrics) -> None:
    model = add(metrics, "m")
    model.record_run(batch_of(2, 1, lengths=(3, 8), padded_to=8), 0)
    model.record_run(batch_of(1, lengths=(8,), padded_to=8), 0)
    samples = scrape(metrics)
    labels = {"model": "m", "version": "1"}
    assert value(samples, "slipway_padded_positions_total", **labels, kind="real") == 6 + 8 + 8
    assert value(samples, "slipway_padded_positions_total", **labels, kind="padding") == 2 * 5


def test_rows_that_a_request_filled_up_itself_are_padding_too() -> None:
    batch = batch_of(4, lengths=(10,), padded_to=16)
    request, _, _ = batch.slices[0]
    request.filled = 12
    assert batch.positions() == (28, 36)
    batch.slices = [(request, 0, 2)]  # half of it: half of what was filled up
    assert batch.positions() == (14, 18)


def test_a_model_that_never_pads_has_no_positions(metrics: Metrics) -> None:
    model = add(metrics, "m")
    model.record_run(batch_of(4, took_ns=3_000_000), 0)
    model.record_run(batch_of(4, took_ns=2_000_000), 0)
    model.work.size(2, 3)
    samples = scrape(metrics)
    labels = {"model": "m", "version": "1"}
    assert not any(name.startswith("slipway_padded") for name, _ in samples)
    assert value(samples, "slipway_run_seconds_total", **labels) == pytest.approx(5e-3)
    assert value(samples, "slipway_instances", **labels) == 2
    assert value(samples, "slipway_compute_threads", **labels) == 6


def test_a_pipelines_work_is_told_of_its_steps_alone(metrics: Metrics) -> None:
    model = add(metrics, "m")
    step = StepMetrics("encode")
    model.steps = [step]
    step.record_run(batch_of(1, lengths=(3,), padded_to=4, took_ns=1_000_000), 0)
    samples = scrape(metrics)
    labels = {"model": "m", "version": "1", "step": "encode"}
    assert value(samples, "slipway_step_padded_positions_total", **labels, kind="padding") == 1
    assert value(samples, "slipway_step_run_seconds_total", **labels) == pytest.approx(1e-3)
    assert not any(name.startswith("slipway_run_seconds") for name, _ in samples)


def test_what_is_no_models_is_asked_at_each_scrape(metrics: Metrics) -> None:
    metrics.further.append(Cores(3).families)
    samples = scrape(metrics)
    assert value(samples, "slipway_cores") == 3
    assert value(samples, "slipway_context_switches_total", kind="voluntary") > 0


def test_a_model_is_shown_from_when_it_is_added_until_it_is_removed(metrics: Metrics) -> None:
    def shown() -> set[str]:
        return {dict(labels)["model"] for _, labels in scrape(metrics) if "model" in dict(labels)}

    m, n = add(metrics, "m"), add(metrics, "n")
    assert shown() == {"m", "n"}
    metrics.remove(m)
    assert shown() == {"n"}
    metrics.remove(n)
    assert shown() == set()


def test_the_documentation_names_every_metric(metrics: Metrics) -> None:
    model = add(metrics, "m")
    model.steps = [StepMetrics("encode")]
    metrics.further += [Cores(2).families, Collections().families, LoopLag(FakeLoop()).families]
    metrics.further += [Pauses().families, Switches(True).families]
    text = (Path(__file__).parents[4] / "docs" / "operations.md").read_text(encoding="utf-8")
    families = {family.name for family in text_string_to_metric_families(metrics.text().decode())}
    ours = {name for name in families if name.startswith("slipway_")}
    assert len(ours) > 30
    assert sorted(name for name in ours if name not in text) == []


def test_one_model_that_cannot_be_read_does_not_fail_the_scrape() -> None:
    metrics = Metrics(lambda: True, "1")
    broken, good = ModelMetrics("broken", "1"), ModelMetrics("good", "1")

    def fail() -> int:
        raise ValueError("closed")

    broken.waiting_rows = broken.cache_bytes = fail
    good.waiting_rows = lambda: 7
    for one in (broken, good):
        metrics.add(one)
    metrics.further.append(lambda: iter([fail()]))
    text = metrics.text().decode()
    assert 'slipway_queue_rows{model="good",version="1"} 7.0' in text
    assert 'slipway_load_seconds{model="good",version="1"}' in text


def test_runs_on_gpus_are_shown_by_how_they_ran_and_by_step() -> None:
    counts = {"runs": 3, "replays": 2, "launches": 1, "open_runs": 4, "padded_rows": 5} | {
        "copied_in_bytes": 6,
        "copied_out_bytes": 7,
        "copy_in_ns": 10**9,
        "compute_ns": 2 * 10**9,
        "copy_out_ns": 3 * 10**9,
    }
    metrics = Metrics(lambda: True, "1")
    on_gpu, on_cpu = ModelMetrics("a", "1"), ModelMetrics("b", "1")
    on_gpu.device = lambda: counts
    metrics.add(on_gpu)
    metrics.add(on_cpu)
    text = metrics.text().decode()
    assert 'slipway_device_runs_total{how="replay",model="a",version="1"} 2.0' in text
    assert 'slipway_device_runs_total{how="open",model="a",version="1"} 4.0' in text
    assert 'slipway_device_step_seconds_total{model="a",step="compute",version="1"} 2.0' in text
    assert 'slipway_device_copied_bytes_total{direction="out",model="a",version="1"} 7.0' in text
    assert 'slipway_device_padded_rows_total{model="a",version="1"} 5.0' in text
    assert 'model="b"' not in "".join(line for line in text.splitlines() if "slipway_device" in line)


def test_the_state_of_gpus_is_read_at_a_scrape() -> None:
    card = Gpu(0, "NVIDIA L4", "GPU-1", 89, 100, 30, False, None, None, 0.25)
    text = "".join(
        f"{sample.name} {sample.labels} {sample.value}\n"
        for family in gpu_families(lambda: [card])
        for sample in family.samples
    )
    assert "'state': 'used'} 30" in text
    assert "'state': 'free'} 70" in text
    assert "slipway_gpu_busy_ratio {'gpu': '0', 'uuid': 'GPU-1'} 0.25" in text
    assert "ecc" not in text
