"""The figures that the tests over fake GPUs end with."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class Figures:
    """Sums by name, in the order of their first entry."""

    sums: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)

    def add(self, name: str, value: int) -> None:
        """Count one measurement of ``value``."""
        self.sums[name] += value
        self.counts[name] += 1

    def lines(self) -> list[str]:
        """One line for each figure: its sum, and of how many measurements."""
        return [f"{name}: {self.sums[name]} ({count} measured)" for name, count in self.counts.items()]
