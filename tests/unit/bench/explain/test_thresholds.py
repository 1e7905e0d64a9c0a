"""Every threshold of the explanation, at its value and next to it. The numbers are literal, so that none can drift.

Longer than 300 lines: all thresholds of one room, on the same rows.
"""

from __future__ import annotations

import numpy as np
import pytest

from bench.explain import audits, batches, dispersion, evidence, self_inflicted, sentence, stages, tail, transfer
from bench.explain.batching import Batching
from bench.explain.observations import Columns, Observations, observe
from bench.load.measurements import COLUMNS, Outcome
from bench.load.server_timing import MISSING
from bench.observe.timeline import ServerTimeline, Totals
from tests.unit.bench.known import known

MS = 1_000_000
SECOND = 1_000_000_000


def rows_of(count: int, gap_ns: int = MS, **terms_ns: object) -> Columns:
    """Requests with a constant gap and the given stage times, without any other term."""
    due = np.arange(count, dtype=np.int64) * gap_ns
    found = {name: np.full(count, MISSING, dtype=np.int64) for name in COLUMNS}
    found |= {"index": np.arange(count), "due_ns": due, "picked_ns": due, "send_ns": due, "sent_ns": due}
    found |= {"outcome": np.full(count, int(Outcome.OK)), "status": np.full(count, 200)}
    found |= {"bytes_in": np.full(count, 500), "bytes_out": np.full(count, 600), "batch": np.ones(count, np.int64)}
    total = np.zeros(count, dtype=np.int64)
    for name, value in terms_ns.items():
        found[f"{name}_ns"] = np.broadcast_to(np.asarray(value, dtype=np.int64), count).copy()
        total += found[f"{name}_ns"]
    return found | {"last_byte_ns": due + total, "first_byte_ns": due + total}


def observed_of(
    rows: Columns, timeline: ServerTimeline | None = None, request_bytes: float = 600, **more: object
) -> Observations:
    return observe(
        rows,
        stretches=((0.0, len(rows["due_ns"]) / 1e3),),
        request_bytes=request_bytes,
        cores=2.0,
        timeline=timeline,
        **more,  # type: ignore[arg-type]
    )


def timeline_of(**series: float) -> ServerTimeline:
    """A timeline of three scrapes with the same values."""
    return ServerTimeline(
        1, (0.0, 0.5, 1.0), {name: (value,) * 3 for name, value in series.items()}, {}, None, 100.0, 0, None, ()
    )


@pytest.mark.parametrize(
    ("median_ms", "gap_us", "shown"),
    [(0.5, 199, True), (0.5, 99, False), (0.5, 101, True), (10, 201, True), (10, 199, False), (1, 199, False)],
)
def test_a_tail_is_charged_only_above_noise(median_ms: float, gap_us: int, shown: bool) -> None:
    """A gap counts from 0.2 ms up, or from a fifth of the median up."""
    slow = np.arange(1_000) % 40 == 39
    compute = np.where(slow, median_ms * MS + gap_us * 1_000, median_ms * MS)
    observed = observed_of(rows_of(1_000, compute=compute))
    text = sentence.where_the_time_went(observed.bands["p50"], observed.bands["p99"], True)
    assert ("hardly slower" in text) != shown


