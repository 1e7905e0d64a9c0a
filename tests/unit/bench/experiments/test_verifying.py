"""Verification: blocks in turn, what is changed on the server, the log, and forecasts from files."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from bench.__main__ import main
from bench.commands import again
from bench.errors import Unusable
from bench.experiments import blocks, forecasting, verify
from bench.experiments.blocks import Variant
from bench.experiments.config import RunConfig
from bench.explain.changes import Change
from bench.explain.forecast import Forecast, Prediction
from bench.explain.ratio import Ratio
from bench.explain.verdict import PROVEN, Cause, Gain, Verdict
from bench.explain.workload import NoForecast, Workload
from bench.load import trace
from bench.load.trace import Arrival
from bench.result import record, verifications
from bench.result.record import RunRecord
from bench.result.verifications import Verification
from tests.unit.bench.experiments.conftest import RATE
from tests.unit.bench.planted_record import CONFIG

pytestmark = pytest.mark.usefixtures("quick")


def latency(p50_ms: float, p99_ms: float) -> Any:
    """A record of a block, as far as blocks look at it."""
    values = {name: SimpleNamespace(value_ms=ms) for name, ms in (("p50", p50_ms), ("p90", p50_ms), ("p99", p99_ms))}
    good = SimpleNamespace(reasons=(), generator_bound=False)
    return SimpleNamespace(partial=False, latency=SimpleNamespace(corrected=values, untrusted=None), validity=good)


def test_sides_take_turns_with_equal_arrivals_and_only_theirs_is_changed() -> None:
    log: list[tuple[str, int]] = []

    @contextlib.contextmanager
    def changed() -> Iterator[None]:
        log.append(("begin", 0))
        yield
        log.append(("end", 0))

    def run(config: RunConfig, _watch: object) -> tuple[RunRecord, Any]:
        log.append((config.arrivals, config.seed))
        return latency(2.0, 30.0 if config.arrivals == "new" else 10.0), None

    sides = {
        "old": Variant(replace(CONFIG, arrivals="old", seed=5)),
        "new": Variant(replace(CONFIG, arrivals="new", seed=5), changed),
    }
    seen = blocks.in_turn(sides, 2, lambda: None, run)
    assert log == [
        *[("old", 5), ("begin", 0), ("new", 5), ("end", 0)],
        *[("begin", 0), ("new", 6), ("end", 0), ("old", 6)],
    ]
    assert blocks.ratio(seen, "new", "old", "p99").value == pytest.approx(3.0)
    assert blocks.ratio(seen, "new", "old", "p50") == Ratio(1.0, 1.0, 1.0)


def test_a_change_is_ended_when_the_user_interrupts_its_block() -> None:
    ended: list[bool] = []

    @contextlib.contextmanager
    def changed() -> Iterator[None]:
        try:
            yield
        finally:
            ended.append(True)

    def run(_config: RunConfig, _watch: object) -> tuple[RunRecord, Any]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        blocks.in_turn({"new": Variant(CONFIG, changed)}, 1, lambda: None, run)
    assert ended == [True]


TEN_SECONDS_MS = np.tile(np.repeat([2.0, 10.0], [98, 2]), 10)
"""100 requests/s: p50 of 2 ms, and p99 of 10."""


def workload_of(total_ms: NDArray[np.float64]) -> Workload:
    """Requests 10 ms apart, with these latencies."""
    nothing = np.zeros(len(total_ms), np.int64)
    due_ns = np.arange(len(total_ms), dtype=np.int64) * 10_000_000
    total_ns = (total_ms * 1e6).astype(np.int64)
    rows = np.ones_like(nothing)
    return Workload(due_ns, nothing, nothing, rows, nothing, nothing, total_ns, 0, len(total_ms) / 100)


def told() -> Forecast:
    """Twice the rate makes every percentile twice as long."""
    predictions = {name: Prediction(ms, 2.0, 1.8, 2.2) for name, ms in (("p50", 2.0), ("p90", 2.0), ("p99", 10.0))}
    return Forecast(Change(rate=2.0), "rate x2", predictions, {}, 0.5, 0)


SPOILED: Any = SimpleNamespace(
    partial=False,
    latency=SimpleNamespace(corrected=None, untrusted=None),
    validity=SimpleNamespace(generator_bound=True, reasons=("late",)),
)
"""A run whose load generator was the limit."""


@pytest.mark.parametrize(("rounds", "good"), [(1, 0), (3, 0), (3, 1), (3, 2)])
def test_rounds_that_the_generator_spoiled_are_left_out_and_two_are_needed_for_an_interval(
    rounds: int, good: int
) -> None:
    def run(config: RunConfig, _watch: object) -> tuple[RunRecord, Any]:
        return (latency(1.0, 2.0) if config.seed - CONFIG.seed < good else SPOILED), None

    if good >= 2:
        seen = blocks.in_turn({"old": Variant(CONFIG)}, rounds, lambda: None, run)
        assert len(seen) == good
        return
    with pytest.raises(Unusable, match=f"the limit in all but {good} of the rounds"):
        blocks.in_turn({"old": Variant(CONFIG)}, rounds, lambda: None, run)


@pytest.mark.parametrize(("noise", "rounds"), [(1.0, 3), (1.2, 5), (3.0, 8)])
def test_a_verification_goes_on_while_its_observation_is_uncertain(
    noise: float, rounds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every second block of the changed side is ``noise`` times as slow: after five rounds 1.2 is known within 13 %."""

    sent: list[str] = []

    def measured(one: Variant, number: int, *_: object) -> blocks.Block:
        sent.append(one.config.arrivals)
        slower = noise if one.config.arrivals == "new" and number % 2 else 1.0
        return blocks.Block({"p50": 2.0, "p90": 2.0, "p99": 10.0 * slower})

    monkeypatch.setattr(blocks, "measured", measured)
    sides = {name: Variant(replace(CONFIG, arrivals=name, duration_s=2.0)) for name in ("old", "new")}
    verify.verify(told(), workload_of(TEN_SECONDS_MS), sides, 3, lambda: None, "now")
    assert sent.count("new") == sent.count("old") == rounds


