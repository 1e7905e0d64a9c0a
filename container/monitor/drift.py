"""Drift: the tests of captured data against its baseline. Pure: statistics in, findings out.

All tests of one check share its false alarm rate (Bonferroni): with ``alpha`` 0.01, chance alone raises an alarm in at
most one of a hundred checks of data like the baseline, whatever the number of columns. The baseline is a sample too, so
each test compares two samples. Rows are taken to be independent.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from .columns import OTHER, Column
from .constraints import Constraints, Rule
from .sketch import distance

ALPHA = 0.01
LEAST_EXPECTED = 5.0
"""Categories with fewer expected values are tested together."""
NUMERIC = ("Integral", "Fractional")


@dataclass(slots=True)
class Finding:
    """One test. ``value``, ``low`` and ``high``: what was measured and its interval at the check's confidence; shares
    and distances, from 0 to 1. ``p_value``: before the correction for the number of tests."""

    feature: str
    check: str
    test: str
    value: float
    low: float
    high: float
    p_value: float
    threshold: float
    violated: bool
    why: str


Test = Callable[[float], Finding]
"""A test that awaits its share of the false alarm rate."""


def compare(
    baseline: Mapping[str, Column], current: Mapping[str, Column], constraints: Constraints, alpha: float = ALPHA
) -> list[Finding]:
    """All findings, violated or not, in the order of the columns."""
    findings: list[Finding] = []
    tests: list[tuple[int, Test]] = []
    with_outputs = any(_is_output(name) for name in baseline)
    for name, rule in constraints.rules.items():
        before, now = baseline.get(name), current.get(name)
        if now is None or not now.count:
            findings.append(_structural(name, "missing_column_check", "the column is not in the data"))
        elif before is not None:
            for test in _tests(name, rule, before, now, constraints):
                tests.append((len(findings), test))
                findings.append(_structural(name, "", ""))
    findings += [
        _structural(name, "extra_column_check", "the baseline has no such column")
        for name in current
        if name not in constraints.rules and (with_outputs or not _is_output(name))
    ]
    for at, test in tests:
        findings[at] = test(alpha / len(tests))
    return findings


def _is_output(name: str) -> bool:
    return name.startswith("output.")


def _structural(name: str, check: str, why: str) -> Finding:
    """A finding that no chance explains."""
    return Finding(name, check, "presence", 1.0, 1.0, 1.0, 0.0, 0.0, True, why)


def _tests(name: str, rule: Rule, before: Column, now: Column, constraints: Constraints) -> Iterator[Test]:
    """The tests of one column that is in both."""

    def grown(check: str, what: str, was: tuple[int, int], found: tuple[int, int], least: float) -> Test:
        return lambda alpha: _share(name, check, what, alpha, was, found, least=least)

    missing = (before.missing, before.count), (now.missing, now.count)
    yield grown("completeness_check", "missing values", *missing, 1 - rule.completeness)
    if rule.kind in NUMERIC and now.present:
        wrong = (before.texts, before.present), (now.texts, now.present)
        allowed = max(1 - constraints.type_threshold, before.texts / before.present if before.present else 0.0)
        yield grown("data_type_check", "values that are no numbers", *wrong, allowed)
        if rule.kind == "Integral" and not before.fractions:
            parts = (0, before.numbers), (now.fractions, now.numbers)
            yield grown("data_type_check", "numbers that are not whole", *parts, 1 - constraints.type_threshold)
        if before.numbers and now.numbers and constraints.compares:
            yield lambda alpha: _numeric(name, before, now, rule, constraints, alpha)
        if rule.non_negative:
            below = (0, before.numbers), (_below_zero(now), now.numbers)
            yield grown("baseline_drift_check", "negative values", *below, 0.0)
    elif rule.kind == "String" and now.present:
        texts, before_texts = _categories(now), _categories(before)
        if rule.domain is not None:
            was, allowed = _outside(before, rule.domain, 1 - constraints.domain_threshold)
            outside = sum(count for value, count in texts.items() if value not in rule.domain)
            pairs = (was, before.present), (outside, now.present)
            yield grown("categorical_values_check", "values outside the baseline's", *pairs, allowed)
        if before.present and constraints.compares:
            yield lambda alpha: _categorical(name, before_texts, texts, rule, constraints, alpha)


def _outside(before: Column, domain: frozenset[str], allowed: float) -> tuple[int, float]:
    """Values of the baseline outside of a domain, and the share that is allowed.

    A domain that was made from the baseline has all its values. A value that was seen once is outside of the domain
    without its row, so that the count of such values estimates the share of unseen values (Good and Turing).
    """
    texts = _categories(before)
    was = sum(count for value, count in texts.items() if value not in domain)
    if was:
        return was, allowed
    once = sum(count == 1 for count in texts.values())
    return once, max(allowed, once / before.present if before.present else 0.0)


def _below_zero(column: Column) -> int:
    if column.low >= 0:
        return 0
    values, weights = column.sketch.weighted()
    return max(int(weights[values < 0].sum()), 1)


def _categories(column: Column) -> dict[str, int]:
    """Counts by text; numbers among texts, and texts beyond the bound, are counted together."""
    found = dict(column.categories)
    rest = column.uncounted + column.numbers
    if rest:
        found[OTHER] = found.get(OTHER, 0) + rest
    return found


def _share(
    name: str, check: str, what: str, alpha: float, was: tuple[int, int], now: tuple[int, int], *, least: float
) -> Finding:
    """Whether a share grew: Fisher's exact test against the baseline, one-sided, and an exact interval of the share.

    A share up to ``least`` is allowed by the constraints. Where that is not the baseline's own share, because the
    constraints were edited, the share is compared with that limit alone (binomial test).
    """
    (bad_before, all_before), (bad, all_now) = was, now
    share = bad / all_now if all_now else 0.0
    before = bad_before / all_before if all_before else 0.0
    if not bad:
        p_value = 1.0
    elif all_before and abs(before - least) <= 1e-9:
        p_value = float(
            stats.fisher_exact([[bad, all_now - bad], [bad_before, all_before - bad_before]], "greater").pvalue
        )
    else:
        p_value = float(stats.binomtest(bad, all_now, least, "greater").pvalue)
    interval = stats.binomtest(bad, max(all_now, 1)).proportion_ci(1 - alpha) if all_now else None
    low, high = (float(interval.low), float(interval.high)) if interval is not None else (0.0, 1.0)
    violated = p_value <= alpha and share > least
    why = f"{share:.3%} {what} ({low:.3%} to {high:.3%}) of {all_now:,} values, {before:.3%} in the baseline"
    return Finding(name, check, "Fisher's exact test", share, low, high, p_value, least, violated, why)


def _numeric(name: str, before: Column, now: Column, rule: Rule, constraints: Constraints, alpha: float) -> Finding:
    """Kolmogorov-Smirnov: the distance of two distribution functions, with its band for two samples."""
    gap, where = distance(before.sketch, now.sketch)
    error = before.sketch.rank_error + now.sketch.rank_error
    effective = max(round(before.numbers * now.numbers / (before.numbers + now.numbers)), 1)
    p_value = float(stats.kstwo.sf(max(gap - error, 0.0), effective))
    band = float(stats.kstwo.isf(alpha, effective)) + error
    low, high = max(gap - band, 0.0), min(gap + band, 1.0)
    threshold = constraints.threshold if rule.drift_threshold is None else rule.drift_threshold
    violated = gap >= threshold and gap > 0 and (p_value <= alpha or constraints.method == "Simple")
    why = (
        f"distance {gap:.3f} ({low:.3f} to {high:.3f}), largest at {where:.6g}; mean {now.mean:.6g} against "
        f"{before.mean:.6g}, standard deviation {now.std_dev:.6g} against {before.std_dev:.6g}"
    )
    test = "Kolmogorov-Smirnov, two samples"
    return Finding(name, "baseline_drift_check", test, gap, low, high, p_value, threshold, violated, why)


def _categorical(
    name: str, before: Mapping[str, int], now: Mapping[str, int], rule: Rule, constraints: Constraints, alpha: float
) -> Finding:
    """Chi-squared over the categories; the distance is the largest difference of a category's share."""
    if OTHER in before:  # the baseline's rare values have no names
        rest = sum(count for value, count in now.items() if value not in before)
        now = {value: count for value, count in now.items() if value in before}
        now[OTHER] = now.get(OTHER, 0) + rest
    values = sorted(set(before) | set(now))
    table = np.array([[one.get(value, 0) for value in values] for one in (before, now)], np.float64)
    totals = table.sum(axis=1)
    shares = table / totals[:, None]
    gaps = np.abs(shares[0] - shares[1])
    at = int(gaps.argmax())
    gap = float(gaps[at])
    pooled = _pooled(table)
    p_value = float(stats.chi2_contingency(pooled, correction=False).pvalue) if pooled.shape[1] > 1 else 1.0
    error = math.sqrt(sum(share * (1 - share) / total for share, total in zip(shares[:, at], totals, strict=True)))
    band = float(stats.norm.isf(alpha / (2 * len(values)))) * error
    threshold = constraints.categorical_threshold if rule.drift_threshold is None else rule.drift_threshold
    violated = gap >= threshold and gap > 0 and (p_value <= alpha or constraints.method == "Simple")
    low, high = max(gap - band, 0.0), min(gap + band, 1.0)
    why = (
        f"distance {gap:.3f} ({low:.3f} to {high:.3f}), largest at {values[at][:60]!r}: {shares[1][at]:.1%} against "
        f"{shares[0][at]:.1%}"
    )
    return Finding(name, "baseline_drift_check", "chi-squared", gap, low, high, p_value, threshold, violated, why)


def _pooled(table: Any) -> Any:
    """The table with the rare categories in one column, and without it if that is rare too."""
    expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / table.sum()
    rare = expected.min(axis=0) < LEAST_EXPECTED
    if not rare.any():
        return table
    together = table[:, rare].sum(axis=1, keepdims=True)
    kept = table[:, ~rare]
    least = together.sum() * table.sum(axis=1).min() / table.sum()
    if least >= LEAST_EXPECTED:
        return np.concatenate((kept, together), axis=1)
    if not kept.shape[1]:
        return together
    kept = kept.copy()
    kept[:, int(kept.sum(axis=0).argmin())] += together[:, 0]
    return kept


def violations(findings: list[Finding]) -> dict[str, list[dict[str, str]]]:
    """``constraint_violations.json``."""
    rows = [
        {
            "feature_name": one.feature,
            "constraint_check_type": one.check,
            "description": one.why if one.test == "presence" else f"{one.why}; {one.test}, p = {one.p_value:.2g}",
        }
        for one in findings
        if one.violated
    ]
    return {"violations": rows}
