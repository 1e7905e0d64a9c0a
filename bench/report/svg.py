"""SVG charts: scales, axes and marks as text, and the style sheet that colours them.

The one SVG writer of the project. It imports nothing of ``bench``, and ``optimize.package`` uses it too, so these names
stay stable: ``Scale``, ``Chart``, ``figure``, ``linear_ticks``, ``log_ticks``, ``number`` and ``stylesheet``. A page
embeds ``stylesheet()`` once, and the marks name its classes. No chart library: a page is one self-contained file of at
most 500 kB, its colours follow light, dark and paper, and its keys and tips work without a library's own script.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

Point = tuple[float, float]
"""A position in pixels, from the top left corner of the chart."""
BROAD, SLIM = 1080, 520
"""Widths of a figure that takes a whole row of the page, in pixels: the page is wide, or it is a telephone's."""


@dataclass(frozen=True, slots=True)
class Scale:
    """Maps [low, high] to pixels [start, stop], linearly or by logarithm. Values beyond the ends map to the ends."""

    low: float
    high: float
    start: float
    stop: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high, value = (self._level(one) for one in (self.low, self.high, max(value, self.low)))
        share = (value - low) / (high - low) if high > low else 0.5
        return round(self.start + min(max(share, 0.0), 1.0) * (self.stop - self.start), 1)

    def _level(self, value: float) -> float:
        return math.log(max(value, 1e-300)) if self.log else value


