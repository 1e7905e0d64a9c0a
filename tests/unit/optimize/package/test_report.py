"""The report: everything on one page, nothing fetched, nothing from outside taken as markup."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from optimize.evaluation.dataset import Dataset
from optimize.evaluation.neighbours import Influence
from optimize.evaluation.row_proof import OutputProof
from optimize.evaluation.source_check import SourceCheck
from optimize.package import artifact as package
from optimize.package import report
from optimize.package.artifact import Findings, Identity
from optimize.package.charts import WIDTH, Bar, Point, Span, bars, draw, spans
from optimize.passes import PassRecord
from server.artifact import Manifest
from server.backends.independence import Independence

VOID = {"meta", "br", "hr", "img", "line", "circle"}


@pytest.fixture
def manifest(tmp_path: Path, findings: Findings, rows: Dataset) -> Manifest:
    root = tmp_path / "out"
    root.mkdir()
    return package.write(root, Identity("small", "3", "", ()), findings, rows).manifest


class Balanced(HTMLParser):
    """Fails on a tag that is closed without having been opened, and the other way round."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag


def test_the_page_is_whole_and_self_contained(manifest: Manifest) -> None:
    page = report.render(manifest)
    parser = Balanced()
    parser.feed(page)
    assert parser.open == []
    assert len(page.encode()) < 200_000
    assert not re.search(r"""(src|href)=|url\(|@import|<script|https?://""", page)
    assert "prefers-color-scheme: dark" in page


def test_every_candidate_is_there_with_its_reason(manifest: Manifest) -> None:
    page = report.render(manifest)
    for words in ("float32", "fast", "not accurate enough: too far off", "0.9800", "1.90 to 2.10", "not timed"):
        assert words in page
    for words in ("Abacus 3", "python -m optimize here:there", "1" * 64, "a warning"):
        assert words in page
    assert page.count("<tr class=chosen>") == 1


def test_text_from_outside_is_escaped(manifest: Manifest) -> None:
    page = report.render(manifest)
    assert "quick &lt;b&gt;" in page
    assert "<b>quick" not in page


def test_the_verdict_is_one_sentence(manifest: Manifest) -> None:
    assert report.verdict(manifest) == "fast is 2.00 times as fast as float32 and keeps within the allowed drop."


def test_a_page_from_the_written_manifest_is_the_same(manifest: Manifest) -> None:
    assert report.render(Manifest.from_json(manifest.to_json())) == report.render(manifest)


def test_the_plot_is_valid_and_puts_better_up_and_left() -> None:
    points = [Point("slow", 20.0, 0.01, 0.0, 0.02, False), Point("quick & good", 10.0, 0.0, 0.0, 0.0, True)]
    svg = ET.fromstring(draw(points, "accuracy", 0.01))
    circles = {circle.get("class"): circle for circle in svg.iter("circle")}
    slow, quick = circles["dot"], circles["dot winner"]
    assert float(quick.get("cx", "")) < float(slow.get("cx", ""))
    assert float(quick.get("cy", "")) < float(slow.get("cy", ""))
    for mark in svg.iter():
        for key in ("cx", "x", "x1", "x2"):
            assert 0 <= float(mark.get(key, "0")) <= WIDTH


def boxes(drawing: str) -> list[tuple[float, float, float, float]]:
    """The estimated box of every text in a chart: left, top, right, bottom."""
    found = []
    for mark in ET.fromstring(drawing).iter("text"):
        x, y, width = float(mark.get("x", "")), float(mark.get("y", "")), 6.2 * len(mark.text or "")
        left = x - width * {"middle": 0.5, "end": 1.0}.get(mark.get("text-anchor", ""), 0.0)
        found.append((left, y - 9, left + width, y))
    return found


