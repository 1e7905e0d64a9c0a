"""Charts of health: the load generator, the server and its machine, over the time of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..observe.timeline import ServerTimeline
from .source import Run
from .svg import Chart, figure, linear_ticks, number

SLICES = 80
HEIGHT = 200
TALL = 270


@dataclass(frozen=True, slots=True)
class Panel:
    """One chart of the server timeline. ``series``: names in ``timeline.SERIES`` with their labels. ``factor`` converts
    their values to ``unit``."""

    title: str
    unit: str
    series: tuple[tuple[str, str], ...]
    factor: float = 1.0


PANELS = (
    Panel("CPU", "cores", (("server_cpu_cores", "server"), ("run_delay", "ready but waiting for a core"))),
    Panel(
        "Machine",
        "%",
        (
            ("machine_busy", "busy"),
            ("pressure", "some program waited for a core"),
            ("steal", "stolen by other machines"),
        ),
        100,
    ),
    Panel(
        "Held back", "%", (("throttled", "CPU quota"), ("loop_delay", "event loop ready but waiting for a core")), 100
    ),
    Panel("Memory", "MB", (("rss_bytes", "server"), ("memory_bytes", "its control group")), 1e-6),
    Panel("Network of this machine", "MB/s", (("net_in", "in"), ("net_out", "out")), 1e-6),
    Panel("Queue", "rows", (("queue_rows", "waiting"),)),
    Panel(
        "Responses without a model",
        "ms",
        (("ping_ms", "/ping"), ("scrape_ms", "/metrics"), ("loop_lag_ms", "event loop late for its timer")),
    ),
    Panel("Garbage collection", "% of the time", (("gc_share", "collector running"),), 100),
    Panel("Context switches", "per second", (("involuntary", "core lost"), ("voluntary", "core given up"))),
)


def server_charts(run: Run) -> list[str]:
    """The panels that have figures."""
    timeline = run.record.host
    return [chart for panel in PANELS if timeline is not None and (chart := _panel(panel, timeline, run))]


def _panel(panel: Panel, timeline: ServerTimeline, run: Run) -> str:
    known = [(name, words) for name, words in panel.series if timeline.values(name, [(run.start_s, run.end_s)])]
    if not known:
        return ""
    values = {
        words: [
            (t, value * panel.factor)
            for t, value in zip(timeline.t_s, timeline.series[name], strict=True)
            if value is not None and run.start_s <= t <= run.end_s
        ]
        for name, words in known
    }
    return _lines(panel.title, panel.unit, values, run)


def lag_chart(run: Run) -> str:
    """Send lag of the generator by slice of time, in ms."""
    lag_ms = (run.window["picked_ns"] - run.window["due_ns"]) / 1e6
    slices = _sliced(run, lag_ms)
    values = {
        "median": [(t, float(np.median(part))) for t, part in slices],
        "p99": [(t, float(np.quantile(part, 0.99))) for t, part in slices],
    }
    return _lines("Send lag of the generator", "ms", values, run) if slices else ""


def in_flight_chart(run: Run) -> str:
    """Requests between their intended instant and their end, over time."""
    if not len(run.rows["due_ns"]):
        return ""
    at_s = np.linspace(run.start_s, run.end_s, SLICES + 1)
    begun = np.searchsorted(np.sort(run.rows["due_ns"]), at_s * 1e9, side="right")
    ended = np.searchsorted(np.sort(run.rows["last_byte_ns"]), at_s * 1e9, side="right")
    points = list(zip(at_s.tolist(), (begun - ended).astype(float).tolist(), strict=True))
    return _lines("Requests in flight", "requests", {"in flight": points}, run, TALL)


def _sliced(run: Run, values: NDArray[np.float64]) -> list[tuple[float, NDArray[np.float64]]]:
    """The values of the window's requests by slice of their intended instant, without empty slices."""
    length = (run.end_s - run.start_s) / SLICES
    due_s = run.window["due_ns"] / 1e9
    edges = np.searchsorted(due_s, run.start_s + np.arange(SLICES + 1) * length)
    return [
        (run.start_s + (at + 0.5) * length, values[edges[at] : edges[at + 1]])
        for at in range(SLICES)
        if edges[at + 1] > edges[at]
    ]


def _lines(title: str, unit: str, values: dict[str, list[tuple[float, float]]], run: Run, height: int = HEIGHT) -> str:
    chart = Chart(title, height=height)
    highest = max((value for points in values.values() for _, value in points), default=0.0)
    x, y = chart.x(run.start_s, run.end_s), chart.y(0, 1.12 * highest if highest > 0 else 1)
    chart.axes(
        x,
        y,
        [(t, number(t)) for t in linear_ticks(x.low, x.high, 6)],
        [(t, number(t)) for t in linear_ticks(0, y.high, 4)],
        ("s after the start", unit),
    )
    for at, points in enumerate(values.values()):
        chart.line([(x(t), y(value)) for t, value in points], f"s-{at}")
    _columns(chart, values, unit, run)
    legend = [(f"s-{at}", words) for at, words in enumerate(values)]
    return figure(title, chart.draw(), legend=legend)


def _columns(chart: Chart, values: dict[str, list[tuple[float, float]]], unit: str, run: Run) -> None:
    """Values on hover, at the instants of the series with the most values."""
    x = chart.x(run.start_s, run.end_s)
    instants = [t for t, _ in max(values.values(), key=len)][:400]
    tips = []
    for t in instants:
        lines = [f"{words}: {number(_latest(points, t))} {unit}" for words, points in values.items() if points]
        tips.append("\n".join([f"{t:.1f} s", *lines]))
    chart.columns([x(t) for t in instants], tips)


def _latest(points: Sequence[tuple[float, float]], t: float) -> float:
    """The last value up to t, or the first of all."""
    return next((value for at, value in reversed(points) if at <= t + 1e-9), points[0][1])
