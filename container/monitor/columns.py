"""Columns: what is kept of the values of each column, in bounded memory, and its statistics in Model Monitor's form."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .errors import MonitorError
from .rows import MAX_COLUMNS, Rows
from .sketch import Floats, Sketch, buckets, from_json

MAX_CATEGORIES = 10_000
"""Distinct texts of a column that are counted; further ones are counted together."""
SHOWN_CATEGORIES = 200
MAX_TEXT = 256
MISSING = frozenset(("", "nan", "NaN", "null", "None", "NA"))
CHUNK_ROWS = 16_384
OTHER = "(other)"
LARGEST = 1e140
"""Larger numbers count as this one: a float holds no sum of their squares."""


@dataclass(slots=True)
class Column:
    """One column. ``numbers`` and ``texts`` are present values; ``fractions`` are numbers that are not whole."""

    missing: int = 0
    numbers: int = 0
    texts: int = 0
    fractions: int = 0
    total: float = 0.0
    squares: float = 0.0  # sum of squared differences from the mean
    low: float = math.inf
    high: float = -math.inf
    sketch: Sketch = field(default_factory=Sketch)
    categories: Counter[str] = field(default_factory=Counter)
    uncounted: int = 0
    """Texts beyond :data:`MAX_CATEGORIES`."""

    @property
    def present(self) -> int:
        return self.numbers + self.texts

    @property
    def count(self) -> int:
        return self.present + self.missing

    @property
    def kind(self) -> str:
        """The type of most values: ``Integral``, ``Fractional``, ``String``, or ``Unknown`` without values."""
        if not self.present:
            return "Unknown"
        if self.texts > self.numbers:
            return "String"
        return "Fractional" if self.fractions else "Integral"

    @property
    def other_type(self) -> int:
        """Present values that are not of the column's type; a text column takes everything."""
        return 0 if self.kind == "String" else self.texts

    @property
    def mean(self) -> float:
        return self.total / self.numbers if self.numbers else 0.0

    @property
    def std_dev(self) -> float:
        return math.sqrt(self.squares / self.numbers) if self.numbers else 0.0

    def add(self, values: Sequence[Any]) -> None:
        """Add values: text, numbers, truth values, None. Text that reads as a number is one."""
        numbers = _numbers(values)
        if numbers is not None:
            self._add_numbers(numbers)
            return
        rest: list[float] = []
        for value in values:
            number = _number(value)
            if number is not None:
                rest.append(number)
            elif value is None or (isinstance(value, str) and value.strip() in MISSING):
                self.missing += 1
            else:
                self._add_text(value if isinstance(value, str) else str(value))
        self._add_numbers(np.array(rest, np.float64))

    def _add_text(self, text: str) -> None:
        self.texts += 1
        text = text[:MAX_TEXT]
        if text in self.categories or len(self.categories) < MAX_CATEGORIES:
            self.categories[text] += 1
        else:
            self.uncounted += 1

    def _add_numbers(self, numbers: Floats) -> None:
        finite = np.isfinite(numbers)
        if not finite.all():
            self.missing += int((~finite).sum())
            numbers = numbers[finite]
        if not len(numbers):
            return
        numbers = np.clip(numbers, -LARGEST, LARGEST)
        count, total = len(numbers), float(numbers.sum())
        mean = total / count
        squares = float(((numbers - mean) ** 2).sum())
        if self.numbers:
            squares += (mean - self.mean) ** 2 * self.numbers * count / (self.numbers + count)
        self.squares += squares
        self.numbers += count
        self.total += total
        self.fractions += int((numbers != np.floor(numbers)).sum())
        self.low, self.high = min(self.low, float(numbers.min())), max(self.high, float(numbers.max()))
        self.sketch.add(numbers)

    def to_json(self, name: str) -> dict[str, Any]:
        """The column as a feature of ``statistics.json``."""
        common = {"num_present": self.present, "num_missing": self.missing, "num_other_type": self.other_type}
        feature: dict[str, Any] = {"name": name, "inferred_type": self.kind}
        if self.kind == "String":
            shown = self.categories.most_common(SHOWN_CATEGORIES)
            bars = [{"value": value, "count": count} for value, count in shown]
            rest = self.present - sum(count for _, count in shown)
            feature["string_statistics"] = {
                "common": common,
                "distinct_count": len(self.categories),
                "distribution": {"categorical": {"buckets": bars}},
                "num_other_values": rest,
            }
        elif self.kind != "Unknown":
            small = self.sketch.reduced()
            feature["numerical_statistics"] = {
                "common": common,
                "mean": self.mean,
                "sum": self.total,
                "std_dev": self.std_dev,
                "min": self.low,
                "max": self.high,
                "distribution": {
                    "kll": {"buckets": buckets(self.sketch, self.low, self.high), "sketch": small.to_json()}
                },
            }
        else:
            feature["string_statistics"] = {"common": common, "distinct_count": 0}
        return feature


