"""Drift: false alarms at their rate, planted drifts found, and constraints that are obeyed when they are edited."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from container.monitor import constraints, drift
from container.monitor.columns import Column, column_of
from container.monitor.drift import Finding
from container.monitor.errors import MonitorError
from tests.monitored import PLANTED, Draw, alarms, check, table


def violated(findings: list[Finding]) -> set[tuple[str, str]]:
    return {(one.feature, one.check) for one in findings if one.violated}


def test_clean_data_raises_few_alarms() -> None:
    # 1 % of 25 checks is 0.25; four or more have a chance below 0.02 %.
    assert alarms(25, (300, 100), threshold=0.0) <= 3


@pytest.mark.slow
def test_the_alarms_are_not_switched_off() -> None:
    # With half of the checks allowed to raise an alarm, some do: the tests see chance, and the correction holds it.
    assert 1 <= alarms(25, (300, 100), alpha=0.5, threshold=0.0) <= 12


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_drift_is_found_and_nothing_else(name: str) -> None:
    drifted: dict[str, Draw] = PLANTED[name]
    findings = check(np.random.default_rng(11), (2_000, 800), drifted=drifted)
    assert {feature for feature, _ in violated(findings)} == set(drifted)
    for one in findings:
        assert 0 <= one.low <= one.value <= one.high <= 1


def test_a_baseline_from_its_file_gives_the_same_answer() -> None:
    random = np.random.default_rng(12)
    before = table(random, 20_000)
    now = table(random, 2_000, PLANTED["mean shifted by half a standard deviation"])
    held_to = constraints.suggest(before)
    again = {name: column_of(one.to_json(name)) for name, one in before.items()}
    loaded = constraints.from_json(constraints.to_json(held_to))
    assert loaded == held_to
    assert violated(drift.compare(before, now, held_to)) == violated(drift.compare(again, now, loaded))
    assert ("normal", "baseline_drift_check") in violated(drift.compare(again, now, loaded))


def test_columns_that_come_and_go() -> None:
    random = np.random.default_rng(13)
    before, now = table(random, 100), table(random, 100)
    now["new"] = now.pop("normal")
    now["output.score"] = now["waits"]
    found = violated(drift.compare(before, now, constraints.suggest(before)))
    assert found == {("normal", "missing_column_check"), ("new", "extra_column_check")}


def column(*values: object) -> Column:
    one = Column()
    one.add(list(values))
    return one


def test_a_small_drift_needs_the_threshold_and_a_large_one_evidence() -> None:
    random = np.random.default_rng(14)
    before = {"x": column(*random.normal(size=20_000))}
    slightly = {"x": column(*random.normal(0.1, size=20_000))}
    few = {"x": column(1.0, 1.1)}
    held_to = constraints.suggest(before)
    (small,) = [one for one in drift.compare(before, slightly, held_to) if one.check == "baseline_drift_check"]
    assert small.low > 0  # chance does not explain it
    assert not small.violated  # but it is smaller than the threshold
    assert violated(drift.compare(before, slightly, dataclasses.replace(held_to, threshold=0.03))) == {
        ("x", "baseline_drift_check")
    }
    assert violated(drift.compare(before, few, held_to)) == set()
    assert violated(drift.compare(before, few, dataclasses.replace(held_to, method="Simple"))) == {
        ("x", "baseline_drift_check")
    }


def test_an_edited_constraint_is_a_limit_of_its_own() -> None:
    before = {"x": column(*range(80), *[None] * 20)}
    held_to = constraints.suggest(before)
    assert violated(drift.compare(before, before, held_to)) == set()
    held_to.rules["x"].completeness = 1.0
    assert violated(drift.compare(before, before, held_to)) == {("x", "completeness_check")}
    before = {"x": column(*["a"] * 90, *["b"] * 10)}
    held_to = constraints.suggest(before)
    held_to.rules["x"].domain = frozenset(["a"])
    assert violated(drift.compare(before, before, held_to)) == {("x", "categorical_values_check")}


def test_many_rare_categories_are_no_drift_of_their_own() -> None:
    random = np.random.default_rng(15)
    before = {"id": column(*[f"a{one}" for one in random.integers(10**9, size=3_000)])}
    now = {"id": column(*[f"a{one}" for one in random.integers(10**9, size=3_000)])}
    held_to = constraints.suggest(before)
    assert held_to.rules["id"].domain is None
    assert violated(drift.compare(before, now, held_to)) == set()


@pytest.mark.parametrize(
    "document",
    [
        {}, [], {"features": 3}, {"features": [{"name": "x"}]},
        {"features": [], "monitoring_config": {"distribution_constraints": {"comparison_threshold": 7}}},
        {"features": [], "monitoring_config": {"distribution_constraints": {"comparison_method": "Guess"}}},
        {"features": [{"name": "x", "inferred_type": "String", "completeness": "all"}]},
    ],
)  # fmt: skip
def test_constraints_of_another_form_are_one_clear_error(document: object) -> None:
    with pytest.raises(MonitorError):
        constraints.from_json(document)


def test_violations_have_the_service_s_form() -> None:
    before = {"x": column(1.0, 2.0)}
    (row,) = drift.violations(drift.compare(before, {}, constraints.suggest(before)))["violations"]
    assert row == {
        "feature_name": "x",
        "constraint_check_type": "missing_column_check",
        "description": "the column is not in the data",
    }
