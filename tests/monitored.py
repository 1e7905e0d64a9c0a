"""Synthetic data for the monitor: columns of many shapes, clean or with a planted drift, all from seeds."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from container.monitor import constraints, drift
from container.monitor.columns import Column, Table
from container.monitor.drift import Finding
from container.monitor.rows import Rows

Draw = Callable[[np.random.Generator, int], list[object]]
WORDS = [f"word{number}" for number in range(400)]
ZIPF = np.array([1 / (rank + 1) for rank in range(len(WORDS))])
ZIPF /= ZIPF.sum()


def with_missing(draw: Draw, share: float) -> Draw:
    """A column with missing values."""

    def drawn(random: np.random.Generator, rows: int) -> list[object]:
        gone = random.random(rows) < share
        return [None if hole else value for value, hole in zip(draw(random, rows), gone, strict=True)]

    return drawn


COLUMNS: dict[str, Draw] = {
    "normal": lambda random, rows: list(random.normal(size=rows)),
    "waits": lambda random, rows: list(random.exponential(size=rows)),
    "heavy": lambda random, rows: list(random.standard_cauchy(rows)),
    "counts": lambda random, rows: [int(one) for one in random.poisson(3, rows)],
    "flag": lambda random, rows: [int(one) for one in random.random(rows) < 0.02],
    "constant": lambda _, rows: [7.5] * rows,
    "holes": with_missing(lambda random, rows: list(random.normal(size=rows)), 0.1),
    "rarely missing": with_missing(lambda random, rows: list(random.uniform(size=rows)), 0.001),
    "colour": lambda random, rows: list(random.choice(["red", "green", "blue"], rows, p=[0.6, 0.3, 0.1])),
    "rare": lambda random, rows: list(random.choice(["a", "b"], rows, p=[0.999, 0.001])),
    "words": lambda random, rows: list(random.choice(WORDS, rows, p=ZIPF)),
    "junk": lambda random, rows: ["junk" if one < 0.003 else one for one in random.random(rows)],
}


def table(random: np.random.Generator, rows: int, columns: dict[str, Draw] | None = None) -> dict[str, Column]:
    """The columns of a data set."""
    found = Table()
    drawn = [draw(random, rows) for draw in (columns or COLUMNS).values()]
    found.add(Rows(tuple(columns or COLUMNS), [list(row) for row in zip(*drawn, strict=True)]))
    found.finish()
    return found.columns


def check(
    random: np.random.Generator,
    rows: tuple[int, int],
    alpha: float = drift.ALPHA,
    threshold: float = 0.1,
    drifted: dict[str, Draw] | None = None,
) -> list[Finding]:
    """One check: a baseline and captured data of ``rows``. ``drifted`` replaces columns of the captured data."""
    before = table(random, rows[0])
    now = table(random, rows[1], {**COLUMNS, **(drifted or {})})
    return drift.compare(before, now, constraints.suggest(before, threshold), alpha)


def alarms(
    checks: int, rows: tuple[int, int], alpha: float = drift.ALPHA, threshold: float = 0.1, seed: int = 0
) -> int:
    """How many of so many checks of clean data raise an alarm."""
    random = np.random.default_rng(seed)
    return sum(any(one.violated for one in check(random, rows, alpha, threshold)) for _ in range(checks))


PLANTED: dict[str, dict[str, Draw]] = {
    "mean shifted by half a standard deviation": {
        "normal": lambda random, rows: list(random.normal(0.5, size=rows)),
    },
    "standard deviation doubled": {"normal": lambda random, rows: list(random.normal(0, 2, size=rows))},
    "counts from 3 to 4": {"counts": lambda random, rows: [int(one) for one in random.poisson(4, rows)]},
    "a category from 60 to 40 percent": {
        "colour": lambda random, rows: list(random.choice(["red", "green", "blue"], rows, p=[0.4, 0.4, 0.2])),
    },
    "a new category in 5 percent": {
        "colour": lambda random, rows: list(
            random.choice(["red", "green", "blue", "teal"], rows, p=[0.57, 0.285, 0.095, 0.05])
        ),
    },
    "missing values from 10 to 25 percent": {
        "holes": with_missing(lambda random, rows: list(random.normal(size=rows)), 0.25),
    },
    "text in a number column, 5 percent": {
        "waits": lambda random, rows: ["?" if one < 0.05 else float(one) for one in random.random(rows)],
    },
    "fractions in a column of whole numbers": {
        "counts": lambda random, rows: [float(one) + 0.5 * (random.random() < 0.05) for one in random.poisson(3, rows)],
    },
}
"""Drifts that a check must find: the column and how it is drawn now."""