@pytest.mark.parametrize(
    ("change", "url", "why"),
    [
        (Change(instances=2), None, "start a server with instances=2"),
        (Change(cache=0.5), None, "start a server with cache"),
        (Change(binary=True), None, "generated payload"),
        (Change(extra_us=5, max_queue_delay_us=0), None, "one after the other"),
    ],
)
def test_what_a_running_server_cannot_change_needs_another_one(change: Change, url: str | None, why: str) -> None:
    with pytest.raises(Unusable, match=why):
        verify.variants(CONFIG, change, verify.Other(url), 2_000)


def test_the_changed_side_has_another_rate_or_another_server() -> None:
    faster = verify.variants(CONFIG, Change(rate=2.0), verify.Other(), None)
    assert (faster["old"].config.rate_per_s, faster["new"].config.rate_per_s) == (450.0, 900.0)
    moved = verify.variants(CONFIG, Change(instances=2), verify.Other("http://127.0.0.1:9"), None)
    assert moved["new"].config.target.url == "http://127.0.0.1:9/v2/models/planted/infer"
    assert moved["old"].config.target == CONFIG.target


def entry(told: float, seen: float, kind: str = verifications.SLOWDOWN) -> Verification:
    forecast_of = {name: Ratio(told, told * 0.9, told * 1.1) for name in ("p50", "p99")}
    return Verification(
        "now", kind, "500 us more", forecast_of, {name: Ratio(seen, seen, seen) for name in forecast_of}
    )


def verified(base: Workload, olds: Sequence[dict[str, float]], monkeypatch: pytest.MonkeyPatch) -> Verification:
    """A verification with these unchanged blocks of two seconds; the changed ones take twice as long."""
    seen = [{"old": old, "new": {name: 2 * ms for name, ms in old.items()}} for old in olds]
    monkeypatch.setattr(blocks, "in_turn", lambda *_, **__: seen)
    sides = {"old": Variant(replace(CONFIG, duration_s=2.0)), "new": Variant(CONFIG)}
    return verify.verify(told(), base, sides, len(olds), lambda: None, "now")