def linear_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """About ``count`` round numbers in [low, high]; ``[low]`` for an empty span."""
    span = high - low
    if not (math.isfinite(span) and span > 0):
        return [low]
    rough = span / count
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [at * step for at in range(first, math.floor(high / step + 1e-9) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten in [low, high], with 2 and 5 between them over at most 2.5 decades. Both ends are above 0."""
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    factors = (1, 2, 5) if math.log10(high / low) <= 2.5 else (1,)
    found = [factor * 10.0**exponent for exponent in exponents for factor in factors]
    return [tick for tick in found if low * 0.999 <= tick <= high * 1.001]


def number(value: float) -> str:
    """A number with three significant digits, without an exponent and without trailing zeros."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    text = f"{value:,.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


@dataclass(slots=True)
class Chart:
    """One chart: its size and margins in pixels, and its marks in drawing order.

    ``kind`` of a mark: its class names. The style sheet colours them, so that one drawing serves light, dark and paper.
    ``tip``: the text that the page shows while the pointer is over the mark; newlines separate its lines. Positions are
    pixels; ``x`` and ``y`` make the scales that compute them.
    """

    title: str
    width: int = 520
    height: int = 270
    left: int = 58
    right: int = 16
    top: int = 22
    bottom: int = 42
    marks: list[str] = field(default_factory=list)

    def x(self, low: float, high: float, log: bool = False) -> Scale:
        """The horizontal scale of the plot area."""
        return Scale(low, high, self.left, self.width - self.right, log)

    def y(self, low: float, high: float, log: bool = False) -> Scale:
        """The vertical scale of the plot area; high values are at the top."""
        return Scale(low, high, self.height - self.bottom, self.top, log)

    def axes(
        self,
        x: Scale,
        y: Scale,
        x_ticks: Iterable[tuple[float, str]],
        y_ticks: Iterable[tuple[float, str]],
        labels: tuple[str, str],
    ) -> None:
        """Grid lines and their numbers. A tick: (value, text). ``labels``: of the horizontal and the vertical axis."""
        floor, end = self.height - self.bottom, self.width - self.right
        for value, text in y_ticks:
            at = y(value)
            self.marks.append(f'<path class="grid" d="M{self.left} {at}H{end}"/>')
            self.text(self.left - 7, at + 4, text, "tick", "end")
        for value, text in x_ticks:
            self.text(x(value), floor + 17, text, "tick", "middle")
        self.marks.append(f'<path class="axis" d="M{self.left} {floor}H{end}"/>')
        self.text(end, self.height - 6, labels[0], "label", "end")
        self.text(4, 11, labels[1], "label")

    def line(self, points: Sequence[Point], kind: str) -> None:
        """A polyline through the points; nothing for no points."""
        if points:
            path = "L".join(f"{a:g} {b:g}" for a, b in points)
            self.marks.append(f'<path class="line {kind}" d="M{path}"/>')

    def rectangle(self, x: float, y: float, width: float, height: float, kind: str, tip: str = "") -> None:
        """A rectangle from its top left corner. A negative size becomes 0."""
        self.marks.append(
            f'<rect class="{kind}"{_tip(tip)} x="{x:g}" y="{y:g}" width="{max(width, 0):.4g}" '
            f'height="{max(height, 0):.4g}"/>'
        )

    def dot(self, x: float, y: float, kind: str, tip: str = "", radius: float = 3.5) -> None:
        """A filled circle around a point."""
        self.marks.append(f'<circle class="{kind}"{_tip(tip)} cx="{x:g}" cy="{y:g}" r="{radius:g}"/>')

    def rule(self, start: Point, end: Point, kind: str) -> None:
        """A straight line."""
        self.marks.append(f'<path class="{kind}" d="M{start[0]:g} {start[1]:g}L{end[0]:g} {end[1]:g}"/>')

    def text(self, x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> None:
        """A line of text, escaped. ``anchor``: ``start``, ``middle`` or ``end`` is at the position."""
        where = "" if anchor == "start" else f' text-anchor="{anchor}"'
        self.marks.append(f'<text class="{kind}" x="{x:g}" y="{y:g}"{where}>{escape(text)}</text>')

    def columns(self, positions: Sequence[float], tips: Sequence[str]) -> None:
        """Invisible columns around ascending positions, so that a tip shows at any height of the pointer."""
        edges = [self.left, *((a + b) / 2 for a, b in itertools.pairwise(positions))]
        edges.append(self.width - self.right)
        for at, tip in enumerate(tips):
            self.rectangle(
                round(edges[at], 1),
                self.top,
                edges[at + 1] - edges[at],
                self.height - self.top - self.bottom,
                "column",
                tip,
            )

    def draw(self) -> str:
        """The ``<svg>`` element."""
        return (
            f'<svg viewBox="0 0 {self.width} {self.height}" role="img" aria-label="{escape(self.title)}">'
            f"{''.join(self.marks)}</svg>"
        )


def figure(
    title: str, drawing: str, caption: str = "", legend: Sequence[tuple[str, str]] = (), wide: bool = False
) -> str:
    """A ``<figure>`` around the ``drawing`` of a chart.

    ``caption``: plain text. ``legend``: (class name, words) per key. ``wide``: it takes a whole row of the page.
    """
    keys = "".join(
        f'<li><button type="button" data-key="{escape(kind)}"><i class="key {escape(kind)}"></i>'
        f"{escape(words)}</button></li>"
        for kind, words in legend
    )
    return (
        f"<figure{' class=wide' if wide else ''}><h3>{escape(title)}</h3>"
        + (f'<ul class="legend">{keys}</ul>' if keys else "")
        + drawing
        + (f"<figcaption>{escape(caption)}</figcaption>" if caption else "")
        + "</figure>"
    )


def in_two_widths(draw: Callable[[int], Chart]) -> str:
    """The drawing of a wide figure: for a wide page, and for a narrow one. ``draw`` gets the width in pixels."""
    forms = (("broad", BROAD), ("slim", SLIM))
    return "".join(f'<div class="{kind}">{draw(width).draw()}</div>' for kind, width in forms)


def stylesheet() -> str:
    """The style sheet of the page and of all marks, for a ``<style>`` element."""
    return Path(__file__).with_name("report.css").read_text(encoding="utf-8")


def _tip(text: str) -> str:
    return f' data-t="{escape(text)}"' if text else ""
