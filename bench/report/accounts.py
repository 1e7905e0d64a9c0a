"""Charts of the account: the time of typical and of slow requests, term by term."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping

from ..explain.explanation import Explanation
from ..explain.stages import TERMS, Band
from ..explain.tail import Attribution, Contribution
from .svg import SLIM, Chart, Scale, figure, in_two_widths, linear_ticks, number
from .terminal import term_title

BANDS = {"p50": "typical (p50)", "p90": "p90", "p99": "slow (p99)"}
MIN_SHARE = 0.005
ROW, LABELS = 48, 16
"""Height of a bar with the line of text above it, and of that line."""
STEP = 34
LONGEST_LINE = 20
MIN_BAR = 0.02


def bars(found: Explanation, with_server: bool) -> str:
    """The account of the requests around p50, p90 and p99, each as one bar of shares."""
    shown = {name: band for name, band in found.bands.items() if name in BANDS}
    if not shown:
        return ""

    def draw(width: int) -> Chart:
        edge = 20 if width > SLIM else 2
        chart = Chart("Where the time went", width, 30 + ROW * len(shown), left=edge, right=edge, top=4, bottom=24)
        x = chart.x(0, 1)
        for at, band in enumerate(shown.values()):
            _bar(chart, x, band, chart.top + at * ROW, with_server)
        for share, anchor in ((0.0, "start"), (0.25, "middle"), (0.5, "middle"), (0.75, "middle"), (1.0, "end")):
            chart.text(x(share), chart.height - 6, f"{share:.0%}", "tick", anchor)
        return chart

    used = [name for name in TERMS if any(band.terms_ms[name] >= MIN_SHARE * band.total_ms for band in shown.values())]
    legend = [(f"t-{name}", term_title(name, with_server)) for name in used]
    caption = "Each bar is the mean of the requests around that percentile. Its terms add up to the whole."
    return figure("Where the time went", in_two_widths(draw), caption, legend, wide=True)


def _bar(chart: Chart, x: Scale, band: Band, top: float, with_server: bool) -> None:
    positive = {name: max(band.terms_ms[name], 0.0) for name in TERMS}
    whole = sum(positive.values()) or 1.0
    begin = 0.0
    chart.text(chart.left, top + LABELS - 3, BANDS[band.name], "row")
    chart.text(chart.width - chart.right, top + LABELS - 3, f"{number(band.total_ms)} ms", "row strong", "end")
    for name, ms in positive.items():
        share = ms / whole
        where = f"around {band.name}, {band.count:,} requests"
        tip = f"{term_title(name, with_server)}\n{number(ms)} ms, {share:.1%}\n{where}"
        if share > 0:
            chart.rectangle(
                x(begin), top + LABELS + 3, x(begin + share) - x(begin), ROW - LABELS - 7, f"t-{name} term", tip
            )
        if share >= 0.08:
            chart.text((x(begin) + x(begin + share)) / 2, top + LABELS + 20, f"{share:.0%}", "inside", "middle")
        begin += share


def waterfall(tail: Attribution | None, with_server: bool) -> str:
    """The time that each term adds between a typical and a slow request, the largest first."""
    if tail is None or tail.gap_ms <= 0:
        return ""
    ordered = sorted(tail.terms.items(), key=lambda item: -item[1].ms)
    shown = [(name, one) for name, one in ordered if abs(one.ms) >= MIN_BAR * tail.gap_ms]
    rest_ms = tail.gap_ms - sum(one.ms for _, one in shown)
    rows = [(name, term_title(name, with_server), one) for name, one in shown]
    if abs(rest_ms) >= 1e-9:
        rows.append(("rest", "all others", Contribution(rest_ms, None, None, rest_ms / tail.gap_ms, None, None)))
    chart = Chart("What the tail adds", height=56 + STEP * (len(rows) + 2), left=196, right=92, top=14, bottom=42)
    ends = _running(tail.median_ms, [one.ms for _, _, one in rows])
    reach = [tail.tail_ms, *ends, *(start + (one.high_ms or 0) for start, (_, _, one) in zip(ends, rows, strict=False))]
    x = chart.x(min(0.0, *ends), 1.04 * max(reach))
    ticks = [(tick, number(tick)) for tick in linear_ticks(x.low, x.high, 4)]
    floor = chart.height - chart.bottom
    for tick, text in ticks:
        chart.rule((x(tick), chart.top), (x(tick), floor), "grid")
        chart.text(x(tick), floor + 17, text, "tick", "middle")
    chart.text(chart.width - chart.right, chart.height - 6, "ms", "label", "end")
    _total(chart, x, 0, "typical (p50)", tail.median_ms)
    for at, (kind, title, one) in enumerate(rows):
        _step(chart, x, at + 1, kind, title, ends[at], one)
    _total(chart, x, len(rows) + 1, "slow (p99)", tail.tail_ms)
    caption = f"Whiskers: 95 % intervals, {tail.method}." if tail.method else "Too few requests for intervals."
    return figure("What the tail adds", chart.draw(), caption)


def _running(start: float, steps: list[float]) -> list[float]:
    """The start of each step."""
    begins = [start]
    for step in steps:
        begins.append(begins[-1] + step)
    return begins[:-1]


def _total(chart: Chart, x: Scale, row: int, title: str, ms: float) -> None:
    top = chart.top + STEP * row
    chart.text(chart.left - 10, top + 22, title, "row strong", "end")
    chart.rectangle(x(0), top + 7, x(ms) - x(0), 20, "total", f"{title}\n{number(ms)} ms")
    chart.text(chart.width - chart.right + 8, top + 22, f"{number(ms)} ms", "row strong")


def _step(chart: Chart, x: Scale, row: int, kind: str, title: str, begin: float, one: Contribution) -> None:
    top = chart.top + STEP * row
    share = f", {one.share:.0%} of the gap" if one.share is not None else ""
    between = ""
    if one.low_ms is not None and one.high_ms is not None:
        between = f"\n95 %: {number(one.low_ms)} to {number(one.high_ms)} ms"
    left, right = sorted((x(begin), x(begin + one.ms)))
    _title(chart, top, title)
    chart.rectangle(
        left, top + 7, max(right - left, 1), 20, f"t-{kind} term", f"{title}\n{_signed(one.ms)} ms{share}{between}"
    )
    if one.low_ms is not None and one.high_ms is not None:
        chart.rule((x(begin + one.low_ms), top + 17), (x(begin + one.high_ms), top + 17), "whisker")
    chart.text(chart.width - chart.right + 8, top + 22, f"{_signed(one.ms)} ms", "row")


def _title(chart: Chart, top: float, title: str) -> None:
    """The title of a step beside its bar; a long one takes two lines."""
    lines = textwrap.wrap(title, LONGEST_LINE)
    for at, line in enumerate(lines):
        chart.text(chart.left - 10, top + 22 + 16 * (at - (len(lines) - 1) / 2), line, "row", "end")


def _signed(ms: float) -> str:
    return f"{'+' if ms >= 0 else '−'}{number(abs(ms))}"


def variance(shares: Mapping[str, float] | None, with_server: bool) -> str:
    """A sentence on the three terms with the largest shares of the variance."""
    if not shares:
        return ""
    largest = sorted(shares.items(), key=lambda item: -item[1])[:3]
    parts = ", ".join(f"{term_title(name, with_server)} {share:.0%}" for name, share in largest if share >= 0.01)
    return f"Over all requests, the variance of latency comes from: {parts}." if parts else ""
