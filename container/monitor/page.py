"""The page of a check: one self-contained HTML file, the verdict first, then every test and the distributions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from bench.report import svg

from .columns import Column
from .drift import Finding
from .quality import QualityFinding

MOST_CHARTS = 24
BARS = 12
STYLE = """
td.number, th.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
.scroll { overflow-x: auto; }
.page-table { border-collapse: collapse; width: 100%; font-size: .88rem; }
.page-table th, .page-table td { text-align: left; padding: .3rem .7rem .3rem 0; border-bottom: 1px solid var(--line);
  vertical-align: top; }
.page-table td.why { min-width: 16rem; color: var(--soft); }
rect.before { fill: var(--soft); opacity: .45; } rect.now { fill: var(--accent); opacity: .55; }
.key.before { color: var(--soft); } .key.now { color: var(--accent); }
"""


@dataclass(frozen=True, slots=True)
class Checked:
    """What the page shows. ``bad``: lines that were skipped, by their fault."""

    title: str
    when: str
    rows: int
    baseline_rows: int
    alpha: float
    findings: Sequence[Finding]
    quality: Sequence[QualityFinding]
    bad: Mapping[str, int]
    labels: str = ""


def render(checked: Checked, before: Mapping[str, Column], now: Mapping[str, Column]) -> str:
    """The page as text."""
    violated = [one for one in checked.findings if one.violated]
    worse = [one for one in checked.quality if one.violated]
    if violated or worse:
        names = sorted({one.feature for one in violated}) + [one.metric for one in worse]
        shown = ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
        verdict = f'<h1><span class="badge bad">violations</span>{len(violated) + len(worse)}: {escape(shown)}</h1>'
    else:
        verdict = '<h1><span class="badge good">no violations</span>the data is like its baseline</h1>'
    tiles = [
        (f"{checked.rows:,}", "rows checked"),
        (f"{checked.baseline_rows:,}", "rows of the baseline"),
        (str(len(now)), "columns"),
        (f"{sum(checked.bad.values()):,}", "lines skipped"),
        (f"{checked.alpha:.1%}", "false alarms allowed"),
    ]
    parts = [
        f'<p class="eyebrow">{escape(checked.title)} &middot; {escape(checked.when)}</p>{verdict}',
        '<ul class="tiles">' + "".join(f"<li><b>{value}</b>{text}</li>" for value, text in tiles) + "</ul>",
        _section("Violations", _findings(violated)) if violated else "",
        _section("Quality against labels", _quality(checked)) if checked.quality or checked.labels else "",
        _section("Distributions", _charts(checked.findings, before, now)),
        _section("All tests", _findings(checked.findings)),
        _section("Skipped lines", _bad(checked.bad)) if checked.bad else "",
        _section("How to read this", f"<p>{_words(checked.alpha)}</p>"),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(checked.title)}: monitor</title><style>{svg.stylesheet()}{STYLE}</style></head>"
        f"<body>{''.join(parts)}</body></html>\n"
    )


def _section(title: str, content: str) -> str:
    return f"<h2>{escape(title)}</h2>{content}"


def _words(alpha: float) -> str:
    return (
        f"All tests of a check together raise an alarm by chance in at most {alpha:.1%} of checks of unchanged data. "
        "A difference is reported when chance does not explain it and it reaches the threshold of the constraints. "
        "Intervals have the same confidence. The tests take rows as independent: many rows of one client, or of one "
        "moment, count as more evidence than they are."
    )


def _findings(findings: Sequence[Finding]) -> str:
    rows = "".join(
        f"<tr><td>{escape(one.feature)}</td><td>{escape(one.check)}</td>"
        f'<td class="{"bad" if one.violated else "good"}">{"violated" if one.violated else "ok"}</td>'
        f'<td class="number">{one.value:.3f}</td><td class="number">{one.low:.3f} to {one.high:.3f}</td>'
        f'<td class="number">{one.threshold:.3g}</td><td class="number">{one.p_value:.2g}</td>'
        f'<td class="why">{escape(one.why)} ({escape(one.test)})</td></tr>'
        for one in findings
    )
    heads = ("column", "check", "", "value", "interval", "limit", "p", "why")
    numbers = ("value", "interval", "limit", "p")
    head = "".join(f"<th{' class=number' if one in numbers else ''}>{one}</th>" for one in heads)
    return f'<div class="scroll"><table class="page-table"><tr>{head}</tr>{rows}</table></div>'


def _quality(checked: Checked) -> str:
    rows = "".join(
        f'<tr><td>{escape(one.metric)}</td><td class="{"bad" if one.violated else "good"}">'
        f'{"worse" if one.violated else "ok"}</td><td class="number">{one.value:.4f}</td>'
        f'<td class="number">{one.baseline:.4f}</td><td class="number">{one.worse:+.4f}</td>'
        f'<td class="number">{one.low:+.4f} to {one.high:+.4f}</td></tr>'
        for one in checked.quality
    )
    head = (
        "<th>figure</th><th></th><th class=number>now</th><th class=number>baseline</th>"
        "<th class=number>worse by</th><th class=number>interval</th>"
    )
    table = f'<table class="page-table"><tr>{head}</tr>{rows}</table>'
    return f'<p>{escape(checked.labels)}</p><div class="scroll">{table}</div>'


def _bad(bad: Mapping[str, int]) -> str:
    rows = "".join(
        f'<tr><td>{escape(fault)}</td><td class="number">{count:,}</td></tr>' for fault, count in bad.items()
    )
    return f'<div class="scroll"><table class="page-table">{rows}</table></div>'


def _charts(findings: Sequence[Finding], before: Mapping[str, Column], now: Mapping[str, Column]) -> str:
    """Both distributions of the columns that moved most."""
    drifts = [one for one in findings if one.check == "baseline_drift_check" and one.test != "Fisher's exact test"]
    drifts.sort(key=lambda one: (not one.violated, -one.low, -one.value))
    figures = []
    for one in drifts[:MOST_CHARTS]:
        a, b = before[one.feature], now[one.feature]
        chart = _texts(one.feature, a, b) if a.kind == "String" else _numbers(one.feature, a, b)
        legend = (("before", "baseline"), ("now", "now"))
        title = f"{one.feature}: {'drifted' if one.violated else 'as before'}"
        figures.append(svg.figure(title, chart.draw(), one.why, legend))
    more = (
        f"<p class=soft>{len(drifts) - MOST_CHARTS} more columns are in the table.</p>"
        if len(drifts) > MOST_CHARTS
        else ""
    )
    return f'<div class="panels">{"".join(figures)}</div>{more}'


def _numbers(name: str, a: Column, b: Column) -> svg.Chart:
    """Histograms of shares over the middle 99 % of both."""
    ends = [_quantiles(column) for column in (a, b)]
    low, high = min(end[0] for end in ends), max(end[1] for end in ends)
    if not high > low:
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, 2 * BARS + 1)
    shares = []
    for column in (a, b):
        values, weights = column.sketch.weighted()
        counts, _ = np.histogram(np.clip(values, low, high), edges, weights=weights)
        shares.append(counts / max(counts.sum(), 1))
    chart = svg.Chart(name)
    top = float(max(share.max() for share in shares)) or 1.0
    x, y = chart.x(low, high), chart.y(0, top)
    ticks = [(tick, svg.number(tick)) for tick in svg.linear_ticks(low, high)]
    chart.axes(x, y, ticks, [(tick, f"{tick:.0%}") for tick in svg.linear_ticks(0, top, 3)], ("value", "share of rows"))
    for kind, share in zip(("before", "now"), shares, strict=True):
        for at, one in enumerate(share):
            start, end = x(float(edges[at])), x(float(edges[at + 1]))
            chart.rectangle(start, y(float(one)), end - start, y(0) - y(float(one)), kind)
    return chart


def _texts(name: str, a: Column, b: Column) -> svg.Chart:
    """Pairs of bars of the most frequent values."""
    joined = a.categories + b.categories
    values = [value for value, _ in joined.most_common(BARS)]
    chart = svg.Chart(name, height=270)
    shares = [[column.categories[value] / max(column.present, 1) for value in values] for column in (a, b)]
    top = max((max(share, default=0.0) for share in shares), default=0.0) or 1.0
    x, y = chart.x(0, max(len(values), 1)), chart.y(0, top)
    ticks = [(at + 0.5, value if len(value) <= 8 else value[:7] + "\u2026") for at, value in enumerate(values)]
    if len(values) > 6:
        ticks = ticks[::2]
    chart.axes(x, y, ticks, [(tick, f"{tick:.0%}") for tick in svg.linear_ticks(0, top, 3)], ("value", "share of rows"))
    for at in range(len(values)):
        for kind, share, offset in (("before", shares[0], 0.1), ("now", shares[1], 0.5)):
            start, end = x(at + offset), x(at + offset + 0.4)
            chart.rectangle(start, y(share[at]), end - start, y(0) - y(share[at]), kind)
    return chart


def _quantiles(column: Column) -> tuple[float, float]:
    values, weights = column.sketch.weighted()
    if not len(values):
        return 0.0, 0.0
    share = np.cumsum(weights) / weights.sum()
    low, high = np.searchsorted(share, (0.005, 0.995))
    return float(values[min(low, len(values) - 1)]), float(values[min(high, len(values) - 1)])
