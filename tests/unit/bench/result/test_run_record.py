"""From raw rows to the record, the verdict on the run, and the card."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from bench.errors import Unusable
from bench.experiments.config import RunConfig
from bench.experiments.recording import Surroundings, build
from bench.explain import stages
from bench.load import schedule
from bench.load.measurements import COLUMNS, Failure, Outcome
from bench.load.raw_run import RawRun, Snapshot
from bench.load.server_timing import MISSING, STAGES
from bench.observe import environment
from bench.progress import ProgressLine
from bench.report import terminal
from bench.result import record, validity
from bench.result.objective import Objective
from tests.unit.bench import planted_record

CONFIG = replace(
    planted_record.CONFIG, rate_per_s=500.0, duration_s=10.0, seed=3, timeout_s=1.0, command="python -m bench run ..."
)
SURROUNDINGS = Surroundings(environment.describe())
CREATED = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


def healthy(**changes: Any) -> RawRun:
    """A run that kept its schedule: exponential compute of 2 ms on average, 0.5 ms that nobody accounts for."""
    due = schedule.build("poisson", 500, 12, 3).offsets_ns
    compute = np.random.default_rng(3).exponential(2e6, len(due)).astype(np.int64)
    columns = {name: np.zeros(len(due), dtype=np.int64) for name in COLUMNS}
    columns |= {"index": np.arange(len(due)), "due_ns": due, "picked_ns": due + 10_000, "send_ns": due + 10_000}
    columns |= {"sent_ns": due + 20_000, "compute_ns": compute, "last_byte_ns": due + 520_000 + compute}
    columns |= {"batch": np.full(len(due), 4), "status": np.full(len(due), 200)}
    run = RawRun(columns, {}, due, 0.2, 20, 0, exhausted=False, interrupted=False, abandoned=0)
    return replace(run, **changes)


def recorded(raw: RawRun, config: RunConfig = CONFIG) -> record.RunRecord:
    return build(config, [raw], CREATED, SURROUNDINGS)[0]


def text_of(found: record.RunRecord) -> str:
    console = Console(file=io.StringIO(), width=140, force_terminal=False)
    terminal.show(found, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_healthy_run_is_valid_and_complete() -> None:
    found = recorded(healthy())
    assert found.validity.ok
    assert found.validity.schedule_kept == pytest.approx(1)
    assert found.latency.corrected is not None
    assert found.latency.corrected["p50"].value_ms == pytest.approx(0.52 + 2 * np.log(2), rel=0.05)
    assert found.window.requests == (healthy().columns["due_ns"] >= 2e9).sum()
    assert found.throughput.goodput_per_s == pytest.approx(500, rel=0.05)
    assert found.batches == {"4": found.window.requests}
    assert found.tail is not None
    assert sum(found.tail.contributions_ms.values()) == pytest.approx(found.tail.gap_ms)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"generator_cpu": 0.81}, "81%"),
        ({"exhausted": True}, "file descriptors"),
    ],
)
def test_an_overloaded_generator_invalidates_the_run(changes: dict[str, Any], words: str) -> None:
    found = recorded(healthy(**changes))
    assert not found.validity.ok
    assert any(words in reason for reason in found.validity.reasons)
    assert found.latency.corrected is None
    assert found.latency.untrusted is not None
    shown = text_of(found)
    assert "INVALID" in shown
    assert words in shown
    assert "p50" not in shown.split("Generator")[0]


def late_at_the_tail(lag_ns: int, tail_ns: int) -> record.RunRecord:
    """A run in which one request in fifty takes ``tail_ns``, of which the generator was late for ``lag_ns``."""
    raw = healthy()
    for name in ("picked_ns", "send_ns", "sent_ns", "first_byte_ns"):
        raw.columns[name][::50] += lag_ns
    raw.columns["last_byte_ns"][::50] = raw.columns["due_ns"][::50] + tail_ns
    return recorded(raw)


def test_a_generator_that_is_late_at_the_tail_has_that_percentile_refused_and_no_other() -> None:
    found = late_at_the_tail(lag_ns=17_000_000, tail_ns=100_000_000)
    assert not found.validity.ok
    assert found.validity.wide == ("p99",)
    assert found.latency.corrected is not None
    assert set(found.latency.corrected) == {"p50", "p90", "p95"}
    assert set(found.latency.untrusted or {}) == {"p99"}
    assert (found.latency.uncorrected or {})["p99"].value_ms is not None  # the other end of the bracket
    shown = text_of(found)
    assert "refused: the generator was late for 17.01 ms of it" in shown
    assert "p50" in shown


def test_a_small_lag_within_a_long_tail_is_harmless() -> None:
    found = late_at_the_tail(lag_ns=3_000_000, tail_ns=100_000_000)
    assert found.validity.ok
    assert found.validity.lags_ms["p99"] == pytest.approx(3.0, rel=0.01)
    assert found.latency.untrusted is None


def test_a_server_that_cannot_keep_up_makes_a_valid_run() -> None:
    raw = healthy(cap_hits=300)
    late_ns = (raw.columns["due_ns"] * 0.3).astype(np.int64)
    for name in ("send_ns", "sent_ns", "first_byte_ns", "last_byte_ns"):
        raw.columns[name] += late_ns
    found = recorded(raw)
    assert found.validity.ok, found.validity.reasons
    assert found.throughput.goodput_per_s < 0.9 * (found.throughput.offered_per_s or 0)
    assert found.verdict is None or found.verdict.causes


def test_callers_without_a_core_to_run_on_invalidate_a_closed_loop() -> None:
    raw = replace(healthy(), scheduled_ns=np.empty(0, dtype=np.int64), run_delay=0.3)
    state = validity.judge(raw, raw.columns, 0)
    assert state.fatal
    assert "had no core 30%" in state.reasons[0]
    assert validity.judge(replace(raw, run_delay=0.02), raw.columns, 0).ok


def test_silence_counts_in_the_rate() -> None:
    """A server that answered nothing in the second half of the run has half the goodput."""
    raw = healthy()
    silent = raw.columns["due_ns"] > 6e9
    raw.columns["outcome"][silent] = Outcome.TIMEOUT
    raw.columns["last_byte_ns"][silent] = raw.columns["due_ns"][silent] + 1_000_000_000
    found = recorded(replace(raw, failures={"timeout": Failure(0, b"")}))
    measured_s = found.window.seconds
    assert found.throughput.goodput_per_s == pytest.approx(500 * 4 / measured_s, rel=0.08)


def test_lag_is_forgiven_beside_a_slow_server() -> None:
    raw = healthy()
    raw.columns["picked_ns"][::50] += 1_500_000
    raw.columns["send_ns"] = np.maximum(raw.columns["send_ns"], raw.columns["picked_ns"])
    raw.columns["sent_ns"] = raw.columns["send_ns"] + 10_000
    raw.columns["last_byte_ns"] += 100_000_000
    assert recorded(raw).validity.ok


def test_a_server_that_went_is_not_called_a_generator_that_was_late() -> None:
    run = healthy()
    gone = run.columns["due_ns"] > 8e9
    columns = run.columns | {
        "send_ns": np.where(gone, MISSING, run.columns["send_ns"]),
        "outcome": np.where(gone, int(Outcome.CONNECTION), run.columns["outcome"]),
    }
    failures = {"connection": Failure(0, b"Connection refused")}
    found = recorded(replace(run, columns=columns, failures=failures)).validity
    (why,) = found.reasons
    assert why.startswith("the server refused a connection for ")
    assert not found.ok
    assert not found.generator_bound


def test_a_schedule_that_was_not_kept_invalidates_the_run() -> None:
    raw = healthy()
    late = (raw.columns["send_ns"] * 1.02).astype(np.int64)
    stretched = {**raw.columns, "picked_ns": late, "send_ns": late}
    waiting = {**raw.columns, "send_ns": late}
    assert validity.schedule_kept(raw, waiting, 0) == 1, "the server let connections wait"
    assert validity.schedule_kept(raw, stretched, 0) == pytest.approx(1 / 1.02, rel=1e-3)
    unsent = {
        **raw.columns,
        "send_ns": np.where(np.arange(len(raw.scheduled_ns)) % 10 == 0, MISSING, raw.columns["send_ns"]),
    }
    assert validity.schedule_kept(raw, unsent, 0) == pytest.approx(0.9, rel=1e-2)


def test_one_late_request_at_the_end_of_a_short_run_stretches_no_schedule() -> None:
    raw = healthy()
    picked_ns = raw.columns["picked_ns"][:40].copy()
    columns = {name: column[:40] for name, column in raw.columns.items()} | {"picked_ns": picked_ns}
    short = replace(raw, columns=columns, scheduled_ns=raw.scheduled_ns[:40])
    picked_ns[-1] += int(0.5 * (picked_ns[-1] - picked_ns[0]))
    assert validity.schedule_kept(short, columns, 0) == 1


def test_an_interrupted_run_is_partial_and_held_to_what_was_due() -> None:
    raw = healthy()
    half = {name: column[: len(column) // 2] for name, column in raw.columns.items()}
    found = recorded(replace(raw, columns=half, interrupted=True, abandoned=2))
    assert found.partial
    assert found.validity.ok
    assert "PARTIAL" in text_of(found)


def test_nothing_measured_and_nothing_answered_are_invalid() -> None:
    raw = healthy()
    nothing = recorded(
        replace(raw, columns={name: column[:0] for name, column in raw.columns.items()}, interrupted=True)
    )
    assert "nothing was measured" in nothing.validity.reasons[-1]
    text_of(nothing)
    raw.columns["outcome"][:] = Outcome.STATUS
    raw.columns["status"][:] = 503
    refused = recorded(replace(raw, failures={"503": Failure(0, b'{"error": "draining", "code": "not_ready"}')}))
    assert not refused.validity.ok
    assert (refused.errors[0].kind, refused.errors[0].code, refused.errors[0].share) == ("503", "not_ready", 1.0)
    assert "not_ready: draining" in text_of(refused)


def test_time_outs_count_as_slow_and_errors_do_not_count_as_fast() -> None:
    raw = healthy()
    every = np.arange(len(raw.scheduled_ns))
    raw.columns["outcome"][every % 20 == 0] = Outcome.TIMEOUT
    raw.columns["last_byte_ns"][every % 20 == 0] = raw.columns["due_ns"][every % 20 == 0] + 1_000_000_000
    raw.columns["outcome"][every % 2 == 1] = Outcome.STATUS
    raw.columns["status"][every % 2 == 1] = 429
    raw.columns["last_byte_ns"][every % 2 == 1] = raw.columns["due_ns"][every % 2 == 1] + 30_000
    failures = {"timeout": Failure(0, b""), "429": Failure(1, b"full [now]")}
    found = recorded(replace(raw, failures=failures))
    assert found.latency.corrected is not None
    assert found.latency.corrected["p95"].at_least
    assert found.latency.corrected["p50"].value_ms is not None
    assert found.latency.corrected["p50"].value_ms > 0.5
    assert [one.kind for one in found.errors] == ["429", "timeout"]
    shown = text_of(found)
    assert ">= 1,000.000" in shown
    assert "full [now]" in shown


def test_a_short_run_greys_the_percentiles_that_it_cannot_support() -> None:
    raw = healthy()
    short = {name: column[:1_150] for name, column in raw.columns.items()}
    found = recorded(replace(raw, columns=short, scheduled_ns=raw.scheduled_ns[:1_150]))
    assert found.latency.corrected is not None
    assert found.latency.corrected["p99"].value_ms is None
    assert found.latency.corrected["p50"].value_ms is not None
    assert "of 473 requests that this percentile needs" in text_of(found)


def test_the_card_shows_the_figures_the_stages_and_how_to_repeat_them() -> None:
    shown = text_of(recorded(healthy()))
    for words in (
        "valid",
        "offered",
        "p50",
        "p99",
        "compute",
        "network, event loop and unexplained",
        "Requests by batch size: 4",
        "python -m bench run ...",
    ):
        assert words in shown, words


def test_the_card_shows_the_objective_and_the_repeats() -> None:
    config = replace(CONFIG, objective=Objective(0.99, 50.0), repeats=3)
    raws = [healthy(start_ns=number * 15 * 10**9) for number in range(3)]
    shown = text_of(build(config, raws, CREATED, SURROUNDINGS)[0])
    assert "3 times with seeds 3 to 5" in shown
    assert "p99 <= 50 ms: met; 100.00% of requests within it" in shown


def test_what_is_explained_is_the_repeats_without_what_lies_between() -> None:
    raws = [healthy(start_ns=number * 60 * 10**9) for number in range(3)]
    found = build(replace(CONFIG, repeats=3), raws, CREATED, SURROUNDINGS)[0]
    assert found.explanation is not None
    assert found.explanation.bands["p50"] == found.stages.bands["p50"]
    assert [one.windows for one in found.explanation.arrivals] == [3_000, 300, 30]
    assert {audit.name for audit in found.explanation.audits if audit.ok} == {"Little's law, whole requests", "Clocks"}
    assert found.explanation.batching is not None
    assert found.explanation.batching.rows_per_s <= 4 * 550


def test_bars_are_as_long_as_they_should_be() -> None:
    band = stages.Band("p50", 0.4, 0.6, 9, 1.0, dict.fromkeys(stages.TERMS, 0.07) | {"residual": -0.01})
    cells = terminal.bar_cells(band, 56)
    assert sum(cells.values()) == 56
    assert cells["residual"] == 0
    assert max(cells[name] for name in STAGES) - min(cells[name] for name in STAGES) <= 1


def test_a_record_comes_back_from_its_files(tmp_path: Path) -> None:
    raw = healthy()
    path = tmp_path / "run.json"
    record.write(path, recorded(raw), raw.columns)
    found, columns = record.read(path)
    assert found == replace(recorded(raw), raw="run.npz")
    for name in COLUMNS:
        assert np.array_equal(columns[name], raw.columns[name]), name
    path.write_text("{}")
    with pytest.raises(Unusable, match="schema"):
        record.read(path)
    with pytest.raises(Unusable, match="cannot write"):
        record.write(tmp_path / "missing" / "run.json", recorded(raw), raw.columns)


def test_the_progress_line_is_short_and_rare() -> None:
    stream = io.StringIO()
    progress = ProgressLine(stream, 10)
    for step in range(100):
        progress(Snapshot(step * 0.01, step, 0, 1))
    assert stream.getvalue().count("\r") == 4
    progress.clear()
    assert stream.getvalue().endswith("\r")
