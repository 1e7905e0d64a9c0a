"""Model work: read from the server's metrics, and weighed as evidence."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.explain import explanation, steps
from bench.explain.evidence import in_bytes
from bench.explain.explanation import Explanation
from bench.explain.observations import observe
from bench.observe import memory_bandwidth, model_work, timeline
from bench.observe.link import Link
from bench.observe.memory_bandwidth import MemoryBandwidth
from bench.observe.model_work import Choices, Cost, ModelWork
from bench.observe.scrape import METRIC_PREFIXES, Scraped
from bench.observe.timeline import ServerTimeline
from bench.report.terminal import step_cells
from tests.unit.bench import planted
from tests.unit.bench.planted_facts import work

MODEL = 'model="m",version="1"'
STEP = f'{MODEL},step="encode"'


def exposition(second: float) -> str:
    """A server that each second runs 10 batches of 4 rows for 50 ms each, of which a quarter is padding."""
    told = {
        f"slipway_batch_rows_count{{{MODEL}}}": 10 * second,
        f"slipway_batch_rows_sum{{{MODEL}}}": 40 * second,
        f"slipway_run_seconds_total{{{MODEL}}}": 0.5 * second,
        f"slipway_instances{{{MODEL}}}": 2,
        f"slipway_compute_threads{{{MODEL}}}": 4,
        f'slipway_padded_positions_total{{{MODEL},kind="real"}}': 300 * second,
        f'slipway_padded_positions_total{{{MODEL},kind="padding"}}': 100 * second,
        f"slipway_model_file_bytes{{{MODEL}}}": 1e8,
        f"slipway_max_batch_size{{{MODEL}}}": 8,
        f"slipway_max_queue_delay_seconds{{{MODEL}}}": 0.002,
        f"slipway_max_queue_seconds{{{MODEL}}}": 1,
        f"slipway_inline{{{MODEL}}}": 0,
        f"slipway_contention_ratio{{{MODEL}}}": 1.5,
        f"slipway_device_shared{{{MODEL}}}": 1,
        f"slipway_run_cpu_seconds_total{{{MODEL}}}": 0.3 * second,
        f"slipway_run_cpu_wall_seconds_total{{{MODEL}}}": 0.4 * second,
        f'slipway_cost_seconds{{{MODEL},length="8",batch_size="1"}}': 0.01,
        f'slipway_cost_seconds{{{MODEL},length="16",batch_size="1"}}': 0.02,
        f'slipway_cost_seconds{{{MODEL},length="16",batch_size="4"}}': 0.05,
        'slipway_batch_rows_count{model="idle",version="1"}': 7,
        "slipway_gc_pause_seconds_sum": 0.03 * second,
        "slipway_gc_pause_seconds_count": 2 * second,
        "slipway_loop_lag_seconds_sum": 0.05 * second,
        "slipway_loop_lag_seconds_count": 10 * second,
        'slipway_context_switches_total{kind="voluntary"}': 100 * second,
        'slipway_context_switches_total{kind="involuntary"}': 40 * second,
        "slipway_cores": 2,
        "slipway_slowdowns": 1,
        "slipway_accepted_connections_total": 3 * second,
        'slipway_last_pause_timestamp_seconds{kind="gc"}': 1_000.0 + second // 2,
        'slipway_last_pause_seconds{kind="gc"}': 0.25,
    }
    return "".join(f"{name} {value}\n" for name, value in told.items())


def seen(count: int = 5) -> ServerTimeline:
    looks = [{"t_ns": 10**9 * at, "wall_s": 1_000.5 + at, "metrics": exposition(at)} for at in range(count)]
    return timeline.build(Scraped(looks), 0, [(0.0, 10.0)])


def test_everything_that_is_read_is_kept_by_the_scraper() -> None:
    lines = exposition(1).splitlines()
    assert [line for line in lines if not line.startswith(METRIC_PREFIXES)] == []


def test_work_is_what_counters_grew_by_and_idle_models_are_left_out() -> None:
    (found,) = seen().works
    assert (found.name, found.seconds, found.runs, found.rows) == ("model m", 4, 40, 160)
    assert found.busy == pytest.approx(0.5)
    assert found.utilisation == pytest.approx(0.25)
    assert found.waste == pytest.approx(0.25)
    assert (found.threads, found.file_bytes) == (4, 1e8)
    assert found.choices == Choices(8, 2.0, 1e3, inline=False, contention=1.5, shared=True)
    assert found.cpu_share == pytest.approx(0.75)
    # 10 positions a row on average, so the rows ran at 16, not at 8.
    assert found.usual_costs() == (Cost(16, 1, 20.0), Cost(16, 4, 50.0))


def test_what_the_process_does_to_itself_becomes_series() -> None:
    found = seen()
    assert found.mean("gc_share", [(0, 10)]) == pytest.approx(0.03)
    assert found.mean("gc_per_s", [(0, 10)]) == pytest.approx(2)
    assert found.mean("loop_lag_ms", [(0, 10)]) == pytest.approx(5)
    assert found.mean("involuntary", [(0, 10)]) == pytest.approx(40)
    assert found.mean("voluntary", [(0, 10)]) == pytest.approx(100)
    assert found.cores == 2


def test_an_older_server_tells_nothing_and_nothing_is_made_up() -> None:
    looks = [
        {
            "t_ns": 10**9 * at,
            "metrics": f"slipway_batch_rows_count{{{MODEL}}} {at}\nslipway_batch_rows_sum{{{MODEL}}} {at}\n",
        }
        for at in range(3)
    ]
    found = timeline.build(Scraped(looks), 0, [(0.0, 10.0)])
    (one,) = found.works
    assert (one.busy, one.utilisation, one.waste, one.instances, one.file_bytes) == (None, None, None, None, None)
    assert one.choices is None
    assert "gc_share" not in found.series


def told(beside: ServerTimeline, rate_per_s: float = 100, **about: object) -> tuple[Explanation, list[str]]:
    """The explanation of a planted run, and all texts of its evidence."""
    rows = planted.simulate(1, rate_per_s, 22)
    window = {name: column[rows["due_ns"] >= 2e9] for name, column in rows.items()}
    observed = observe(window, stretches=((2.0, 22.0),), request_bytes=600, cores=2.0, timeline=beside, **about)  # type: ignore[arg-type]
    found = explanation.explain(rows, observed)
    return found, [one for texts in found.evidence.values() for one in texts]


def beside(works: tuple[ModelWork, ...] = (), cores: float | None = 2, **series: float) -> ServerTimeline:
    t_s = tuple(2.0 * at for at in range(10))
    return ServerTimeline(
        1, t_s, {name: (value,) * 10 for name, value in series.items()}, {}, None, None, 0, None, (), works, cores
    )


def test_padding_is_told_with_its_share() -> None:
    _, texts = told(beside((work(real=1.0, padding=1.0),)))
    assert any(one.startswith("padding was 50% of the positions that model m computed: at most ") for one in texts)


def test_more_threads_than_cores_are_told_with_their_demand() -> None:
    text = "8 threads of its models may compute at once, on 2 cores"
    _, crowded = told(beside((work(threads=8),), run_delay=2.0, server_cpu_cores=2.0))
    assert f"{text}: they demanded 4.00 cores on average, and waited for 50% of that" in crowded
    _, unknown = told(beside((work(threads=8),)))
    assert text in unknown
    _, few = told(beside((work(threads=2),), run_delay=1.0, server_cpu_cores=1.0))
    assert "2 threads of its models may compute at once, on 2 cores" in few


@pytest.mark.parametrize(
    ("size", "share", "cache"),
    [(5e6, "0.500 ms (inferred), 5% of a run", "may stay in it"), (1.2e8, "more than a run", "do not fit")],
)
def test_reading_the_weights_is_held_against_the_time_of_a_run(size: float, share: str, cache: str) -> None:
    """10 GB/s read 120 MB in 12 ms; a run of one row takes 10."""
    heavy = work(file_bytes=size, costs=(Cost(0, 1, 10.0), Cost(0, 8, 20.0)))
    _, texts = told(beside((heavy,)), memory=MemoryBandwidth(1e10, 10_000_000))
    assert any("measured, a copy on all cores" in one and f"{share} of 1 row" in one for one in texts)
    assert any(f"50.0 runs/s, if each reads all files, read {in_bytes(size * 50)}/s (inferred)" in one for one in texts)
    assert any("the last-level cache of this machine has 10 MB, " in one and one.endswith(cache) for one in texts)


def test_where_memory_was_not_measured_the_size_is_told_alone() -> None:
    _, texts = told(beside((work(file_bytes=6e7),)))
    assert "the files of model m have 60 MB; the memory bandwidth there was not measured" in texts
    assert not any("reading them takes" in one for one in texts)


def test_the_use_of_a_link_is_told_where_its_rate_is_known() -> None:
    _, texts = told(beside(net_in=1e5, net_out=6e6), link=Link(100, "--link-mbit"))  # 12.5 MB/s
    text = "the link's nominal rate is 100 Mbit/s (--link-mbit); 48% was in use, outbound, all programs together"
    assert text in texts
    assert not any("nominal rate" in one for one in told(beside(net_out=6e6))[1])


def test_without_counters_of_the_interface_the_load_itself_is_held_against_the_link() -> None:
    _, texts = told(beside(), link=Link(1, "--link-mbit"))  # 125 kB/s; about 100 requests of 600 bytes are half of it
    assert any("nominal rate" in one and "this load alone" in one for one in texts)


def test_memory_is_measured_by_copying_and_its_cache_read(tmp_path: Path) -> None:
    found = memory_bandwidth.measure(seconds=0.0, copy_bytes=80_000, root=tmp_path)
    assert found.bytes_per_s > 0
    assert found.cache_bytes is None
    for index, size in enumerate(("48K", "2048K", "32M", "junk")):
        path = tmp_path / f"sys/devices/system/cpu/cpu0/cache/index{index}/size"
        path.parent.mkdir(parents=True)
        path.write_text(size)
    assert memory_bandwidth.last_cache_bytes(tmp_path) == 32 << 20


TOKENIZE = work(step="tokenize", busy=0.1, instances=1, costs=(Cost(0, 1, 0.5),), stages_ms={"queue": 0.1})
ENCODE = work(
    step="encode",
    busy=1.6,
    real=10_000.0,
    padding=5_000.0,
    costs=tuple(Cost(16, rows, 3 + 2.0 * rows) for rows in (1, 2, 4, 8)),
    stages_ms={"queue": 2.0, "assemble": 0.1, "compute": 7.0},
)


def test_the_law_of_a_step_is_that_of_its_cost_table() -> None:
    first, second = steps.laws((TOKENIZE, ENCODE))
    assert (first.fixed_ms, first.per_row_ms, first.capacity_per_s) == (None, None, 2_000)
    assert (second.length, second.largest) == (16, 8)
    assert second.fixed_ms == pytest.approx(3)
    assert second.per_row_ms == pytest.approx(2)
    assert second.capacity_per_s == pytest.approx(8e3 / 19)
    assert steps.busiest((TOKENIZE, ENCODE)) is ENCODE
    assert steps.laws((work(costs=(Cost(0, 1, 1.0),)),)) == ()  # a model is no step


def test_a_pipeline_is_explained_by_its_steps_and_not_by_what_its_replies_share() -> None:
    found, texts = told(beside((TOKENIZE, ENCODE)))
    assert found.batching is not None
    assert (found.batching.runs, found.batching.law, found.batching.sizes) == (1_000, None, ())
    assert found.batching.padding == pytest.approx(1 / 3)
    assert found.batching.capacity_from == "the server's cost table of step encode"
    assert "step encode was the busiest: 1.60 of 2 instances computed on average, 80%" in texts
    assert any("a run of step encode costs 3.000 ms at any size and 2.000 ms per row, 16 long" in one for one in texts)


def test_a_step_is_one_line_of_the_table() -> None:
    assert step_cells(ENCODE) == ("encode", "2.000", "0.100", "7.000", "500", "2.00", "80%", "33%")
    assert step_cells(TOKENIZE)[1:4] == ("0.100", "", "")


def test_a_planted_step_is_read_from_metrics() -> None:
    def text(at: int) -> str:
        told = {f"slipway_step_batch_rows_count{{{STEP}}}": 5 * at, f"slipway_step_batch_rows_sum{{{STEP}}}": 20 * at}
        for stage, seconds in (("queue", 0.2), ("assemble", 0.01), ("compute", 0.6)):
            told[f'slipway_step_seconds_sum{{{STEP},stage="{stage}"}}'] = seconds * at  # type: ignore[assignment]
            told[f'slipway_step_seconds_count{{{STEP},stage="{stage}"}}'] = 20 * at
        return "".join(f"{name} {value}\n" for name, value in told.items())

    looks = [{"t_ns": 10**9 * at, "metrics": text(at)} for at in range(4)]
    (one,) = model_work.build(_ends(looks))
    assert (one.name, one.runs, one.rows) == ("step encode", 15, 60)
    assert one.stages_ms == {
        name: pytest.approx(ms) for name, ms in (("queue", 10), ("assemble", 0.5), ("compute", 30))
    }


def _ends(looks: list[dict[str, object]]) -> list[model_work.Ends]:
    samples = [timeline._samples(str(look["metrics"])) for look in looks]
    return [((0.0, samples[0]), (float(len(looks) - 1), samples[-1]))]


def test_a_pause_is_kept_once_with_its_instant_in_the_load() -> None:
    found = seen()
    # It ended half a second before the second look of each pair, by the time of day.
    assert [(one.kind, one.end_s, one.lasted_s) for one in found.pauses] == [
        ("gc", -0.5, 0.25),
        ("gc", 0.5, 0.25),
        ("gc", 1.5, 0.25),
    ]
    assert found.slows
    assert found.totals is not None
    assert found.totals.connections == 12
