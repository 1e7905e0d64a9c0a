"""The search with a builder of our own: who loses where, with which reason, and who wins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from optimize.errors import BadInput, PassFailed
from optimize.evaluation.evaluate import allowance
from optimize.evaluation.metrics import METRICS, Metric
from optimize.passes import PassRecord
from optimize.search.benchmark import Focus
from optimize.search.candidates import Candidate
from optimize.search.decide import Objective
from optimize.search.outcome import Outcome, Rule, Search
from optimize.search.search import search
from optimize.search.sensitivity import Sensitivity
from optimize.search.timing import Cell, Timing
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
class FakeBuilder:
    """Candidates by name: their answers, or the error that they raise, and microseconds per row."""

    answers: Mapping[str, Array | Exception]
    row_us: Mapping[str, float] = field(default_factory=dict)
    measured: list[str] = field(default_factory=list)
    layers: Mapping[str, Sequence[str]] = field(default_factory=dict)
    patience: int = 1000
    short: Mapping[str, str] = field(default_factory=dict)
    asked: int = 0
    uneven: Mapping[str, Sequence[float]] = field(default_factory=dict)

    def build(self, candidate: Candidate, keep_float: tuple[str, ...] = ()) -> PassRecord:
        name = "+".join((candidate.name, *keep_float))
        answer = self.answers[name]
        if isinstance(answer, PassFailed):
            raise answer
        return PassRecord(Path(name), {}, float_graph=Path("float32") if candidate.name in self.layers else None)

    def sensitivities(self, record: PassRecord) -> Sequence[Sensitivity]:
        return [
            Sensitivity(name, "Conv", 10.0, 1 / place) for place, name in enumerate(self.layers[record.path.name], 1)
        ]

    def time_left(self) -> bool:
        self.asked += 1
        return self.asked <= self.patience

    def outputs(self, path: Path, limit: int | None = None) -> dict[str, Array]:
        answer = RIGHT if path.name == "float32" else self.answers[path.name]
        if isinstance(answer, Exception):
            raise answer
        return {"p": answer[:limit]}

    def alone(self, path: Path) -> dict[str, Array]:
        return self.outputs(path, 8)

    def served(self, path: Path, limit: int | None = None) -> dict[str, Array]:
        return self.outputs(path, limit)

    def check_lengths(self, path: Path, base: Path | None = None) -> str | None:
        return self.short.get(path.name)

    def first_round(self, paths: Mapping[str, Path], focus: Focus) -> dict[Cell, Timing]:
        return self._times(paths)

    def measure(self, paths: Mapping[str, Path], focus: Focus) -> dict[Cell, Timing]:
        self.measured = list(paths)
        return self._times(paths)

    def _times(self, paths: Mapping[str, Path]) -> dict[Cell, Timing]:
        return {
            Cell(name, size, 1): Timing(tuple(us * at for at in self.uneven.get(name, (1.0,) * 5)), us, us, 5)
            for name in paths
            for size in (1, 8)
            for us in (self.row_us.get(name, 10.0) * size,)
        }


def run(builder: FakeBuilder, objective: Objective = "throughput", metric: Metric = METRICS["accuracy"]) -> Search:
    rows = [Candidate(name, ("none",), "") for name in builder.answers if "+" not in name]
    rule = Rule(metric, allowance("1%"), objective, LABELS, seed=0)
    return search(Path("float32"), rows, builder, rule, lambda _: None)


def outcome(found: Search, name: str) -> Outcome:
    return next(row for row in found.outcomes if row.name == name)


def test_the_fastest_that_is_accurate_enough_wins() -> None:
    found = run(FakeBuilder({"slowish": RIGHT, "quick": RIGHT}, {"slowish": 8.0, "quick": 5.0}))
    assert found.chosen.name == "quick"
    assert found.chosen.reason == "chosen: accurate enough, and the best throughput"
    assert outcome(found, "slowish").reason == "slower than quick: 1.25x against 2.00x"
    assert outcome(found, "float32").reason == "the reference: quick is 2.00x as fast"


def test_a_fast_candidate_that_is_wrong_loses_and_is_not_even_timed() -> None:
    builder = FakeBuilder({"careless": wrong(0.05)}, {"careless": 1.0})
    found = run(builder)
    assert found.chosen.name == "float32"
    assert outcome(found, "careless").reason == ("not accurate enough: accuracy 0.95 against 1, allowed drop 1%")
    assert builder.measured == ["float32"]


def test_when_nothing_is_faster_the_reference_stays() -> None:
    found = run(FakeBuilder({"same": RIGHT, "slow": RIGHT}, {"same": 10.0, "slow": 12.5}))
    assert found.chosen.name == "float32"
    assert found.chosen.reason == "chosen: nothing that is accurate enough is faster"
    assert outcome(found, "slow").reason == "not faster: 0.80x (0.80 to 0.80)"
    assert outcome(found, "same").reason == "not distinguishable from float32: 1.00x (1.00 to 1.00)"


def test_among_equally_fast_ones_the_more_exact_wins() -> None:
    noise = np.random.default_rng(0).normal(size=RIGHT.shape).astype(np.float32)
    builder = FakeBuilder({"rough": RIGHT + 0.01 * noise, "fine": RIGHT + 0.001 * noise}, {"rough": 5.0, "fine": 5.0})
    found = run(builder)
    assert found.chosen.name == "fine"
    assert outcome(found, "rough").reason.startswith("as fast as fine, but less exact: signal to noise 30")


def test_wide_intervals_do_not_make_two_alike() -> None:
    """The middling one is a tenth slower, more exact, and was disturbed so often that no round order is sure."""
    rough = RIGHT + 0.01 * np.random.default_rng(0).normal(size=RIGHT.shape).astype(np.float32)
    builder = FakeBuilder({"quick": rough, "middling": RIGHT}, {"quick": 4.0, "middling": 4.4})
    builder.uneven = {"middling": (0.8, 0.85, 1.0, 1.5, 2.0)}
    found = run(builder)
    assert found.chosen.name == "quick"
    assert outcome(found, "middling").reason == (
        "seems slower than quick: 2.27x against 2.50x, but it was not settled (0.45 to 1.14 of its speed)"
    )


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
    builder = FakeBuilder({"bad": answer, "good": RIGHT}, {"good": 5.0})
    found = run(builder)
    assert outcome(found, "bad").reason == reason
    assert found.chosen.name == "good", "the search goes on"


def test_other_names_of_outputs_are_broken() -> None:
    class Renamed(FakeBuilder):
        def outputs(self, path: Path, limit: int | None = None) -> dict[str, Array]:
            return {("q" if path.name == "bad" else "p"): RIGHT[:limit]}

    found = run(Renamed({"bad": RIGHT}))
    assert outcome(found, "bad").reason == "broken: its outputs are q instead of p"


def test_a_metric_that_does_not_fit_stops_the_search() -> None:
    with pytest.raises(BadInput, match="one score per row"):
        run(FakeBuilder({"any": RIGHT}), metric=Metric("own", lambda *_: np.zeros(3)))


def test_all_timings_are_kept() -> None:
    found = run(FakeBuilder({"quick": RIGHT}, {"quick": 5.0}), "latency")
    assert found.chosen.cell == Cell("quick", 1, 1)
    assert len(found.timings) == 4


SPREAD = np.where(np.arange(ROWS)[:, None] % 3 == 0, np.roll(RIGHT, 1, axis=1), RIGHT)
"""Every third answer is wrong."""


def repairable(**answers: Array) -> FakeBuilder:
    """A candidate ``static`` with the layers first, second and third; ``answers`` by the layers that stay in float."""
    named = {"static" if key == "none" else f"static+{key.replace('_', '+')}": value for key, value in answers.items()}
    return FakeBuilder(
        named, {"static": 4.0, **dict.fromkeys(named, 5.0)}, layers={"static": ("first", "second", "third")}
    )


def test_a_candidate_that_loses_too_much_is_repaired_by_the_layer_that_is_to_blame() -> None:
    """The ranking blames the first layer; leaving out one at a time shows that it is the second."""
    builder = repairable(none=SPREAD, first=SPREAD, second=RIGHT, third=SPREAD)
    builder.row_us = {"static_repaired": 5.0}
    found = run(builder)
    assert found.chosen.name == "static_repaired"
    assert found.chosen.about == "static with 1 of 3 layers in float: second"
    lost = outcome(found, "static")
    assert lost.reason.startswith("not accurate enough")
    assert {row.tensor: row.gain_db is not None for row in lost.sensitivities} == dict.fromkeys(
        ("first", "second", "third"), True
    )


def test_a_candidate_that_is_noise_at_another_length_is_repaired_as_well() -> None:
    builder = repairable(none=RIGHT, first=RIGHT, second=RIGHT, third=RIGHT)
    builder.short = {"static": "broken: its error is larger than the signal, at tokens 8"}
    builder.row_us = {"static_repaired": 5.0}
    found = run(builder)
    assert outcome(found, "static").reason.startswith("broken")
    assert found.chosen.name == "static_repaired"


def test_a_repair_that_costs_half_of_the_layers_is_given_up() -> None:
    builder = repairable(none=SPREAD, first=SPREAD, second=SPREAD, third=SPREAD)
    found = run(builder)
    assert found.chosen.name == "float32"
    assert (
        "repair did not help: with 1 of 3 layers in float still not accurate enough" in outcome(found, "static").reason
    )


def test_candidates_that_the_budget_did_not_reach_are_named() -> None:
    found = run(FakeBuilder({"first": RIGHT, "late": RIGHT}, {"first": 5.0, "late": 1.0}, patience=1))
    assert found.chosen.name == "first"
    assert outcome(found, "late").reason == "not tried: the budget was used up before its turn"


def test_where_nothing_was_judged_nothing_is_said_about_speed() -> None:
    found = run(FakeBuilder({"late": RIGHT, "later": RIGHT}, patience=0))
    assert found.chosen.name == "float32"
    assert found.chosen.reason == "chosen: no other candidate got as far as being judged"


def test_only_the_fastest_reach_the_final() -> None:
    times = {f"c{at}": 4.0 + 0.3 * at for at in range(7)} | {"lame": 9.0}
    builder = FakeBuilder(dict.fromkeys(times, RIGHT), times)
    found = run(builder)
    assert builder.measured == ["float32", "c0", "c1", "c2", "c3", "c4"]
    assert outcome(found, "lame").reason == "slower in the first round: 1.11x against 2.50x of c0"
    assert outcome(found, "c6").reason.startswith("slower in the first round: 1.72x")


def test_nobody_is_sent_home_who_is_not_slower_than_the_last_finalist_beyond_doubt() -> None:
    times = {f"c{at}": 4.0 for at in range(6)} | {"uneven": 4.4, "slow": 5.0}
    builder = FakeBuilder(dict.fromkeys(times, RIGHT), times, uneven={"uneven": (0.8, 0.9, 1.0, 1.5, 1.6)})
    run(builder)
    assert builder.measured == ["float32", *(f"c{at}" for at in range(6)), "uneven"]


def test_a_classifier_with_other_answers_is_not_evaluated_at_length() -> None:
    found = run(FakeBuilder({"confused": 0.5 * RIGHT + 0.6 * np.roll(RIGHT, 1, axis=1)}))
    assert "agrees with float32 on 0% of 32 rows" in outcome(found, "confused").reason


def test_what_is_made_from_a_loser_is_not_tried() -> None:
    rows = [Candidate("pruned", ("none",), ""), Candidate("pruned_int8", ("none",), "", after="pruned")]
    rule = Rule(METRICS["accuracy"], allowance("1%"), "throughput", LABELS, seed=0)
    found = search(Path("float32"), rows, FakeBuilder({"pruned": wrong(0.05)}), rule, lambda _: None)
    assert outcome(found, "pruned_int8").reason == "not tried: pruned, which it is made from, is not good enough"


def test_a_network_that_was_trained_again_is_judged_by_the_metric_and_its_int8_form_by_its_own_noise() -> None:
    """Its answers are right, but ten times as large: noise, measured against float32."""

    class Retrained(FakeBuilder):
        def build(self, candidate: Candidate, keep_float: tuple[str, ...] = ()) -> PassRecord:
            return PassRecord(Path(candidate.name), {}, base=Path("pruned"))

    builder = Retrained({"pruned": 10 * RIGHT, "pruned_int8": 10 * RIGHT, "pruned_rough": RIGHT * -5})
    found = run(builder)
    assert outcome(found, "pruned").reason == "not distinguishable from float32: 1.00x (1.00 to 1.00)"
    assert outcome(found, "pruned_int8").reason == outcome(found, "pruned").reason
    assert outcome(found, "pruned_rough").reason.startswith("broken: its error is larger than the signal")


class Crowded(FakeBuilder):
    """A candidate whose outputs among neighbours are those named ``<name> served``."""

    def served(self, path: Path, limit: int | None = None) -> dict[str, Array]:
        return (
            self.outputs(Path(f"{path.name} served"), limit)
            if f"{path.name} served" in self.answers
            else (self.outputs(path, limit))
        )


def judged(**answers: Array) -> Search:
    builder = Crowded({name.replace("_served", " served"): array for name, array in answers.items()}, {"quick": 5.0})
    rule = Rule(METRICS["accuracy"], allowance("1%"), "throughput", LABELS, seed=0)
    rows = [Candidate("quick", ("none",), "")]
    return search(Path("float32"), rows, builder, rule, lambda _: None)


def test_a_candidate_that_neighbours_change_beyond_the_limit_loses() -> None:
    """It is right in the order of the data, as it was measured, and wrong among other requests."""
    found = judged(quick=RIGHT, quick_served=np.roll(RIGHT, 1, axis=1))
    lost = outcome(found, "quick")
    assert found.chosen.name == "float32"
    assert lost.influence is not None
    assert lost.influence.changed == lost.influence.rows
    assert "depend on other rows of the batch" in lost.reason
    assert lost.served is not None
    assert lost.served.score.value == 0.0


def test_a_candidate_that_neighbours_change_within_the_limit_stays() -> None:
    found = judged(quick=RIGHT, quick_served=(RIGHT * 0.9).astype(np.float32))
    assert found.chosen.name == "quick"
    assert found.chosen.influence is not None
    assert found.chosen.influence.largest == pytest.approx(0.1)
    assert found.chosen.served is not None


def test_a_candidate_that_neighbours_do_not_change_is_not_scored_again() -> None:
    found = judged(quick=RIGHT)
    assert found.chosen.influence is not None
    assert (found.chosen.influence.changed, found.chosen.served) == (0, None)


def test_a_model_whose_rows_are_not_independent_is_not_judged_among_neighbours() -> None:
    builder = Crowded({"quick": RIGHT, "quick served": np.roll(RIGHT, 1, axis=1)}, {"quick": 5.0})
    rule = Rule(METRICS["accuracy"], allowance("1%"), "throughput", LABELS, seed=0, independent=False)
    found = search(Path("float32"), [Candidate("quick", ("none",), "")], builder, rule, lambda _: None)
    assert found.chosen.name == "quick"
    assert found.chosen.influence is None


@dataclass
class TwinBuilder(FakeBuilder):
    """Every candidate has a twin, whose answers are those of ``twin``; the candidate's own are right."""

    def build(self, candidate: Candidate, keep_float: tuple[str, ...] = ()) -> PassRecord:
        return PassRecord(Path("hidden"), {}, twin=Path(candidate.name))


