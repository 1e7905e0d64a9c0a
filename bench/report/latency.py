"""Charts of latency: against offered load, by percentile, and over the time of a run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..result.statistics import min_samples
from .events import Event
from .source import Run, by_load
from .svg import Chart, Scale, figure, in_two_widths, linear_ticks, log_ticks, number

PERCENTILES = ("p50", "p90", "p99")
CURVE_POINTS = 120
HEAT_COLUMNS, HEAT_ROWS, HEAT_LEVELS = 96, 36, 7


@dataclass(frozen=True, slots=True)
class Lines:
    """Reference lines. ``capacity_per_s``: the most requests per second that one instance can answer."""

    capacity_per_s: float | None
    objective_ms: float | None


def against_load(runs: Sequence[Run], lines: Lines) -> str:
    """p50, p90 and p99 with their intervals over the offered rate, with lines at the capacity and the objective."""
    shown = by_load(runs)
    values = [one for run in shown for one in (run.record.latency.corrected or {}).values() if one.value_ms]
    if not values:
        return ""
    lows = [one.low_ms or one.value_ms or 0.0 for one in values]
    highs = [one.high_ms or one.value_ms or 0.0 for one in values] + (
        [lines.objective_ms] if lines.objective_ms else []
    )
    most = max(run.offered_per_s for run in shown)
    near = lines.capacity_per_s is not None and lines.capacity_per_s <= 4 * most
    chart = Chart("Latency against offered load")
    x = chart.x(0, 1.12 * max(most, lines.capacity_per_s or 0 if near else 0))
    y = chart.y(max(min(lows), 1e-3) / 1.5, max(highs) * 1.5, log=True)
    chart.axes(x, y, _named(linear_ticks(x.low, x.high)), _named(log_ticks(y.low, y.high)), ("requests/s", "ms"))
    if near and lines.capacity_per_s is not None:
        at = x(lines.capacity_per_s)
        chart.rule((at, chart.top), (at, chart.height - chart.bottom), "limit")
        chart.text(at - 5, chart.top + 10, f"capacity {number(lines.capacity_per_s)}/s", "limit-text", "end")
    if lines.objective_ms is not None:
        at = y(lines.objective_ms)
        chart.rule((chart.left, at), (chart.width - chart.right, at), "limit")
        chart.text(chart.left + 5, at - 5, f"objective {number(lines.objective_ms)} ms", "limit-text")
    for name in PERCENTILES:
        _load_series(chart, shown, name, x, y)
    caption = _load_caption(shown, runs, lines, near)
    legend = [(f"q-{name}", name) for name in PERCENTILES]
    return figure("Latency against offered load", chart.draw(), caption, legend)


def _load_series(chart: Chart, runs: Sequence[Run], name: str, x: Scale, y: Scale) -> None:
    points = []
    for run in runs:
        one = (run.record.latency.corrected or {}).get(name)
        if one is None or one.value_ms is None:
            continue
        at = (x(run.offered_per_s), y(one.value_ms))
        if one.low_ms is not None:
            high = one.high_ms if one.high_ms is not None else y.high
            chart.rule((at[0], y(one.low_ms)), (at[0], y(high)), f"whisker q-{name}")
        points.append(at)
        between = f"\n95 %: {number(one.low_ms)} to {_or_more(one.high_ms)}" if one.low_ms is not None else ""
        tip = f"{run.name}\n{number(run.offered_per_s)}/s\n{name} {number(one.value_ms)} ms{between}"
        chart.dot(*at, f"dot q-{name}", tip)
    chart.line(points, f"q-{name}")


def _load_caption(shown: Sequence[Run], runs: Sequence[Run], lines: Lines, near: bool) -> str:
    parts = ["Bars: 95 % intervals."]
    if len(shown) == 1:
        parts.append("One run is one point: pass several records for a curve.")
    if lines.capacity_per_s is not None and not near:
        parts.append(f"One instance computes {number(lines.capacity_per_s)} rows/s at most, far to the right.")
    if len(runs) > len(shown):
        parts.append(f"{len(runs) - len(shown)} invalid run(s) are not drawn.")
    return " ".join(parts)


def percentiles(run: Run) -> str:
    """Latency at every percentile on a 1/(1-p) axis, corrected and uncorrected."""
    corrected, uncorrected = np.sort(run.latency_ns()) / 1e6, np.sort(run.uncorrected_ns()) / 1e6
    if len(corrected) < 2:
        return ""
    rarest = float(len(corrected))
    odds = np.geomspace(1.0, rarest, CURVE_POINTS)
    curves = {"corrected": _at_odds(corrected, odds), "uncorrected": _at_odds(uncorrected, odds)}
    everything = np.concatenate(list(curves.values()))
    chart = Chart("Latency by percentile")
    x = chart.x(1.0, rarest, log=True)
    y = chart.y(max(float(everything.min()), 1e-3) / 1.3, float(everything.max()) * 1.3, log=True)
    chart.axes(x, y, _percentile_ticks(rarest), _named(log_ticks(y.low, y.high)), ("percentile", "ms"))
    # Beyond this percentile a single request decides the value, and the next run will show another one.
    sure = next((one for one in odds[::-1] if one > 2 and min_samples(1 - 1 / one) <= rarest), 1.0)
    chart.rectangle(x(sure), chart.top, x(rarest) - x(sure), chart.height - chart.bottom - chart.top, "unsure")
    for name in ("corrected", "uncorrected"):  # the dashed line last, so that both are visible where they agree
        chart.line([(x(at), y(value)) for at, value in zip(odds.tolist(), curves[name].tolist(), strict=True)], name)
    tips = [
        f"p{100 * (1 - 1 / at):.6g}\nfrom the intended instant {number(one)} ms\n"
        f"from the actual send {number(other)} ms"
        for at, one, other in zip(odds.tolist(), *(curve.tolist() for curve in curves.values()), strict=True)
    ]
    chart.columns([x(at) for at in odds.tolist()], tips)
    legend = [("corrected", "from the intended instant"), ("uncorrected", "from the actual send")]
    caption = "The lines differ where requests waited for their send, which closed-loop tools miss. Shaded: "
    return figure("Latency by percentile", chart.draw(), caption + "too few requests for a reliable value.", legend)


def _at_odds(ascending: NDArray[np.float64], odds: NDArray[np.float64]) -> NDArray[np.float64]:
    if not len(ascending):
        return np.full(len(odds), np.nan)
    ranks = np.ceil((1 - 1 / odds) * len(ascending) - 1e-9).astype(np.int64)
    return ascending[np.clip(ranks - 1, 0, len(ascending) - 1)]


def _percentile_ticks(rarest: float) -> list[tuple[float, str]]:
    ticks = [(2.0, "50"), (10.0, "90"), (100.0, "99"), (1e3, "99.9"), (1e4, "99.99"), (1e5, "99.999")]
    return [(at, f"{text} %") for at, text in ticks if at <= rarest]


def heat_map(run: Run, events: Sequence[Event]) -> str:
    """The distribution of latency in each slice of time, by intended instant, with the events above."""
    latency_ms = np.maximum(run.latency_ns() / 1e6, 1e-3)
    due_s = run.window["due_ns"][run.answered()] / 1e9
    if len(latency_ms) < 2:
        return ""
    low, high = float(latency_ms.min()) / 1.05, float(latency_ms.max()) * 1.05
    edges = np.geomspace(low, high, HEAT_ROWS + 1)
    counts, _, _ = np.histogram2d(
        due_s, latency_ms, bins=(np.linspace(run.start_s, run.end_s, HEAT_COLUMNS + 1), edges)
    )
    caption = "Each column is a slice of the run. A darker cell holds more of its requests. "
    caption += (
        f"Marked above: {len(events)} event{'s' if len(events) > 1 else ''}." if events else "No event was found."
    )
    drawing = in_two_widths(lambda width: _heat_chart(run, events, counts, edges, width))
    return figure("Latency over time", drawing, caption, wide=True)


def _heat_chart(
    run: Run, events: Sequence[Event], counts: NDArray[np.float64], edges: NDArray[np.float64], width_px: int
) -> Chart:
    """``counts`` [columns, rows]: the requests of each cell; ``edges`` [rows + 1]: of the rows, in ms."""
    chart = Chart("Latency over time", width_px, height=300, top=34)
    low, high = float(edges[0]), float(edges[-1])
    x, y = chart.x(run.start_s, run.end_s), chart.y(low, high, log=True)
    chart.axes(
        x,
        y,
        _named(linear_ticks(x.low, x.high, width_px // 100)),
        _named(log_ticks(low, high)),
        ("s after the start", "ms"),
    )
    _cells(chart, counts)
    for event in events:
        at = x(event.at_s)
        chart.rule((at, chart.top), (at, chart.height - chart.bottom), "event")
        chart.dot(at, chart.top - 6, "event-dot", f"{event.at_s:.1f} s\n{event.text}", radius=5)
    tips = [_slice_tip(column, edges, at, run) for at, column in enumerate(counts)]
    width = (x.stop - x.start) / HEAT_COLUMNS
    chart.columns([x.start + (at + 0.5) * width for at in range(HEAT_COLUMNS)], tips)
    return chart


def _cells(chart: Chart, counts: NDArray[np.float64]) -> None:
    """One path per level of darkness. Equal cells in a column merge, which keeps the page small."""
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    darkness = np.ceil(HEAT_LEVELS * np.sqrt(share / max(float(share.max()), 1e-9)))
    level = np.where(counts > 0, np.clip(darkness, 1, HEAT_LEVELS), 0).astype(np.int64)
    width = (chart.width - chart.left - chart.right) / HEAT_COLUMNS
    height = (chart.height - chart.top - chart.bottom) / HEAT_ROWS
    paths: dict[int, list[str]] = {}
    for column, levels in enumerate(level.tolist()):
        row = 0
        while row < HEAT_ROWS:
            end = row + 1
            while end < HEAT_ROWS and levels[end] == levels[row]:
                end += 1
            if levels[row]:
                left, top = chart.left + column * width, chart.height - chart.bottom - end * height
                cell = f"M{left:.1f} {top:.1f}h{width + 0.3:.1f}v{(end - row) * height:.1f}h-{width + 0.3:.1f}z"
                paths.setdefault(levels[row], []).append(cell)
            row = end
    chart.marks += [f'<path class="heat h{one}" d="{"".join(cells)}"/>' for one, cells in sorted(paths.items())]


def _slice_tip(column: NDArray[np.float64], edges: NDArray[np.float64], at: int, run: Run) -> str:
    length = (run.end_s - run.start_s) / HEAT_COLUMNS
    begin = run.start_s + at * length
    count = int(column.sum())
    if not count:
        return f"{begin:.2f} to {begin + length:.2f} s\nno request"
    above = np.cumsum(column)
    middle = edges[int(np.searchsorted(above, count / 2)) + 1]
    slowest = edges[int(np.flatnonzero(column)[-1]) + 1]
    when = f"{begin:.2f} to {begin + length:.2f} s\n{count:,} requests"
    return f"{when}\nmedian about {number(middle)} ms\nslowest {number(slowest)} ms"


def _named(ticks: Sequence[float]) -> list[tuple[float, str]]:
    return [(tick, number(tick)) for tick in ticks]


def _or_more(value: float | None) -> str:
    return f"{number(value)} ms" if value is not None and math.isfinite(value) else "the time limit or more"
