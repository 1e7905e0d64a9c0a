"""Charts of the account: the time of typical and of slow requests, term by term."""

from __future__ import annotations

from collections.abc import Mapping

from ..explain.explanation import Explanation
from ..explain.stages import TERMS, Band
from ..explain.tail import Attribution, Contribution
from .svg import Chart, Scale, figure, linear_ticks, number
from .terminal import term_title

BANDS = {"p50": "typical (p50)", "p90": "p90", "p99": "slow (p99)"}
MIN_SHARE = 0.005
ROW = 40
MIN_BAR = 0.02


def bars(found: Explanation, with_server: bool) -> str:
    """The account of the requests around p50, p90 and p99, each as one bar of shares."""
    shown = {name: band for name, band in found.bands.items() if name in BANDS}
    if not shown:
        return ""
    chart = Chart("Where the time went", width=1080, height=26 + ROW * len(shown), left=104, right=92, top=4, bottom=22)
    x = chart.x(0, 1)
    for at, (name, band) in enumerate(shown.items()):
        top = chart.top + at * ROW
        chart.text(chart.left - 10, top + 20, BANDS[name], "row", "end")
        _bar(chart, x, band, top, with_server)
        chart.text(chart.width - chart.right + 10, top + 20, f"{number(band.total_ms)} ms", "row strong")
    for share in (0, 0.25, 0.5, 0.75, 1):
        chart.text(x(share), chart.height - 6, f"{share:.0%}", "tick", "middle")
    used = [name for name in TERMS if any(band.terms_ms[name] >= MIN_SHARE * band.total_ms for band in shown.values())]
    legend = [(f"t-{name}", term_title(name, with_server)) for name in used]
    caption = "Each bar is the mean of the requests around that percentile. Its terms add up to the whole."
    return figure("Where the time went", chart.draw(), caption, legend, wide=True)


def _bar(chart: Chart, x: Scale, band: Band, top: float, with_server: bool) -> None:
    positive = {name: max(band.terms_ms[name], 0.0) for name in TERMS}
    whole = sum(positive.values()) or 1.0
    begin = 0.0
    for name, ms in positive.items():
        share = ms / whole
        where = f"around {band.name}, {band.count:,} requests"
        tip = f"{term_title(name, with_server)}\n{number(ms)} ms, {share:.1%}\n{where}"
        if share > 0:
            chart.rectangle(x(begin), top + 3, x(begin + share) - x(begin), ROW - 14, f"t-{name} term", tip)
        if share >= 0.08:
            chart.text((x(begin) + x(begin + share)) / 2, top + 20, f"{share:.0%}", "inside", "middle")
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
    chart = Chart("What the tail adds", height=70 + 28 * (len(rows) + 2), left=176, right=96, top=14, bottom=42)
    ends = _running(tail.median_ms, [one.ms for _, _, one in rows])
    reach = [tail.tail_ms, *ends, *(start + (one.high_ms or 0) for start, (_, _, one) in zip(ends, rows, strict=False))]
    x = chart.x(min(0.0, *ends), 1.04 * max(reach))
    ticks = [(tick, number(tick)) for tick in linear_ticks(x.low, x.high)]
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
    top = chart.top + 28 * row
    chart.text(chart.left - 10, top + 18, title, "row strong", "end")
    chart.rectangle(x(0), top + 5, x(ms) - x(0), 18, "total", f"{title}\n{number(ms)} ms")
    chart.text(chart.width - chart.right + 8, top + 18, f"{number(ms)} ms", "row strong")


def _step(chart: Chart, x: Scale, row: int, kind: str, title: str, begin: float, one: Contribution) -> None:
    top = chart.top + 28 * row
    share = f", {one.share:.0%} of the gap" if one.share is not None else ""
    between = ""
    if one.low_ms is not None and one.high_ms is not None:
        between = f"\n95 %: {number(one.low_ms)} to {number(one.high_ms)} ms"
    left, right = sorted((x(begin), x(begin + one.ms)))
    chart.text(chart.left - 10, top + 18, title, "row", "end")
    chart.rectangle(
        left, top + 5, max(right - left, 1), 18, f"t-{kind} term", f"{title}\n{_signed(one.ms)} ms{share}{between}"
    )
    if one.low_ms is not None and one.high_ms is not None:
        chart.rule((x(begin + one.low_ms), top + 14), (x(begin + one.high_ms), top + 14), "whisker")
    chart.text(chart.width - chart.right + 8, top + 18, f"{_signed(one.ms)} ms", "row")


def _signed(ms: float) -> str:
    return f"{'+' if ms >= 0 else '−'}{number(abs(ms))}"


def variance(shares: Mapping[str, float] | None, with_server: bool) -> str:
    """A sentence on the three terms with the largest shares of the variance."""
    if not shares:
        return ""
    largest = sorted(shares.items(), key=lambda item: -item[1])[:3]
    parts = ", ".join(f"{term_title(name, with_server)} {share:.0%}" for name, share in largest if share >= 0.01)
    return f"Over all requests, the variance of latency comes from: {parts}." if parts else ""
