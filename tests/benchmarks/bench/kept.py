"""The kept results of a long benchmark: a file of JSON lines, so that it can be measured in parts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Row = dict[str, Any]


@dataclass(slots=True)
class Kept:
    """``only``: measure what has one of these texts in its title; nothing: measure everything. ``file``: where rows are
    kept beyond this process; None: nowhere. A later row replaces an earlier one with the same title. ``again``: measure
    titles that the file has already."""

    only: Sequence[str] = ()
    file: Path | None = None
    again: bool = False
    _rows: dict[str, Row] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.file is not None and self.file.exists():
            for line in self.file.read_text(encoding="utf-8").splitlines():
                row = json.loads(line)
                self._rows[row["title"]] = row

    def wants(self, title: str) -> bool:
        """Whether this title is to be measured now."""
        named = not self.only or any(text.lower() in title.lower() for text in self.only)
        return named and (self.again or title not in self._rows)

    def add(self, row: Row) -> None:
        """Keep a row, which has a ``title``."""
        self._rows[row["title"]] = row
        if self.file is not None:
            with self.file.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")

    def rows(self, titles: Sequence[str]) -> Iterator[Row]:
        """The rows of these titles that were measured, now or before, in the order of the titles."""
        for title in titles:
            if title in self._rows:
                yield self._rows[title]