def test_half_precision_is_judged_by_its_twin_and_measured_as_it_is() -> None:
    builder = TwinBuilder({"half": wrong(0.05), "hidden": RIGHT}, {"half": 1.0})
    rule = Rule(METRICS["accuracy"], allowance("1%"), "throughput", LABELS, seed=0)
    row = Candidate("half", ("none",), "")
    found = search(Path("float32"), [row], builder, rule, lambda _: None)
    assert outcome(found, "half").reason.startswith("not accurate enough")
    builder = TwinBuilder({"half": RIGHT, "hidden": RIGHT}, {"half": 1.0})
    assert search(Path("float32"), [row], builder, rule, lambda _: None).chosen.name == "half"
    broken = TwinBuilder({"half": RIGHT, "hidden": ModelFailed("it does not run")}, {"half": 1.0})
    found = search(Path("float32"), [row], broken, rule, lambda _: None)
    assert outcome(found, "half").reason == "failed: it does not run"


def test_the_answers_of_a_gpu_are_judged_and_the_twin_is_the_forecast() -> None:
    @dataclass
    class OnGpu(FakeBuilder):
        def build(self, candidate: Candidate, keep_float: tuple[str, ...] = ()) -> PassRecord:
            return PassRecord(Path("measured"), {}, forecast=Path(candidate.name))

    rule = Rule(METRICS["accuracy"], allowance("1%"), "throughput", LABELS, seed=0)
    noisy = RIGHT + np.float32(0.1)
    row = Candidate("half", ("none",), "")
    found = search(
        Path("float32"), [row], OnGpu({"half": noisy, "measured": RIGHT}, {"half": 1.0}), rule, lambda _: None
    )
    assert found.chosen.name == "half"
    assert found.chosen.sqnr_db == np.inf
    assert found.chosen.forecast_db == pytest.approx(10.0, abs=0.1)
    failing = OnGpu({"half": ModelFailed("no"), "measured": RIGHT}, {"half": 1.0})
    assert search(Path("float32"), [row], failing, rule, lambda _: None).chosen.forecast_db is None
