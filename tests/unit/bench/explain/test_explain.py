"""Planted faults are found, laws are recovered, and audits tell right from wrong: all seeded, no clock."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.explain import audits, batches, dispersion, explanation, stages, tail, transfer
from bench.explain.explanation import Explanation
from bench.explain.observations import observe
from bench.load import schedule
from bench.load.server_timing import MISSING, STAGES
from bench.observe.timeline import Span, Totals
from tests.unit.bench import planted
from tests.unit.bench.known import known

RATE = 450.0
WHOLE = ((2.0, 22.0),)


def explained(
    rows: planted.Columns,
    stretches: tuple[Span, ...] = WHOLE,
) -> Explanation:
    """The explanation of the rows inside the stretches."""
    inside = np.zeros(len(rows["due_ns"]), dtype=np.bool_)
    for low, high in stretches:
        inside |= (rows["due_ns"] >= low * 1e9) & (rows["due_ns"] < high * 1e9)
    window = {name: column[inside] for name, column in rows.items()}
    observed = observe(window, stretches=stretches, request_bytes=600, cores=2.0, timeline=None)
    return explanation.explain(rows, observed)


def account_of(fault: planted.Fault | None = None, seed: int = 1, duration_s: float = 22.0) -> stages.Account:
    return stages.join(planted.simulate(seed, RATE, duration_s, fault))


@pytest.mark.parametrize("fault", planted.FAULTS, ids=lambda fault: fault.name)
def test_the_tail_is_charged_to_the_planted_fault(fault: planted.Fault) -> None:
    # A pause of the model is waited for by everybody behind it: most of what it costs is queueing.
    wanted = "queue_busy" if fault.term == "compute" else fault.term
    for seed in range(3):
        found = known(tail.attribute(account_of(fault, seed)))
        assert max(found.terms, key=lambda name: found.terms[name].ms) == wanted


def test_contributions_add_up_and_lie_in_their_intervals() -> None:
    found = known(tail.attribute(account_of(planted.FAULTS[2])))
    assert sum(one.ms for one in found.terms.values()) == pytest.approx(found.gap_ms)
    assert sum(one.share or 0 for one in found.terms.values()) == pytest.approx(1)
    assert found.low_ms is not None
    assert found.high_ms is not None
    assert found.low_ms <= found.gap_ms <= found.high_ms
    largest = found.terms["decode"]
    assert largest.low_share is not None
    assert largest.high_share is not None
    assert 0 < largest.low_share <= (largest.share or 0) <= largest.high_share
    assert found == tail.attribute(account_of(planted.FAULTS[2]))  # the same seed, the same intervals


def test_a_short_run_has_no_intervals_and_an_empty_one_no_tail() -> None:
    short = known(tail.attribute(account_of(duration_s=1.5)))
    assert short.method is None
    assert all(one.low_ms is None for one in short.terms.values())
    assert tail.attribute(account_of(duration_s=0.05)) is None


def test_the_resampled_median_of_equal_weights_is_the_band_itself() -> None:
    """Binning by rank must not move a band: every block drawn once gives what the exact bands give."""
    account = account_of(planted.FAULTS[3])
    counts, sums_ms = tail._by_block_and_bin(account)
    count, sums = counts.sum(axis=0), sums_ms.sum(axis=0)
    for quantile in (0.5, 0.99):
        exact = known(stages.at_quantile(account, quantile))
        binned = tail._band_mean(count, sums / np.maximum(count, 1)[:, None], quantile)
        assert binned.sum() == pytest.approx(exact.total_ms, rel=0.02)


@settings(derandomize=True, deadline=None, max_examples=20)
@given(seed=st.integers(0, 1_000))
def test_variance_shares_add_up(seed: int) -> None:
    shares = known(tail.variance_shares(account_of(planted.FAULTS[seed % 7], seed, 1.0)))
    assert sum(shares.values()) == pytest.approx(1)


@pytest.mark.parametrize("quantile", [0.02, 0.25, 0.5, 0.9, 0.999])
def test_the_account_can_be_had_at_any_quantile(quantile: float) -> None:
    account = account_of()
    band = known(stages.at_quantile(account, quantile))
    assert sum(band.terms_ms.values()) == pytest.approx(band.total_ms)
    at = np.quantile(account.total_ns, [band.low, band.high]) / 1e6
    assert at[0] * 0.99 <= band.total_ms <= at[1] * 1.2


def test_runs_are_found_without_a_batch_id() -> None:
    account = account_of()
    runs = batches.reconstruct(account)
    assert runs.requests.sum() == len(account.total_ns)
    assert (runs.requests == runs.rows).mean() > 0.999
    sizes = batches.costs(runs)
    assert sum(one.runs for one in sizes) == len(runs.rows)


def test_two_runs_that_last_equally_long_stay_two() -> None:
    rows = planted.simulate(1, RATE, 1.0)
    rows["compute_ns"][:] = 5_000_000
    rows["batch"][:] = 1
    rows["queue_busy_ns"][:] = 0
    assert len(batches.reconstruct(stages.join(rows)).rows) == len(rows["batch"])


def test_the_batch_law_is_recovered() -> None:
    law = known(batches.fit(batches.reconstruct(account_of(duration_s=40))))
    assert law.fixed_ms == pytest.approx(4, abs=4 * law.fixed_error_ms)
    assert law.per_row_ms == pytest.approx(1, abs=4 * law.per_row_error_ms)
    assert law.residual_cv == pytest.approx(0.25, abs=0.02)
    assert law.steps == ()
    assert law.fixed_share == pytest.approx(0.8, abs=0.03)
    assert law.capacity_per_s(2) == pytest.approx(2 * law.capacity_per_s())


def stepped(seed: int, jump_ms: float) -> batches.Runs:
    random = np.random.default_rng(seed)
    rows = random.integers(1, 17, 4_000)
    times_ms = (4 + 0.5 * rows + jump_ms * (rows > 8)) * random.lognormal(0, 0.1, 4_000)
    return batches.Runs(rows, (times_ms * 1e6).astype(np.int64), rows)


def test_a_step_is_found_where_it_is() -> None:
    law = known(batches.fit(stepped(1, 5.0)))
    assert [step.above_rows for step in law.steps] == [8]
    assert law.steps[0].ms == pytest.approx(5, rel=0.1)
    assert law.ms(9) - law.ms(8) == pytest.approx(5.5, rel=0.1)


def test_no_step_is_made_up() -> None:
    laws = [batches.fit(stepped(seed, 0.0)) for seed in range(30)]
    assert sum(bool(law and law.steps) for law in laws) == 0


def test_dispersion_tells_even_from_random_from_bursty() -> None:
    even = dispersion.dispersion(schedule.build("constant", 200, 30, 5).offsets_ns, [(0, 30)])
    poisson = dispersion.dispersion(schedule.build("poisson", 200, 30, 5).offsets_ns, [(0, 30)])
    bursty = dispersion.dispersion(planted.simulate(1, 200, 30, planted.FAULTS[1])["due_ns"], [(0, 30)])
    assert [one.window_s for one in even] == [0.01, 0.1, 1.0]
    assert all(one.index < 0.3 for one in even)
    assert all(0.6 < one.index < 1.5 for one in poisson)
    assert bursty[1].index > 2
    assert dispersion.dispersion(schedule.build("constant", 200, 0.1, 5).offsets_ns, [(0, 0.1)]) == ()


def test_littles_law_holds_in_a_steady_run_and_breaks_in_one_that_falls_behind() -> None:
    steady = known(audits.little(planted.simulate(1, RATE, 22), [(2, 22)]))
    assert steady.ok
    behind = known(audits.little(planted.simulate(1, 1_500, 22), [(2, 22)]))  # capacity is 800/s
    assert behind.ok is False


def test_the_servers_own_count_is_held_against_ours() -> None:
    account = account_of()
    runs = batches.reconstruct(account)
    seconds = 22.0
    inside_s = float(account.terms_ns[:, 3:-1].sum()) / 1e9
    told = Totals(seconds, len(account.total_ns), inside_s + 1, 1.0, len(runs.rows), runs.rows.sum())
    for audit in (audits.little_in_server(account, told, seconds), audits.utilisation(runs, told, seconds)):
        assert audit is not None
        assert audit.ok
    other = Totals(seconds, 2 * len(account.total_ns), 2 * inside_s, 0.0, 2 * len(runs.rows), 0)
    for audit in (audits.little_in_server(account, other, seconds), audits.utilisation(runs, other, seconds)):
        assert audit is not None
        assert audit.ok is None  # somebody else's requests are no fault of the measurement
    assert audits.little_in_server(account, None, seconds) is None


def test_nothing_measured_is_nothing_explained() -> None:
    rows = {name: column[:0] for name, column in planted.simulate(1, RATE, 1).items()}
    found = explained(rows)
    assert found.evidence == {}
    assert found.tail is None
    assert found.audits == ()


def test_warm_ups_between_repeats_are_in_no_figure() -> None:
    """Two repeats of 10 s, between them 5 s of something else: as one run of 20 s, and not as one of 25."""
    rows = planted.simulate(1, RATE, 26)
    between = (rows["due_ns"] > 11e9) & (rows["due_ns"] < 16e9)
    rows["queue_timer_ns"][between] += 50_000_000
    rows["last_byte_ns"][between] += 50_000_000
    gone = (rows["due_ns"] > 12e9) & (rows["due_ns"] < 14e9)  # in which nothing was sent
    rows = {name: column[~gone] for name, column in rows.items()}
    found = explained(rows, ((1.0, 11.0), (16.0, 26.0)))
    assert found.bands["p99"].terms_ms["queue_timer"] == 0
    assert all(0.6 < one.index < 1.5 for one in found.arrivals)
    assert [one.windows for one in found.arrivals] == [2_000, 200, 20]
    assert found.batching is not None
    assert found.batching.rows_per_s == pytest.approx(RATE, rel=0.1)
    assert found.tail is not None
    assert found.tail.method is not None
    assert all(audit.ok for audit in found.audits)


def test_the_way_of_a_byte_is_found_over_sizes_and_not_from_one() -> None:
    """Each kB planted to take 8 us (125 MB/s) and every request 2 ms besides."""
    rows = planted.simulate(3, 100, 20)
    count = len(rows["due_ns"])
    sizes = np.random.default_rng(1).choice([10_000, 100_000, 1_000_000], count)
    worked = sum(np.maximum(rows[f"{stage}_ns"], 0) for stage in STAGES if stage != "receive")
    noise = np.random.default_rng(2).exponential(100_000, count).astype(np.int64)
    way = {"bytes_out": sizes, "last_byte_ns": rows["send_ns"] + worked + 2_000_000 + 8 * sizes + noise}
    found = known(transfer.slope(rows | way))
    assert found.us_per_kb == pytest.approx(8, rel=0.02)
    assert found.bytes_per_s == pytest.approx(125e6, rel=0.02)
    assert found.base_ms == pytest.approx(2.07, abs=0.05)
    assert transfer.slope(rows | {"bytes_out": np.full(count, 10_000)}) is None


def test_a_server_without_stage_times_is_told_nothing_of_stages() -> None:
    rows = planted.simulate(1, RATE, 22.0)
    for stage in STAGES:
        rows[f"{stage}_ns"][:] = MISSING
    texts = [one for texts in explained(rows).evidence.values() for one in texts]
    assert texts
    assert not any(
        "0.000 ms for a batch" in text or "encoding take" in text or "until the server" in text for text in texts
    )


def test_a_law_that_the_runs_do_not_follow_is_none() -> None:
    random = np.random.default_rng(3)
    sizes = random.integers(1, 9, 4_000)
    noise = random.exponential(5e6, len(sizes))
    flat = batches.Runs(sizes, (4e6 + noise).astype(np.int64), np.ones_like(sizes))
    falling = batches.Runs(sizes, (20e6 - 1e6 * sizes).astype(np.int64), np.ones_like(sizes))
    rising = batches.Runs(sizes, (4e6 + 1e6 * sizes + noise / 10).astype(np.int64), np.ones_like(sizes))
    assert batches.fit(flat) is None
    assert batches.fit(falling) is None
    assert batches.fit(rising) is not None