def test_series_are_told_in_their_unit() -> None:
    timeline = timeline_of(
        rss_bytes=90e6, major_faults=3.0, server_cpu_cores=1.5, throttled=0.1, loop_delay=0.05,
        queue_rows=7.0, loop_lag_ms=1.0, gc_share=0.01, gc_per_s=2.0, ping_ms=3.0, involuntary=5.0, voluntary=6.0,
        threads=9.0, net_in=1e6, net_out=2e6, machine_busy=0.5, pressure=0.25, steal=0.125,
    )  # fmt: skip
    observed = observed_of(rows_of(1_000, compute=10 * MS), timeline)
    model, machine = evidence.of_model(observed), evidence.of_machine(observed)
    own, queue = self_inflicted.of_self_inflicted(observed), evidence.of_queue(observed)
    assert model[0] == "the server holds 90 MB of memory, of 100 bytes that its control group allows"
    assert model[1] == "3.0 pages per second were read from disk"
    assert machine == [
        "the server used 1.50 of 2 cores",
        "its CPU quota stopped threads of it for up to 10.0% of the time",
        "its machine was 50% busy, all programs together",
        "some program waited for a core 25% of the time",
        "other virtual machines took 12.5% of the cores",
    ]
    assert own[2].startswith("/ping, which needs the event loop and no model, took 3.00 ms (median of ")
    assert own[3:] == [
        "its event loop was 1.00 ms late for a timer on average, without the first millisecond",
        "the event loop was ready and had no core 5.0% of the time",
        "garbage collection took 1.00% of the time: 2.0 collections per second, 5.00 ms each",
        "the server has 9 threads, on 2 cores",
        "a working thread lost its core 5 times per second, and gave it up 6 times",
    ]
    assert queue[0] == "10.00 instances were computing on average"
    assert "7.0 rows waited in the queue on average" in queue
    network = evidence.of_network(observed)
    assert network[0] == "a request body has 600 bytes, a response body 500 bytes: 8.8 Mbit/s in all, without heads"
    assert "this machine: its network interfaces sent 2 MB per second, all programs together" in network


def test_load_is_rows_over_the_capacity_of_one_instance() -> None:
    timeline = timeline_of()
    timeline.costs_ms.update({"1": 2.0, "8": 4.0})
    observed = observed_of(rows_of(1_000, compute=2 * MS), timeline)
    assert observed.batching is not None
    assert observed.batching.capacity_from == "the server's cost table"
    found = evidence.of_queue(observed)
    assert "1,000 rows/s arrived, and one instance computes at most 2,000: a load of 50%" in found


@pytest.mark.parametrize(("body", "shown"), [(999, False), (1_000, True)])
def test_a_rate_is_inferred_from_bodies_beyond_one_packet(body: int, shown: bool) -> None:
    observed = observed_of(rows_of(1_000, receive=MS), request_bytes=body, loopback=transfer.Loopback(body, 100.0))
    found = evidence.of_network(observed)
    # 1,000 requests/s, 1 ms of transfer each
    assert any("so requests fill at most 100% of it" in one for one in found) == shown
    assert any("takes 0.100 ms more than an empty one" in one for one in found) == shown


@pytest.mark.parametrize(
    ("index", "kind"),
    [(0.49, "evenly"), (0.5, "independent callers"), (1.99, "independent callers"), (2.0, "in bursts")],
)
def test_arrivals_are_named_by_their_dispersion(index: float, kind: str) -> None:
    observed = observed_of(rows_of(1_000, compute=MS))
    found = evidence.of_queue(replace_arrivals(observed, index))
    assert any(f"index of dispersion {index:.2f}" in one and kind in one for one in found)


def replace_arrivals(observed: Observations, index: float) -> Observations:
    arrivals = (dispersion.Dispersion(0.1, 20, index),)
    fields = {name: getattr(observed, name) for name in Observations.__dataclass_fields__}
    return Observations(**{**fields, "arrivals": arrivals})


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (999, "999 bytes"),
        (1_000, "1 kB"),
        (1_500, "1.5 kB"),
        (1_000_000, "1 MB"),
        (1e9, "1 GB"),
        (2.5e12, "2.5e+03 GB"),
    ],
)
def test_sizes_change_unit_at_thousands(count: float, text: str) -> None:
    assert evidence.in_bytes(count) == text


def test_a_band_needs_five_requests_and_reaches_five_percent_or_half_way() -> None:
    assert stages.band_around(0.5) == (0.45, 0.55)
    assert stages.band_around(0.9) == (0.85, 0.95)
    assert stages.band_around(0.99) == (0.985, 0.995)
    assert stages.band_around(0.02) == (0.01, 0.03)
    assert stages.at_quantile(stages.join(rows_of(39, compute=MS)), 0.5) is not None
    assert stages.at_quantile(stages.join(rows_of(30, compute=MS)), 0.5) is None


