"""Charts of batches: their sizes, and the time of a run of each size."""

from __future__ import annotations

from ..explain.batches import BatchLaw, SizeCost
from ..explain.batching import Batching
from . import words
from .svg import Chart, figure, linear_ticks, number

MAX_BARS = 64


def sizes(batching: Batching | None) -> str:
    """The number of runs by batch size."""
    if batching is None or not batching.sizes:
        return ""
    shown = batching.sizes[:MAX_BARS]
    largest, most = shown[-1].rows, max(size.runs for size in shown)
    chart = Chart("Batch sizes")
    x, y = chart.x(0.5, largest + 0.5), chart.y(0, 1.08 * most)
    ticks = [(tick, number(tick)) for tick in linear_ticks(1, max(largest, 2), 8) if tick >= 1 and tick == int(tick)]
    if largest == 1:
        ticks = [(1, "1")]
    chart.axes(x, y, ticks, [(t, number(t)) for t in linear_ticks(0, y.high)], ("rows in a run", "runs"))
    width = min((x.stop - x.start) / largest * 0.8, 48)
    for one in shown:
        share = one.runs / batching.runs
        tip = f"{one.rows} row{'s' if one.rows > 1 else ''}\n{one.runs:,} runs ({share:.1%})\n{one.requests:,} requests"
        chart.rectangle(x(one.rows) - width / 2, y(one.runs), width, y(0) - y(one.runs), "bar", tip)
    mean = sum(size.rows * size.runs for size in batching.sizes) / batching.runs
    caption = (
        f"{batching.runs:,} runs of {mean:.2f} rows on average, found by the stage times that their requests share. "
    )
    return figure("Batch sizes", chart.draw(), caption + padding_in_words(batching))


def padding_in_words(batching: Batching | None) -> str:
    """A sentence on the share of padding; empty without padding, or if the server does not report it."""
    if batching is None or batching.padding is None:
        return ""
    return f"Padding was {batching.padding:.1%} of all positions (rows x length) that were computed."


def law(batching: Batching | None) -> str:
    """The time of a run over its rows: means with one standard deviation, and the fitted law."""
    if batching is None or len(batching.sizes) < 2:
        return ""
    shown = batching.sizes[:MAX_BARS]
    largest = shown[-1].rows
    chart = Chart("Time of a run")
    top = max(size.mean_ms * (1 + size.cv) for size in shown if size.runs > 1 or size.mean_ms > 0)
    x, y = chart.x(0, largest + 0.5), chart.y(0, 1.1 * top)
    chart.axes(
        x,
        y,
        [(t, number(t)) for t in linear_ticks(0, largest, 8)],
        [(t, number(t)) for t in linear_ticks(0, y.high)],
        ("rows in a run", "ms"),
    )
    if batching.law is not None:
        fitted = batching.law
        lines = [fitted.smallest, *(at for step in fitted.steps for at in (step.above_rows, step.above_rows + 1e-6))]
        chart.line([(x(at), y(fitted.ms(at))) for at in [*lines, fitted.largest]], "law")
    for one in shown:
        low, high = one.mean_ms * (1 - one.cv), one.mean_ms * (1 + one.cv)
        chart.rule((x(one.rows), y(max(low, 0))), (x(one.rows), y(high)), "whisker")
        chart.dot(x(one.rows), y(one.mean_ms), "dot mean", _size_tip(one))
    legend = [("mean", "mean, and one standard deviation"), ("law", "S(b) = a + c b")]
    return figure("Time of a run", chart.draw(), law_in_words(batching.law), legend)


def _size_tip(one: SizeCost) -> str:
    scatter = f"coefficient of variation {one.cv:.2f}"
    return f"{one.rows} rows\n{number(one.mean_ms)} ms on average\n{scatter}\n{one.runs:,} runs"


def step_laws(batching: Batching | None) -> str:
    """The law of each step of a pipeline, as a table; empty for a plain model."""
    if batching is None or not batching.steps:
        return ""
    rows = []
    for one in batching.steps:
        law = "only one size was measured"
        if one.fixed_ms is not None and one.per_row_ms is not None:
            law = f"{number(one.fixed_ms)} ms + {number(one.per_row_ms)} ms b"
        length = number(one.length) if one.length else "not padded"
        rows.append((one.step, length, law, f"{number(one.capacity_per_s)}/s", f"{one.largest}"))
    note = f"S(b) from the cost table of the server. {padding_in_words(batching)}"
    heads = ("step", "length", "S(b) of b rows", "capacity of one instance", "largest run")
    return words.table(heads, rows) + words.paragraph(note)


def law_in_words(fitted: BatchLaw | None) -> str:
    """The law as a sentence."""
    if fitted is None:
        return "Too few batch sizes ran often enough for a law."
    steps = "".join(f", and {number(step.ms)} ms more above {step.above_rows} rows" for step in fitted.steps)
    return (
        f"S(b) = {number(fitted.fixed_ms)} ± {number(fitted.fixed_error_ms)} ms "
        f"+ {number(fitted.per_row_ms)} ± {number(fitted.per_row_error_ms)} ms per row{steps}. Single runs scatter by "
        f"{fitted.residual_cv:.0%} around it. {fitted.fixed_share:.0%} of a run of one row is the fixed part."
    )
