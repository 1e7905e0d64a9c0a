"""The report: what a page shows and what it must not, from planted runs."""

from __future__ import annotations

import io
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from bench.__main__ import main
from bench.load.measurements import Outcome
from bench.report import checks, events, junit, page, runs, source, terminal
from bench.report.svg import Chart, linear_ticks, log_ticks, number, stylesheet
from bench.result import record
from bench.result.record import ObjectiveRecord, RunRecord
from bench.result.validity import Validity
from tests.unit.bench import planted
from tests.unit.bench.known import known
from tests.unit.bench.planted_record import COMMAND, RATE_PER_S, planted_record

DURATION_S = 20.0
ROWS = planted.simulate(1, RATE_PER_S, DURATION_S + 2, planted.FAULTS[0])
RECORD = planted_record(ROWS)
INVALID = Validity(False, ("the generator was <late>",), 0.5, 1.0, 9.0, 0.99, 40, 3, fatal=True)


def run_of(found: RunRecord, rows: planted.Columns = ROWS) -> source.Run:
    return source.of("run.json", RunRecord.from_json(found.to_json()), rows)


@pytest.fixture(scope="module")
def shown() -> str:
    return page.render([run_of(RECORD)], objective_ms=50)


def test_a_page_has_every_section_and_is_small(shown: str) -> None:
    for words in (
        "Where the time went",
        "What was measured, by resource",
        "because",
        "prove",
        "What the tail adds",
        "Latency by percentile",
        "Latency over time",
        "Latency against offered load",
        "objective 50 ms",
        "capacity",
        "Batch sizes",
        "S(b) =",
        "Load generator",
        "Audits",
        "Environment",
    ):
        assert words in shown, words
    again = known(re.search(r'<pre id="command">(.*?)</pre>', shown))
    assert re.sub(r"</?span>", "", again[1]) == COMMAND  # as it is copied
    assert len(shown.encode()) < 500_000


def test_a_page_needs_nothing_but_itself(shown: str) -> None:
    assert not re.search(r"""(src|href)\s*=|@import|url\(""", shown)
    addresses = set(re.findall(r"https?://[^/\s\"'<]+", shown))
    assert addresses <= {"http://127.0.0.1:8080"}  # the target's own


