"""The figure: a number that ``bench`` claims about itself, its measured value, and the needed value."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from rich.console import RenderableType
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Figure:
    """A measured figure. ``needed``: in words. ``met``: None for a figure without a needed value."""

    name: str
    found: str
    needed: str = ""
    met: bool | None = None


def at_least(name: str, value: float, limit: float, form: str = "{:,.0f}") -> Figure:
    """A figure that must reach a limit."""
    return Figure(name, form.format(value), f"at least {form.format(limit)}", value >= limit)


def at_most(name: str, value: float, limit: float, form: str = "{:,.2f}") -> Figure:
    """A figure that must not pass a limit."""
    return Figure(name, form.format(value), f"at most {form.format(limit)}", value <= limit)


def table(title: str, figures: Iterable[Figure]) -> RenderableType:
    """The figures under one title, as a table."""
    grid = Table(box=None, padding=(0, 2), title=title, title_justify="left")
    for head, justify in (("", "left"), ("found", "right"), ("needed", "left"), ("", "left")):
        grid.add_column(head, justify=justify)  # type: ignore[arg-type]  # rich names the three words as a literal
    for one in figures:
        grid.add_row(one.name, one.found, one.needed, "" if one.met is None else "met" if one.met else "MISSED")
    return grid
