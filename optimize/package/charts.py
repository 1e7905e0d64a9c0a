"""The report's drawings as inline SVG: accuracy against time, intervals and bars."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 760, 300
LEFT, RIGHT, TOP, BOTTOM = 86, 210, 26, 46
LINE, APART = 19, 12
BAR_LEFT, BAR_RIGHT = 230, 150
LONGEST_NAME = 34


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
class _Scale:
    """A linear map of ``[start, stop]`` onto pixels from ``first`` to ``last``."""

    start: float
    stop: float
    first: float
    last: float

    def __call__(self, value: float) -> float:
        return round(self.first + (value - self.start) / (self.stop - self.start) * (self.last - self.first), 1)


def draw(points: Sequence[Point], metric: str, limit: float) -> str:
    """An ``<svg>`` element: time to the right, drop downwards, so that the best place is at the top left.

    The dashed line is the largest drop that is allowed. Empty text for no points.
    """
    if not points:
        return ""
    lowest = min(0.0, *(point.low for point in points))
    highest = max(limit, *(point.high for point in points))
    margin = 0.08 * ((highest - lowest) or 1.0)
    x = _Scale(0.0, 1.1 * max(point.row_us for point in points), LEFT, WIDTH - RIGHT)
    y = _Scale(lowest - margin, highest + margin, TOP, HEIGHT - BOTTOM)
    parts = [_axes(x, y, metric), _limit(y, limit)]
    # The winner is drawn last, above those that are as fast.
    parts += [_point(point, x, y) for point in sorted(points, key=lambda point: point.chosen)]
    parts += [_numbers(points, x, y), _legend(points)]
    title = escape(f"Drop of {metric} against time per row")
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{title}"><title>{title}</title>'
        f"{''.join(parts)}</svg>"
    )


def _axes(x: _Scale, y: _Scale, metric: str) -> str:
    floor = HEIGHT - BOTTOM
    ticks = [x.stop * share for share in (0, 0.25, 0.5, 0.75, 1)]
    marks = "".join(
        f'<text class="soft" x="{x(tick)}" y="{floor + 18}" text-anchor="middle">{tick:.3g}</text>' for tick in ticks
    )
    zero = y(0.0)
    return (
        f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{floor}" y2="{floor}"/>'
        f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{zero}" y2="{zero}"/>'
        f'<text class="soft" x="{LEFT - 8}" y="{zero + 4}" text-anchor="end">no drop</text>{marks}'
        f'<text class="soft" x="{LEFT}" y="{HEIGHT - 8}">microseconds per row (left is faster)</text>'
        f'<text class="soft" x="{WIDTH - RIGHT}" y="{HEIGHT - 8}" text-anchor="end">'
        f"up: less {escape(metric)} lost</text>"
    )


def _limit(y: _Scale, limit: float) -> str:
    at = y(limit)
    return (
        f'<line class="limit" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at}" y2="{at}"/>'
        f'<text class="soft" x="{LEFT - 8}" y="{at + 4}" text-anchor="end">{limit:.3g}</text>'
        f'<text class="soft" x="{WIDTH - RIGHT + 18}" y="{at + 4}">allowed drop</text>'
    )


def _legend(points: Sequence[Point]) -> str:
    return "".join(
        f'<text class="{"winner" if point.chosen else "name"}" x="{WIDTH - RIGHT + 18}" y="{TOP + 12 + LINE * at}">'
        f"{at + 1} {escape(point.name)}</text>"
        for at, point in enumerate(points)
    )


def _spread(wanted: Sequence[float]) -> list[float]:
    """Places for marks, in the order of ``wanted``: each where it should be or as little after as keeps them apart."""
    placed = [0.0] * len(wanted)
    previous = float("-inf")
    for position in sorted(range(len(wanted)), key=lambda position: wanted[position]):
        previous = placed[position] = round(max(wanted[position], previous + APART), 1)
    return placed


def _point(point: Point, x: _Scale, y: _Scale) -> str:
    across, down = x(point.row_us), y(point.drop)
    kind = "winner" if point.chosen else "dot"
    return (
        f'<line class="bar" x1="{across}" x2="{across}" y1="{y(point.low)}" y2="{y(point.high)}"/>'
        f'<circle class="{kind}" cx="{across}" cy="{down}" r="{6 if point.chosen else 4.5}"/>'
    )


def _numbers(points: Sequence[Point], x: _Scale, y: _Scale) -> str:
    places = _spread([x(point.row_us) for point in points])
    return "".join(
        f'<text x="{place}" y="{y(point.drop) - 11:.1f}" text-anchor="middle">{at + 1}</text>'
        for at, (point, place) in enumerate(zip(points, places, strict=True))
    )


@dataclass(frozen=True, slots=True)
class Bar:
    """One row of a bar chart: its name, its length in the chart's unit, and what is written behind it."""

    name: str
    value: float
    text: str
    marked: bool = False