def test_a_page_is_well_formed(shown: str) -> None:
    open_tags: list[str] = []

    class Balance(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            if tag != "meta" and not (self.get_starttag_text() or "").endswith("/>"):
                open_tags.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert open_tags.pop() == tag

        def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            pass

    Balance().feed(shown)
    assert open_tags == []
    for drawing in re.findall(r"<svg.*?</svg>", shown, re.DOTALL):
        ET.fromstring(drawing)
    assert "nan" not in re.sub(r"<script>.*</script>|<style>.*</style>", "", shown, flags=re.DOTALL).lower().split()


PHONE_TEXT_PX, PHONE_SIGN_PX = 17, 9
"""Text of charts on a page of a telephone, and the width of its widest usual sign, in pixels of the drawing."""


def test_on_a_telephone_no_chart_is_wide_and_no_label_is_cut(shown: str) -> None:
    """A drawing of 520 px is shown at two thirds of that there, so that its text has 11 px."""
    narrow = re.sub(r'<div class="broad">.*?</div>', "", shown, flags=re.DOTALL)
    assert len(re.findall(r'<div class="slim">', narrow)) == len(re.findall(r"<figure class=wide>", shown)) > 0
    drawings = [ET.fromstring(one) for one in re.findall(r"<svg.*?</svg>", narrow, re.DOTALL)]
    assert {one.attrib["viewBox"].split()[2] for one in drawings} == {"520"}
    for drawing in drawings:
        for text in drawing.iter("text"):
            if text.attrib.get("text-anchor") == "end":
                assert float(text.attrib["x"]) - PHONE_SIGN_PX * len(text.text or "") > -20, text.text
    rules = stylesheet()
    assert f"font-size: {PHONE_TEXT_PX}px" in rules[rules.index("@media screen and (max-width: 34rem)") :]


def test_what_a_telephone_changes_comes_after_what_it_changes() -> None:
    """Of two rules of equal weight the later one holds."""
    general, phone = stylesheet().split("@media screen and (max-width: 34rem)")
    changed = re.findall(r"(?:^|[};])\s*([^{}@/;]+?)\s*\{", phone.split("@media print")[0])
    for selector in ("dl", "body", ".slim", ".evidence"):
        assert selector in [one.strip() for one in changed]
        assert re.search(rf"(^|[\s}}]){re.escape(selector)} {{", general), selector


@pytest.mark.parametrize("columns", [80, 132])
def test_a_card_fits_its_terminal_and_hangs_what_wraps(columns: int) -> None:
    reason = "the generator was late by 1.07 ms for the requests around p90: other programs use this machine, or more"
    found = replace(RECORD, validity=replace(INVALID, reasons=(reason,), fatal=False))
    console = Console(width=columns, file=io.StringIO(), record=True)
    terminal.show(found, console)
    lines = console.export_text().splitlines()
    assert max(len(line) for line in lines) == columns
    (first,) = (at for at, line in enumerate(lines) if "- the generator was late by" in line)
    if columns == 80:
        assert lines[first + 1].startswith("│      ")  # under the first word, not under the dash
        assert lines[first + 1][7] != " "


def test_values_are_shown_on_hover(shown: str) -> None:
    tips = re.findall(r'data-t="([^"]*)"', shown)
    assert any("queue_busy" in tip and " ms" in tip for tip in tips)
    assert any(tip.startswith("p99") for tip in tips)


def test_an_invalid_run_shows_health_and_no_latency() -> None:
    found = page.render([run_of(replace(RECORD, validity=INVALID))])
    assert "the generator was &lt;late&gt;" in found
    assert "Send lag of the generator" in found
    assert "Requests in flight" in found
    for words in (
        "Latency by percentile",
        "Latency over time",
        "What the tail adds",
        "What was measured, by resource",
        "p99\n",
    ):
        assert words not in found, words


def test_the_line_is_at_the_runs_own_objective_unless_another_is_asked_for() -> None:
    held = run_of(replace(RECORD, objective=ObjectiveRecord(0.99, 70.0, "met", 1.0, 450.0)))
    assert "objective 70 ms" in page.render([held])
    assert "objective 30 ms" in page.render([held], objective_ms=30)


def test_several_runs_make_a_curve_and_a_table_without_the_invalid_ones() -> None:
    runs = [run_of(RECORD), run_of(replace(RECORD, validity=INVALID))]
    found = page.render(runs)
    assert "1 invalid run(s) are not drawn" in found
    assert found.count("<td>run.json</td>") == 2


def test_runs_without_answers_stages_or_hosts_still_make_a_page() -> None:
    nothing = {name: column[:0] for name, column in ROWS.items()}
    assert "<h2>" in page.render([run_of(RECORD, nothing)])
    silent = {name: column.copy() for name, column in ROWS.items()}
    for name in ("receive", "decode", "queue_busy", "queue_timer", "assemble", "compute", "scatter", "encode"):
        silent[f"{name}_ns"][:] = -1
    silent["batch"][:] = -1
    told = replace(RECORD, stages=replace(RECORD.stages, server=False))
    assert "server and network" in page.render([run_of(told, silent)])


def test_stalls_failures_and_lateness_are_events() -> None:
    rows = {name: column.copy() for name, column in ROWS.items()}
    frozen = (rows["last_byte_ns"] > 9e9) & (rows["last_byte_ns"] < 11e9)
    rows["last_byte_ns"][frozen] = 11_000_000_000 + np.arange(frozen.sum())
    rows["outcome"][3_000], rows["status"][3_000] = Outcome.STATUS, 503
    rows["picked_ns"][4_000] += 50_000_000
    kinds = {event.text.split(":")[0] for event in events.find(run_of(RECORD, rows))}
    assert kinds >= {"stall", "failure 503", "generator late"}


def test_the_command_writes_a_page_or_says_why_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, output = tmp_path / "run.json", tmp_path / "run.html"
    record.write(path, RECORD, ROWS)
    assert main(["report", str(path), "--output", str(output)]) == 0
    assert output.read_text().startswith("<!doctype html>")
    assert "objective 20 ms" not in output.read_text()
    assert main(["report", str(path), "--output", str(output), "--objective", "20ms"]) == 0
    assert "objective 20 ms" in output.read_text()
    assert main(["report", str(tmp_path / "missing.json"), "--output", str(output)]) == 2
    assert "cannot read the result" in capsys.readouterr().err


def test_numbers_and_ticks_are_round() -> None:
    assert [number(value) for value in (0, 1234567, 12.345, 0.01234, 100, 99.96)] == [
        *("0", "1,234,567", "12.3", "0.0123", "100", "100"),
    ]
    assert linear_ticks(0, 10) == [0, 2, 4, 6, 8, 10]
    assert linear_ticks(3, 3) == [3]
    assert log_ticks(1, 100) == pytest.approx([1, 2, 5, 10, 20, 50, 100])


def test_texts_are_escaped() -> None:
    chart = Chart("<x>")
    chart.text(0, 0, "<b>&")
    chart.dot(1, 1, "dot", 'a"b<c')
    drawn = chart.draw()
    assert "<b>" not in drawn
    ET.fromstring(drawn)


def test_padding_is_on_the_card_and_beside_the_batches() -> None:
    assert RECORD.explanation is not None
    assert RECORD.explanation.batching is not None
    assert not any("Padding" in fact for fact in terminal._stage_facts(RECORD))
    padded = replace(RECORD.explanation.batching, padding=0.25)
    shown = replace(RECORD, explanation=replace(RECORD.explanation, batching=padded))
    assert "Padding was 25% of all positions (rows x length) that were computed." in terminal._stage_facts(shown)
    assert "Padding was 25.0% of all positions" in runs.sizes(padded)
    assert "Padding" not in runs.sizes(RECORD.explanation.batching)


def test_junit_tells_what_failed_and_what_cannot_be_said() -> None:
    found = checks.of_run(replace(RECORD, validity=INVALID), max_errors_percent=1)
    root = ET.fromstring(junit.render("bench run", found, 20.0))
    suite = known(root.find("testsuite"))
    assert suite.get("tests") == str(len(found))
    assert suite.get("failures") == "1"
    failure = known(suite.find("testcase/failure"))
    assert failure.get("message") == "the generator was <late>"
    missed = replace(RECORD, objective=ObjectiveRecord(0.99, 70.0, "missed", 0.98, 441.0))
    assert [one.name for one in checks.of_run(missed) if one.why] == ["objective: p99 <= 70 ms"]
    unsure = replace(RECORD, objective=ObjectiveRecord(0.99, 70.0, "undecided", 0.99, 445.0))
    assert [one.name for one in checks.of_run(unsure) if one.skipped] == ["objective: p99 <= 70 ms"]
    assert RECORD.latency.corrected is not None
    few = {name: replace(one, samples=5, value_ms=None) for name, one in RECORD.latency.corrected.items()}
    short = checks.of_run(replace(RECORD, latency=replace(RECORD.latency, corrected=few)))
    assert [one.name for one in short if one.why] == []
    reasons = {one.name: one.skipped for one in short if one.skipped}
    assert reasons["enough requests for p99"] == "too few requests for this percentile: 5 of 473"
    good = checks.of_run(RECORD)
    assert all(one.why is None for one in good)
    assert any("Little" in one.name for one in good)
    odd = junit.render("x", [checks.Check("a", "bad \x00 sign"), checks.Check("b", skipped="unknown")])
    assert "bad ? sign" in odd.decode()
    assert ET.fromstring(odd).find("testsuite").get("skipped") == "1"  # type: ignore[union-attr]
