"""The report's charts: accuracy against time, intervals of the drop, and bars. Drawn with the primitives of bench.

A chart is 380 units wide, about the content of a phone's screen, so that its text stays readable there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.report.svg import Chart, Scale, linear_ticks, number

WIDTH, HEIGHT = 380, 250
ROW, BAR = 34, 9
"""Height of a row of bars or intervals, its name above it, and of a bar."""

LETTER, LINE = 6.6, 12.0
"""Estimated width and height of a character in units; labels are placed by it."""

LONGEST_NAME = 48
AROUND = ((0, -8), (12, 4), (-12, 4), (0, 18), (12, -8), (-12, -8), (12, 16), (-12, 16))
"""Positions of a label relative to its point, the preferred first."""


@dataclass(frozen=True, slots=True)
class Point:
    """A candidate: microseconds per row, and the drop of the metric with its interval (positive is worse)."""

    name: str
    row_us: float
    drop: float
    low: float
    high: float
    chosen: bool


@dataclass(frozen=True, slots=True)
class Bar:
    """One row of a bar chart: a name, a value in the chart's unit, and the text behind it."""

    name: str
    value: float
    text: str
    marked: bool = False


@dataclass(frozen=True, slots=True)
class Span:
    """An estimate with its interval."""

    name: str
    value: float
    low: float
    high: float
    marked: bool = False


def draw(points: Sequence[Point], metric: str, limit: float) -> str:
    """An ``<svg>``: time to the right, drop downwards, so that the best place is at the top left.

    Points are numbered in their order. The dashed line is the allowed drop. Empty text for no points.
    """
    if not points:
        return ""
    lowest = min(0.0, *(point.low for point in points))
    highest = max(limit, *(point.high for point in points))
    margin = 0.08 * ((highest - lowest) or 1.0)
    chart = Chart(f"Drop of {metric} against time per row", WIDTH, HEIGHT, left=50, right=14)
    x = chart.x(0.0, 1.1 * max(point.row_us for point in points))
    y = Scale(lowest - margin, highest + margin, chart.top, chart.height - chart.bottom)
    chart.axes(
        x,
        y,
        [(tick, number(tick)) for tick in linear_ticks(0.0, x.high, 4)],
        [(tick, number(round(tick, 12))) for tick in linear_ticks(y.low, y.high, 4)],
        ("microseconds per row", f"drop of {metric} (up is better)"),
    )
    chart.rule((chart.left, y(limit)), (chart.width - chart.right, y(limit)), "limit")
    chart.text(chart.width - chart.right, y(limit) - 4, f"allowed {number(limit)}", "limit-text", "end")
    # The winner is drawn last, above the points at its place.
    for point in sorted(points, key=lambda point: point.chosen):
        across = x(point.row_us)
        chart.rule((across, y(point.low)), (across, y(point.high)), "whisker")
        chart.dot(across, y(point.drop), "dot winner" if point.chosen else "dot", radius=5 if point.chosen else 4)
    places = label_places([(x(point.row_us), y(point.drop)) for point in points], (y(limit) - LINE - 2, y(limit)))
    for at, (left, base) in enumerate(places):
        chart.text(left, base, str(at + 1), "strong", "middle")
    return chart.draw()


def label_places(points: Sequence[tuple[float, float]], taken: tuple[float, float]) -> list[tuple[float, float]]:
    """Baselines for the numbers of ``points``, such that no two overlap; further out where points are crowded.

    ``taken``: top and bottom of the text at the right end of the limit line.
    """
    boxes: list[tuple[float, float, float, float]] = [(WIDTH - 14 - 16 * LETTER, taken[0], WIDTH, taken[1])]
    boxes += [(x - 4, y - 4, x + 4, y + 4) for x, y in points]
    places = []
    for at, (x, y) in enumerate(points):
        width = LETTER * len(str(at + 1))
        tried = [(x + reach * dx, y + reach * dy) for reach in (1, 2, 3, 4, 5, 6, 8) for dx, dy in AROUND]
        inside = [(a, b) for a, b in tried if 8 < a < WIDTH - 8 and LINE < b < HEIGHT - 30]
        free = (place for place in inside if not any(_overlap(_box(place, width), box) for box in boxes))
        place = next(free, inside[0] if inside else tried[0])
        boxes.append(_box(place, width))
        places.append(place)
    return places


def _box(place: tuple[float, float], width: float) -> tuple[float, float, float, float]:
    return place[0] - width / 2, place[1] - LINE + 3, place[0] + width / 2, place[1] + 1


def _overlap(one: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def bars(rows: Sequence[Bar], title: str) -> str:
    """An ``<svg>`` of horizontal bars from zero, each under its name; empty text for no rows.

    Values below zero have no bar.
    """
    if not rows:
        return ""
    chart = Chart(title, WIDTH, ROW * len(rows) + 6, left=2, right=2, top=0, bottom=0)
    x = chart.x(0.0, max(1e-12, *(row.value for row in rows)))
    for at, row in enumerate(rows):
        _name(chart, at, row.name, row.text)
        width = max(0.0, x(max(0.0, row.value)) - chart.left)
        chart.rectangle(chart.left, ROW * at + 19, width, BAR, "bar winner" if row.marked else "bar")
    return chart.draw()


def spans(rows: Sequence[Span], title: str, limit: float) -> str:
    """An ``<svg>`` of intervals, each under its name, with zero and the dashed ``limit``; empty text for no rows."""
    if not rows:
        return ""
    low = min(0.0, *(row.low for row in rows))
    high = max(limit, *(row.high for row in rows))
    margin = 0.06 * ((high - low) or 1.0)
    chart = Chart(title, WIDTH, ROW * len(rows) + 38, left=8, right=8, top=14, bottom=22)
    x, floor = chart.x(low - margin, high + margin), chart.height - chart.bottom
    chart.rule((x(0.0), chart.top), (x(0.0), floor), "axis")
    chart.rule((x(limit), chart.top), (x(limit), floor), "limit")
    # One label below the rows and one above them: zero and the limit may be at the same place.
    chart.text(_inside(x(0.0), "no drop"), chart.height - 6, "no drop", "tick", "middle")
    allowed = f"allowed {number(limit)}"
    chart.text(_inside(x(limit), allowed), chart.top - 4, allowed, "limit-text", "middle")
    for at, row in enumerate(rows):
        _name(chart, at, row.name, number(row.value))
        middle = chart.top + ROW * at + 24
        kind = "winner" if row.marked else ""
        chart.rule((x(row.low), middle), (x(row.high), middle), f"whisker {kind}".strip())
        chart.dot(x(row.value), middle, f"dot {kind}".strip(), radius=4)
    return chart.draw()


def _name(chart: Chart, at: int, name: str, text: str) -> None:
    """A row's name at the left and its text at the right; a long name loses its start, because layers differ at the
    end."""
    room = min(LONGEST_NAME, int((WIDTH - LETTER * len(text) - 12) / LETTER))
    base = chart.top + ROW * at + 14
    chart.text(chart.left, base, name if len(name) <= room else f"...{name[3 - room :]}")
    chart.text(chart.width - chart.right, base, text, "tick", "end")


def _inside(x: float, text: str) -> float:
    """The middle of a text near ``x`` that stays inside the chart."""
    half = LETTER * len(text) / 2
    return min(max(x, half), WIDTH - half)