def bars(rows: Sequence[Bar], title: str) -> str:
    """An ``<svg>`` of horizontal bars from zero; empty text for no rows. Values below zero have no bar."""
    if not rows:
        return ""
    longest = max(1e-12, *(row.value for row in rows))
    height = LINE * len(rows) + 12
    x = _Scale(0.0, longest, BAR_LEFT, WIDTH - BAR_RIGHT)
    parts = []
    for at, row in enumerate(rows):
        top = 6 + LINE * at
        width = max(0.0, round(x(max(0.0, row.value)) - BAR_LEFT, 1))
        kind = "winner" if row.marked else "dot"
        parts.append(
            f'<text class="name" x="{BAR_LEFT - 8}" y="{top + 11}" text-anchor="end">{escape(_short(row.name))}</text>'
            f'<rect class="{kind}" x="{BAR_LEFT}" y="{top + 2}" width="{width}" height="{LINE - 7}"/>'
            f'<text class="soft" x="{BAR_LEFT + width + 8:.1f}" y="{top + 11}">{escape(row.text)}</text>'
        )
    label = escape(title)
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{label}"><title>{label}</title>'
        f"{''.join(parts)}</svg>"
    )


@dataclass(frozen=True, slots=True)
class Span:
    """An estimate with its interval."""

    name: str
    value: float
    low: float
    high: float
    marked: bool = False


def spans(rows: Sequence[Span], title: str, limit: float) -> str:
    """An ``<svg>`` of intervals, one a row, with zero and the dashed ``limit``; empty text for no rows."""
    if not rows:
        return ""
    low = min(0.0, *(row.low for row in rows))
    high = max(limit, *(row.high for row in rows))
    margin = 0.06 * ((high - low) or 1.0)
    x = _Scale(low - margin, high + margin, BAR_LEFT, WIDTH - BAR_RIGHT)
    height = LINE * len(rows) + 34
    parts = [
        f'<line class="axis" x1="{x(0.0)}" x2="{x(0.0)}" y1="4" y2="{height - 22}"/>',
        f'<line class="limit" x1="{x(limit)}" x2="{x(limit)}" y1="4" y2="{height - 22}"/>',
        f'<text class="soft" x="{x(0.0)}" y="{height - 6}" text-anchor="middle">no drop</text>',
        f'<text class="soft" x="{x(limit) + 4}" y="{height - 6}">allowed {limit:.3g}</text>',
    ]
    for at, row in enumerate(rows):
        middle = 14 + LINE * at
        parts.append(
            f'<text class="name" x="{BAR_LEFT - 8}" y="{middle + 4}" text-anchor="end">'
            f"{escape(_short(row.name))}</text>"
            f'<line class="bar" x1="{x(row.low)}" x2="{x(row.high)}" y1="{middle}" y2="{middle}"/>'
            f'<circle class="{"winner" if row.marked else "dot"}" cx="{x(row.value)}" cy="{middle}" r="4.5"/>'
        )
    label = escape(title)
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{label}"><title>{label}</title>'
        f"{''.join(parts)}</svg>"
    )


def _short(name: str) -> str:
    """The end of a long name: layers differ in theirs."""
    return name if len(name) <= LONGEST_NAME else f"...{name[-LONGEST_NAME + 3 :]}"