@pytest.mark.parametrize(("excess_ns", "count"), [(50_000, 0), (50_001, 1)])
def test_a_contradiction_is_beyond_the_error_of_two_clocks(excess_ns: int, count: int) -> None:
    rows = rows_of(1, compute=MS)
    rows["last_byte_ns"] -= excess_ns
    assert stages.join(rows).contradictions == count


@pytest.mark.parametrize(("count", "ok"), [(1, True), (2, False)])
def test_the_audit_of_clocks_allows_one_request_in_a_hundred(count: int, ok: bool) -> None:
    rows = rows_of(100, compute=MS)
    rows["last_byte_ns"][:count] -= 100_000
    found = known(audits.contradictions(stages.join(rows)))
    assert (found.ok, found.mismatch, found.left_value, found.right_value) == (ok, count / 100, count, 100)
    assert audits.contradictions(stages.join(rows_of(0))) is None


@pytest.mark.parametrize(("extra", "ok"), [(0, True), (5, True), (6, None)])
def test_an_audit_holds_up_to_five_percent(extra: int, ok: bool | None) -> None:
    """The server counts 95 runs per 100 of the responses, or fewer."""
    runs = batches.Runs(np.ones(1_000, np.int64), np.full(1_000, MS), np.ones(1_000, np.int64))
    totals = Totals(1.0, 1_000, 1.0, 0.0, 1_000 - 10 * extra, 0)
    found = known(audits.utilisation(runs, totals, 1.0))
    assert found.mismatch == pytest.approx(extra / 100)
    assert found.ok is ok
    assert found.left_value == pytest.approx(1.0)


@pytest.mark.parametrize(("count", "audited"), [(199, False), (200, True)])
def test_audits_need_two_hundred_requests(count: int, audited: bool) -> None:
    rows = rows_of(count, compute=MS)
    account = stages.join(rows)
    runs = batches.reconstruct(account)
    totals = Totals(1.0, count, count / 1e3, 0.0, count, count)
    assert (audits.little(rows, [(0.0, 1.0)]) is not None) == audited
    assert (audits.little_in_server(account, totals, 1.0) is not None) == audited
    assert (audits.utilisation(runs, totals, 1.0) is not None) == audited


def test_requests_in_the_system_are_counted_over_the_stretch_alone() -> None:
    """Requests of 2 ms, 1 ms apart: two in the system, in any part of the run."""
    rows = rows_of(2_000, compute=2 * MS)
    found = known(audits.little(rows, [(0.5, 1.0), (1.2, 1.7)]))
    assert found.left_value == pytest.approx(2.0, rel=1e-3)
    assert found.right_value == pytest.approx(2.0, rel=1e-3)
    assert found.ok
    assert audits.little(rows, []) is None


def test_time_in_the_server_excludes_client_terms_and_the_residual() -> None:
    rows = rows_of(1_000, compute=2 * MS, decode=MS)
    rows["last_byte_ns"] += 5 * MS
    found = known(audits.little_in_server(stages.join(rows), Totals(2.0, 2_000, 7.0, 1.0, 0, 0), 1.0))
    assert found.left_value == pytest.approx(3.0)
    assert found.right_value == pytest.approx(3.0)


@pytest.mark.parametrize(("apart_ns", "runs"), [(50_000_000, 1), (50_000_001, 2)])
def test_requests_of_one_run_end_within_fifty_milliseconds(apart_ns: int, runs: int) -> None:
    rows = rows_of(2, apart_ns, compute=MS)
    rows["batch"][:] = 2
    assert len(batches.reconstruct(stages.join(rows)).rows) == runs


def test_a_run_holds_at_most_as_many_requests_as_rows() -> None:
    rows = rows_of(6, 1_000, compute=MS)
    rows["batch"][:] = 4
    assert batches.reconstruct(stages.join(rows)).requests.tolist() == [4, 2]


