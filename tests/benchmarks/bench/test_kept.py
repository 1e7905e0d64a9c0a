"""The kept results of a benchmark that is measured in parts, and the pairs and plants that they hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.explain.ratio import Ratio
from bench.result.verifications import Verification
from tests.benchmarks.bench import forecasts
from tests.benchmarks.bench.forecasts import Pair
from tests.benchmarks.bench.kept import Kept
from tests.benchmarks.bench.plants import matrix
from tests.benchmarks.bench.plants.held_out import HELD_OUT
from tests.benchmarks.bench.plants.plant import SLIPWAY
from tests.benchmarks.bench.plants.tuned import TUNED


def test_parts_of_a_benchmark_add_up_in_one_file(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    first = Kept(["one"], path)
    assert first.wants("One thing")
    assert not first.wants("another")
    first.add({"title": "One thing", "value": 1})
    second = Kept([], path)
    assert not second.wants("One thing")
    assert second.wants("another")
    second.add({"title": "another", "value": 2})
    third = Kept(["thing"], path, again=True)
    assert third.wants("One thing")
    third.add({"title": "One thing", "value": 3})
    assert [row["value"] for row in Kept([], path).rows(["another", "unknown", "One thing"])] == [2, 3]


@pytest.mark.parametrize("seen", [None, Verification("now", "rate", "rate x2", {"p99": Ratio(1, 1, 1)}, {})])
def test_a_pair_comes_back_from_its_row(seen: Verification | None) -> None:
    pair = Pair("model", "rate", "rate x2", seen, "why")
    assert forecasts._pair(forecasts._row("title", pair)) == pair


def test_titles_of_plants_are_different_and_no_model_is_tuned_and_held_out() -> None:
    titles = [one.title for one in (*TUNED, *HELD_OUT)]
    assert len(set(titles)) == len(titles)
    tuned = {(one.server, one.faults, one.network, one.rate) for one in TUNED}
    assert not tuned & {
        (one.server, one.faults, one.network, one.rate) for one in HELD_OUT if one.model is None and not one.code
    }


def test_the_figures_of_plants_count_what_came_first() -> None:
    def row(title: str, right: str, *names: str, confidence: str = "likely") -> dict[str, object]:
        causes = [{"name": name, "confidence": confidence} for name in names]
        return {"title": title, "server": SLIPWAY, "right": [right], "causes": causes}

    rows = [row("a", "serial", "serial", "codec"), row("b", "stall", "codec", "stall"), row("c", "stall")]
    found = {one.name: one for one in matrix.figures(rows, "tuned")}
    assert [found[name].met for name in "abc"] == [True, False, False]
    assert found["tuned, Slipway: right first"].found == "33%"
    assert found["tuned, Slipway: right first"].met is False
    proven = matrix.figures([row("d", "stall", "codec", confidence="proven")], "tuned")[-1]
    assert (proven.met, proven.found) == (False, "d")


def test_the_confusion_table_counts_what_came_first_for_each_planted_cause() -> None:
    firsts = [("serial", "serial"), ("stall", "codec"), ("stall", None), ("serial", "serial")]
    rows = [{"right": [right], "causes": [{"name": name}] if name else []} for right, name in firsts]
    table = matrix.confusion(rows, "tuned")
    cells = [list(column.cells) for column in table.columns]
    assert [column.header for column in table.columns] == ["", "codec", "no verdict", "serial"]
    assert cells == [["serial", "stall"], ["", "1"], ["", "1"], ["(2)", ""]]


def test_every_held_out_plant_says_why_its_causes_are_right() -> None:
    assert all(one.why for one in HELD_OUT)
    assert sum(one.server == SLIPWAY for one in HELD_OUT) >= 24
    assert sum(one.server != SLIPWAY for one in HELD_OUT) >= 10