@pytest.mark.parametrize(("now", "outdated"), [(1.0, ""), (1.08, ""), (1.2, "p50"), (0.8, "p50"), (0.0, "p99")])
def test_a_forecast_is_not_held_against_a_server_that_is_not_that_of_its_record(
    now: float, outdated: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    olds = [{"p50": 2.0 * (now or 1.0), "p90": 2.0 * (now or 1.0), "p99": 10.0 * (now or 1.3)}] * 3
    if outdated:
        with pytest.raises(NoForecast, match=f"times the {outdated} of its record now"):
            verified(workload_of(TEN_SECONDS_MS), olds, monkeypatch)
        return
    assert verified(workload_of(TEN_SECONDS_MS), olds, monkeypatch).observed["p99"].value == pytest.approx(2.0)


def test_one_bad_moment_of_a_record_makes_no_server_outdated(monkeypatch: pytest.MonkeyPatch) -> None:
    """The p99 of the whole record is 30 ms, that of four of its five blocks 10."""
    total_ms = TEN_SECONDS_MS.copy()
    total_ms[300:330] = 30.0
    base = workload_of(total_ms)
    assert base.quantile_in_blocks_ms(0.99, 10.0).tolist() == [30.0]
    assert base.quantile_in_blocks_ms(0.99, 2.0).tolist() == [10.0, 30.0, 10.0, 10.0, 10.0]
    assert base.quantile_in_blocks_ms(0.99, 60.0).tolist() == [30.0]
    assert verified(base, [{"p50": 2.0, "p90": 2.0, "p99": 10.0}] * 3, monkeypatch).held


def test_blocks_that_scatter_make_no_server_outdated(monkeypatch: pytest.MonkeyPatch) -> None:
    """8, 12 and 20 ms are 24 % more than 10 on average, and may be 10 by chance."""
    olds = [{"p50": 2.0, "p90": 2.0, "p99": ms} for ms in (8.0, 12.0, 20.0)]
    assert verified(workload_of(TEN_SECONDS_MS), olds, monkeypatch).held


def test_the_log_is_kept_beside_the_record(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    assert verifications.read(path) == []
    good, bad = entry(1.2, 1.25), entry(1.2, 2.4)
    for one in (good, bad):
        verifications.append(path, one)
    assert verifications.read(path) == [good, bad]
    assert (good.held, bad.held) == (True, False)
    assert verifications.errors([bad])[0]["p99"] == pytest.approx(np.log(2))
    verifications.path_of(path).write_text("{}")
    with pytest.raises(Unusable, match="cannot read the log"):
        verifications.read(path)


def test_whatif_prints_a_forecast_as_ratios_to_what_was_measured(
    run_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["whatif", str(run_file), "--extra-us", "2000"]) == 0
    found = json.loads(capsys.readouterr().out)
    p99 = found["predictions"]["p99"]
    measured = record.read(run_file)[0].latency.corrected
    assert measured is not None
    assert p99["base_ms"] == pytest.approx(measured["p99"].value_ms)
    assert 1.2 < p99["low"] < p99["ratio"] < p99["high"]
    assert "not verified with a slowdown yet" in found["notes"][0]


def test_whatif_says_why_there_is_no_forecast(run_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["whatif", str(run_file), "--set", "instances=2"]) == 1
    printed = capsys.readouterr()
    assert "no forecast: runs of 2 instances" in printed.err
    assert "were not measured" in json.loads(printed.out)["no_forecast"]
    assert main(["whatif", str(run_file)]) == 2
    assert main(["whatif", str(run_file), "--set", "instanzes=2"]) == 2
    assert main(["whatif", str(run_file), "--candidate", "int8"]) == 2


def test_a_slowdown_that_was_not_predicted_ends_forecasts(run_file: Path, tmp_path: Path) -> None:
    found, rows = record.read(run_file)
    base = forecasting.measured(found, rows)
    path = tmp_path / "run.json"
    verifications.append(path, entry(1.2, 2.4))
    with pytest.raises(NoForecast, match="does not behave like its simulation"):
        forecasting.of_measured(path, base, Change(rate=0.9))
    verifications.append(path, entry(1.2, 1.2))
    with pytest.raises(NoForecast, match=r"too wide, 0.* errors of earlier forecasts"):
        forecasting.of_measured(path, base, Change(rate=0.9))
    verifications.path_of(path).unlink()
    verifications.append(path, entry(1.2, 1.2))
    assert forecasting.of_measured(path, base, Change(rate=0.9)).checked == 1


def test_a_p99_that_the_load_generator_spoiled_is_not_forecast(run_file: Path) -> None:
    found, rows = record.read(run_file)
    base = forecasting.measured(found, rows)
    late = forecasting.measured(replace(found, validity=replace(found.validity, ok=False, wide=("p99",))), rows)
    for one, others in ((late, ()), (base, (late,))):
        with pytest.raises(NoForecast, match="the load generator was late"):
            forecasting.of_measured(run_file, one, Change(rate=0.9), others)


def test_what_was_tried_stands_in_the_report(run_file: Path, tmp_path: Path) -> None:
    path, page = tmp_path / "run.json", tmp_path / "page.html"
    record.write(path, *record.read(run_file))
    assert main(["report", str(path), "--output", str(page)]) == 0
    assert "Forecasts that were tried" not in page.read_text()
    verifications.append(path, entry(1.2, 2.4))
    assert main(["report", str(path), "--output", str(page)]) == 0
    text = page.read_text()
    assert "Forecasts that were tried" in text
    assert "<td>x1.20 [1.08, 1.32]</td><td>x2.40 [2.40, 2.40]</td><td>missed</td>" in text


def test_what_an_experiment_proved_stays_in_the_report(run_file: Path, tmp_path: Path) -> None:
    path, page = tmp_path / "run.json", tmp_path / "page.html"
    found, rows = record.read(run_file)
    proven = Cause("batch_timer", PROVEN, ("p99 became 0.50",), "do", Gain(1.0, 2.0), "prove")
    for tried, shown in (((), False), (("batch_timer",), True)):
        record.write(path, replace(found, verdict=Verdict((proven,), tried=tried)), rows)
        assert main(["report", str(path), "--output", str(page)]) == 0
        assert ("p99 became 0.50" in page.read_text()) is shown


def test_closed_loops_invalid_runs_and_silent_servers_have_no_forecast(run_file: Path) -> None:
    found, rows = record.read(run_file)
    cases = (
        (replace(found, load=replace(found.load, mode="closed")), "closed loop"),
        (
            replace(found, validity=replace(found.validity, fatal=True, reasons=("late",))),
            "invalid .late.: measure again",
        ),
        (replace(found, host=None), "/metrics"),
    )
    for one, why in cases:
        with pytest.raises(NoForecast, match=why):
            forecasting.measured(one, rows)


def test_another_candidate_is_as_fast_as_the_manifest_says(tmp_path: Path) -> None:
    def timed(name: str, *times_us: float) -> dict[str, Any]:
        cells = enumerate(times_us, 1)
        return {"name": name, "timings": [{"batch_size": at, "threads": 1, "p50_us": us} for at, us in cells]}

    evidence = {"chosen": "float32", "candidates": [timed("float32", 100, 200), timed("int8", 50, 50), timed("none")]}
    (tmp_path / "manifest.json").write_text(json.dumps({"evidence": evidence}))
    found = forecasting.candidate(tmp_path, "int8")
    assert found.compute == pytest.approx((0.5 * 0.25) ** 0.5)
    assert "int8 instead of float32" in found.words
    for name, why in (("int4", "it has int8, none"), ("none", "not timed at a common batch size")):
        with pytest.raises(Unusable, match=why):
            forecasting.candidate(tmp_path, name)


def test_advice_ranks_what_can_be_forecast_and_names_its_price(
    run_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cells = [{"batch_size": 1, "threads": 1, "p50_us": us} for us in (100.0, 40.0)]
    rows = [{"name": name, "timings": [cell]} for name, cell in zip(("float32", "int8"), cells, strict=True)]
    (tmp_path / "manifest.json").write_text(json.dumps({"evidence": {"chosen": "float32", "candidates": rows}}))
    assert main(["advise", str(run_file), "--artifact", str(tmp_path), "--price", "2"]) == 0
    found = json.loads(capsys.readouterr().out)
    words = [one["words"] for one in found["options"]]
    assert words[0].startswith("int8 instead of float32")
    assert "2 servers" in words
    assert found["per_million"] == pytest.approx(2 / (RATE * 3600) * 1e6, rel=0.1)
    p99 = [one["forecast"]["predictions"]["p99"]["ratio"] for one in found["options"]]
    assert p99 == sorted(p99)
    assert all(ratio < 1 for ratio in p99)
    (two,) = (one for one in found["options"] if one["servers"] == 2)
    assert two["per_million"] == pytest.approx(2 * found["per_million"])


def test_the_load_of_a_record_is_made_again_from_its_command(run_file: Path, tmp_path: Path) -> None:
    body = tmp_path / "body.json"
    body.write_text("{}")
    found, _ = record.read(run_file)
    command = f"python -m bench http://127.0.0.1:1 --payload {body} --seed 3 --output x.json"
    sha256 = record.PayloadRecord("", "", "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a", 2)
    found = replace(found, command=command, load=dataclasses.replace(found.load, payload=sha256))
    made = again.config(found, 3.0)
    assert (made.rate_per_s, made.duration_s, made.seed, made.repeats, made.observe) == (RATE, 3.0, 3, 1, False)
    body.write_text("[]")
    with pytest.raises(Unusable, match="the payload has changed"):
        again.config(found, 3.0)
    for command in ("locust -f x", "python -m bench sweep http://127.0.0.1:1"):
        with pytest.raises(Unusable, match=r"repeat.*measure again"):
            again.config(replace(found, command=command), 3.0)


def test_the_load_of_a_replay_is_made_again_from_its_trace(run_file: Path, tmp_path: Path) -> None:
    body, path = tmp_path / "body.json", tmp_path / "a.trace"
    body.write_text("{}")
    trace.write(path, trace.make("a.log", [Arrival(0.0), Arrival(0.5), Arrival(1.0)]))
    found, _ = record.read(run_file)
    payload = record.PayloadRecord("", "", "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a", 2)
    load = dataclasses.replace(found.load, payload=payload, arrivals=f"trace:{path}@2", rate_per_s=6.0)
    command = f"python -m bench replay {path} http://127.0.0.1:1 --speed 2 --payload {body}"
    made = again.config(replace(found, command=command, load=load), 3.0)
    assert (made.arrivals, made.rate_per_s) == (f"trace:{path}@2", None)