def column_of(feature: Mapping[str, Any]) -> Column:
    """The column of a feature of ``statistics.json``, of ours or of Model Monitor. Raises MonitorError."""
    try:
        numeric = feature.get("numerical_statistics")
        told = feature.get("string_statistics") if numeric is None else numeric
        told = {"common": {"num_present": 0, "num_missing": 0}} if told is None else told
        common = told["common"]
        present, other = int(common["num_present"]), int(common.get("num_other_type", 0))
        column = Column(missing=int(common["num_missing"]))
        if numeric is not None:
            column.numbers, column.texts = present - other, other
            column.fractions = int(feature["inferred_type"] == "Fractional")
            column.total, column.low, column.high = (float(numeric[key]) for key in ("sum", "min", "max"))
            column.squares = float(numeric["std_dev"]) ** 2 * column.numbers
            column.sketch = from_json(numeric["distribution"]["kll"]["sketch"], column.numbers)
        else:
            column.texts = present
            distribution = told.get("distribution") or {"categorical": {"buckets": []}}
            for bar in distribution["categorical"]["buckets"]:
                column.categories[str(bar["value"])] += int(bar["count"])
            column.uncounted = max(present - sum(column.categories.values()), 0)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise MonitorError(
            f"statistics of {feature.get('name')!r} are not in Model Monitor's form: {error!r}"
        ) from error
    return column


class Table:
    """All columns of a data set. Rows are collected and added in chunks."""

    def __init__(self) -> None:
        self.rows = 0
        self.columns: dict[str, Column] = {}
        self._waiting: dict[tuple[str, ...], list[Sequence[Any]]] = {}
        self._count = 0

    def add(self, group: Rows) -> None:
        """Add rows. Rows that are longer or shorter than their names count as far as they go."""
        kept = self._waiting.setdefault(group.names, [])
        kept += group.rows
        self.rows += len(group.rows)
        self._count += len(group.rows)
        if self._count >= CHUNK_ROWS:
            self.flush()

    def flush(self) -> None:
        """Count the rows that were collected. A column that rows of the table lack is missing there."""
        for names, rows in self._waiting.items():
            width = len(names)
            even = all(len(row) == width for row in rows)
            columns: Iterable[Sequence[Any]] = (
                zip(*rows, strict=True)
                if even
                else ([row[at] if at < len(row) else None for row in rows] for at in range(width))
            )
            for name, values in zip(names, columns, strict=False):
                column = self.columns.get(name)
                if column is None:
                    if len(self.columns) >= MAX_COLUMNS:
                        continue
                    column = self.columns[name] = Column()
                column.add(values)
        self._waiting.clear()
        self._count = 0

    def finish(self) -> None:
        """Count the last rows, and the rows without a column as missing values of it."""
        self.flush()
        for column in self.columns.values():
            column.missing += max(self.rows - column.count, 0)


def _numbers(values: Sequence[Any]) -> Floats | None:
    """All values as numbers; None if some are none. Text is read as a number."""
    try:
        return np.fromiter(map(float, values), np.float64, len(values))
    except (ValueError, TypeError, OverflowError):
        return None


def _number(value: Any) -> float | None:
    """A value as a number; None if it is none."""
    if isinstance(value, (bool, int, float)):
        try:
            return float(value)
        except OverflowError:
            return None
    if isinstance(value, str) and value.strip() not in MISSING and len(value) <= 64 and "_" not in value:
        try:
            return float(value)
        except ValueError:
            return None
    return None