def runs_of(sizes: dict[int, int]) -> batches.Runs:
    rows = np.repeat(list(sizes), list(sizes.values()))
    return batches.Runs(rows, (2 + rows) * MS, rows)


def test_a_law_needs_two_sizes_of_five_runs() -> None:
    law = known(batches.fit(runs_of({1: 5, 2: 5})))
    assert law.fixed_ms == pytest.approx(2)
    assert law.per_row_ms == pytest.approx(1)
    assert (law.smallest, law.largest) == (1, 2)
    assert law.fixed_share == pytest.approx(2 / 3)
    assert batches.fit(runs_of({1: 5, 2: 4})) is None
    assert batches.fit(runs_of({1: 50})) is None


def test_scatter_around_a_law_is_a_share_of_its_time() -> None:
    """Two sizes, each with runs 10 % above and below its mean."""
    rows = np.repeat([1, 2], 500)
    compute = (2 + rows) * MS * np.where(np.arange(1_000) % 2 == 0, 0.9, 1.1)
    law = known(batches.fit(batches.Runs(rows, compute.astype(np.int64), rows)))
    assert law.residual_cv == pytest.approx(0.1, rel=1e-3)
    (first, second) = batches.costs(batches.Runs(rows, compute.astype(np.int64), rows))
    assert (first.runs, first.requests) == (500, 500)
    assert first.mean_ms == pytest.approx(3)
    assert first.cv == pytest.approx(0.1, rel=2e-3)
    assert second.requests == 1_000


@pytest.mark.parametrize(
    ("seconds", "scales"), [(0.19, []), (0.2, [0.01]), (2.0, [0.01, 0.1]), (20.0, [0.01, 0.1, 1.0])]
)
def test_dispersion_needs_twenty_windows(seconds: float, scales: list[float]) -> None:
    due = np.arange(0, int(seconds * SECOND), MS, dtype=np.int64)
    assert [one.window_s for one in dispersion.dispersion(due, [(0.0, seconds)])] == scales


@pytest.mark.parametrize(("gap_ms", "scales"), [(20, [0.01, 0.1]), (21, [0.1])])
def test_dispersion_needs_an_arrival_in_two_windows(gap_ms: int, scales: list[float]) -> None:
    due = np.arange(0, 42 * SECOND // 10, gap_ms * MS, dtype=np.int64)
    assert [one.window_s for one in dispersion.dispersion(due, [(0.0, 4.2)])] == scales


def test_intervals_of_the_tail_need_a_thousand_requests() -> None:
    random = np.random.default_rng(1).exponential(MS, 1_000).astype(np.int64)
    enough = tail.attribute(stages.join(rows_of(1_000, compute=random)))
    few = tail.attribute(stages.join(rows_of(999, compute=random[1:])))
    assert enough is not None
    assert few is not None
    assert (enough.method is None, few.method is None) == (False, True)


@pytest.mark.parametrize(
    ("sizes", "counts", "known"),
    [((1_000, 2_000), (20, 20), True), ((1_000, 2_000), (20, 19), False), ((1_001, 2_000), (20, 20), False)],
)
def test_a_slope_needs_twenty_requests_per_size_and_a_ratio_of_two(
    sizes: tuple[int, int], counts: tuple[int, int], known: bool
) -> None:
    body = np.repeat(sizes, counts)
    rows = rows_of(len(body), receive=body * 8)
    rows["bytes_out"] = body
    found = transfer.slope(rows)
    assert (found is not None) == known
    if found is not None:
        assert found.us_per_kb == pytest.approx(8)
        assert found.base_ms == pytest.approx(0, abs=1e-6)


def test_padding_and_capacity_of_a_load_without_a_timeline_are_unknown() -> None:
    found = observed_of(rows_of(1_000, compute=10 * MS)).batching
    assert isinstance(found, Batching)
    assert (found.padding, found.capacity_per_s, found.capacity_from, found.steps) == (None, None, None, ())
    assert (found.runs, found.rows_per_s) == (1_000, 1_000)
    assert found.busy_instances == pytest.approx(10)
