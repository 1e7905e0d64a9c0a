"""The search with a bench of our own: who loses where, with which reason, and who wins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from optimize.candidates import Candidate
from optimize.decide import Objective
from optimize.errors import BadInput, PassFailed
from optimize.evaluate import METRICS, Metric, allowance
from optimize.measure import Cell, Timing
from optimize.passes import PassRecord
from optimize.search import Outcome, Rule, Search, search
from server.errors import ModelFailed
from server.tensors import Array

ROWS = 400
LABELS = np.arange(ROWS) % 10
RIGHT = np.eye(10, dtype=np.float32)[LABELS]


def wrong(share: float) -> Array:
    """Answers of which the last ``share`` are wrong: where the cheap gate does not look."""
    answers = RIGHT.copy()
    first = ROWS - int(share * ROWS)
    answers[first:] = np.roll(answers[first:], 1, axis=1)
    return answers


@dataclass
class Bench:
    """Candidates by name: their answers, or the error that they raise, and microseconds per row."""

    answers: Mapping[str, Array | Exception]
    row_us: Mapping[str, float] = field(default_factory=dict)
    measured: list[str] = field(default_factory=list)

    def build(self, candidate: Candidate) -> PassRecord:
        answer = self.answers[candidate.name]
        if isinstance(answer, PassFailed):
            raise answer
        return PassRecord(Path(candidate.name), {})

    def outputs(self, path: Path, limit: int | None = None) -> dict[str, Array]:
        answer = RIGHT if path.name == "float32" else self.answers[path.name]
        if isinstance(answer, Exception):
            raise answer
        return {"p": answer[:limit]}

    def measure(self, paths: Mapping[str, Path]) -> dict[Cell, Timing]:
        self.measured = list(paths)
        return {
            Cell(name, size, 1): Timing((us,) * 5, us, us, 5)
            for name in paths
            for size in (1, 8)
            for us in (self.row_us.get(name, 10.0) * size,)
        }


def run(bench: Bench, objective: Objective = "throughput", metric: Metric = METRICS["accuracy"]) -> Search:
    rows = [Candidate(name, "none", "") for name in bench.answers]
    rule = Rule(metric, allowance("1%"), objective, LABELS, seed=0)
    return search(Path("float32"), rows, bench, rule, lambda _: None)


def outcome(found: Search, name: str) -> Outcome:
    return next(row for row in found.outcomes if row.name == name)


def test_the_fastest_that_is_accurate_enough_wins() -> None:
    found = run(Bench({"slowish": RIGHT, "quick": RIGHT}, {"slowish": 8.0, "quick": 5.0}))
    assert found.chosen.name == "quick"
    assert found.chosen.reason == "chosen: accurate enough, and the best throughput"
    assert outcome(found, "slowish").reason == "slower than quick: 1.25x against 2.00x"
    assert outcome(found, "float32").reason == "the reference: quick is 2.00x as fast"


def test_a_fast_candidate_that_is_wrong_loses_and_is_not_even_timed() -> None:
    bench = Bench({"careless": wrong(0.05)}, {"careless": 1.0})
    found = run(bench)
    assert found.chosen.name == "float32"
    assert outcome(found, "careless").reason == ("not accurate enough: accuracy 0.95 against 1, allowed drop 1%")
    assert bench.measured == ["float32"]


def test_when_nothing_is_faster_the_reference_stays() -> None:
    found = run(Bench({"same": RIGHT, "slow": RIGHT}, {"same": 10.0, "slow": 12.5}))
    assert found.chosen.name == "float32"
    assert found.chosen.reason == "chosen: nothing that is accurate enough is faster"
    assert outcome(found, "slow").reason == "not faster: 0.80x (0.80 to 0.80)"
    assert outcome(found, "same").reason == "not distinguishable from float32: 1.00x (1.00 to 1.00)"


def test_among_equally_fast_ones_the_more_exact_wins() -> None:
    noise = np.random.default_rng(0).normal(size=RIGHT.shape).astype(np.float32)
    bench = Bench({"rough": RIGHT + 0.01 * noise, "fine": RIGHT + 0.001 * noise}, {"rough": 5.0, "fine": 5.0})
    found = run(bench)
    assert found.chosen.name == "fine"
    assert outcome(found, "rough").reason.startswith("as fast as fine, but less exact: signal to noise 30")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        pytest.param(PassFailed("nothing to quantize"), "failed: nothing to quantize", id="its pass fails"),
        pytest.param(ModelFailed("it crashed"), "failed: it crashed", id="it does not run"),
        pytest.param(RIGHT[:, :9], "broken: output 'p' is float32[32, 9]", id="another shape"),
        pytest.param(RIGHT * np.nan, "broken: output 'p' is not finite", id="not a number"),
        pytest.param(-3 * RIGHT, "broken: its error is larger than the signal (-12.0 dB)", id="only noise"),
    ],
)
def test_the_cheap_gates(answer: Array | Exception, reason: str) -> None:
    bench = Bench({"bad": answer, "good": RIGHT}, {"good": 5.0})
    found = run(bench)
    assert outcome(found, "bad").reason == reason
    assert found.chosen.name == "good", "the search goes on"


def test_other_names_of_outputs_are_broken() -> None:
    class Renamed(Bench):
        def outputs(self, path: Path, limit: int | None = None) -> dict[str, Array]:
            return {("q" if path.name == "bad" else "p"): RIGHT[:limit]}

    found = run(Renamed({"bad": RIGHT}))
    assert outcome(found, "bad").reason == "broken: its outputs are q instead of p"


def test_a_metric_that_does_not_fit_stops_the_search() -> None:
    with pytest.raises(BadInput, match="one score per row"):
        run(Bench({"any": RIGHT}), metric=Metric("own", lambda *_: np.zeros(3)))


def test_all_timings_are_kept() -> None:
    found = run(Bench({"quick": RIGHT}, {"quick": 5.0}), "latency")
    assert found.chosen.cell == Cell("quick", 1, 1)
    assert len(found.timings) == 4