def overlaps(found: list[tuple[float, float, float, float]]) -> list[tuple[int, int]]:
    return [
        (i, j)
        for i, one in enumerate(found)
        for j, other in enumerate(found[:i])
        if one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
    ]


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("crowded", [True, False])
def test_labels_of_charts_do_not_collide(seed: int, crowded: bool) -> None:
    """Candidates are often nearly alike in speed and drop."""
    rng = np.random.default_rng(seed)
    width = 0.02 if crowded else 1.0
    points = [
        Point(f"candidate_{at}", 50 + 40 * width * rng.random(), 0.01 * width * rng.random(), 0.0, 0.01, at == 0)
        for at in range(int(rng.integers(1, 15)))
    ]
    assert overlaps(boxes(draw(points, "accuracy", 0.01))) == []
    lines = [Span("a_long_name_of_a_candidate_that_was_repaired_at_length", 0.0, -0.01 * rng.random(), 0.001)] * 5
    assert overlaps(boxes(spans(lines, "drop", float(0.02 * rng.random())))) == []
    layers = [Bar("Conv /encoder/layer.11/attention/output/dense/MatMul_output_0", 1.0, "31.2 dB, gain +12.1 dB")] * 5
    assert overlaps(boxes(bars(layers, "noise"))) == []


def test_a_plot_of_one_point_without_any_drop_has_a_scale() -> None:
    assert "nan" not in draw([Point("only", 10.0, 0.0, 0.0, 0.0, True)], "accuracy", 0.0)
    assert draw([], "accuracy", 0.01) == ""


def test_what_was_pruned_is_told_once_for_each_cut(findings: Findings, rows: Dataset, tmp_path: Path) -> None:
    applied = {"prune": "structured 0.5", "weights": "1,000 -> 300"}
    record = PassRecord(Path("model.onnx"), applied, ("cut near: 32 -> 16 channels", "left <answer>: an output"))
    lost = [replace(findings.search.outcomes[2], name=name, record=record) for name in ("pruned_50", "pruned_50_int8")]
    search = replace(findings.search, outcomes=(*findings.search.outcomes, *lost))
    package.write(tmp_path, Identity("small", "1", "", ()), replace(findings, search=search), rows)
    page = (tmp_path / "report.html").read_text()
    assert page.count("cut near: 32 -&gt; 16 channels") == 1
    assert "left &lt;answer&gt;: an output" in page


def test_the_page_shows_warnings_the_worst_row_and_the_influence_of_neighbours(
    findings: Findings, rows: Dataset, tmp_path: Path
) -> None:
    proof = (OutputProof("score <p>", 40, 1, 17, 0.23, 1.0, 0.77),)
    checked = SourceCheck(40, 40, proof, findings.search.outcomes[0].accuracy, ("float32 is at chance <b>",))
    fast = replace(
        findings.search.outcomes[1],
        influence=Influence(32, 5, 0.125),
        served=findings.search.outcomes[2].accuracy,
        worst_segment=("columns 4-9 of output 'score'", 12.3),
    )
    search = replace(findings.search, outcomes=(findings.search.outcomes[0], fast, findings.search.outcomes[2]))
    independence = Independence(False, "output 'score' depends on <others>")
    found = replace(findings, checked=checked, search=search, independence=independence)
    package.write(tmp_path, Identity("small", "1", "", ()), found, rows)
    page = (tmp_path / "report.html").read_text()
    parser = Balanced()
    parser.feed(page)
    assert parser.open == []
    for words in (
        "float32 is at chance &lt;b&gt;",
        "score &lt;p&gt;",
        "40 of 40",
        "0.77",
        "5 of 32 rows, by up to 0.12",
        "columns 4-9 of output &#x27;score&#x27;: 12.3 dB",
        "depends on &lt;others&gt;",
        "of the source itself",
    ):
        assert words in page, words


def test_wide_tables_become_lists_on_a_narrow_screen(manifest: Manifest) -> None:
    page = report.render(manifest)
    assert page.count('data-h="verdict"') == 3
    assert ".stacked td { display: block" in page.replace(".stacked tr, .stacked td { display", ".stacked td { display")
