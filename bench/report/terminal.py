"""The result card: one run on one screen of a terminal."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from ..explain import verdict
from ..explain.explanation import Explanation
from ..explain.stages import RESIDUAL, TERMS, Band
from ..explain.verdict import Verdict
from ..observe.model_work import STAGES, ModelWork
from ..result.objective import Objective
from ..result.record import ObjectiveRecord, RunRecord
from ..result.statistics import Percentile

BAR_WIDTH = 52
"""Columns of a bar; with its percentile and a total of tens of seconds it fits a card of 80 columns."""
# Each term has a sign and a colour, because the bars must be readable without colour.
SIGNS = {
    "send_lag": ("!", "red"),
    "connect": ("c", "magenta"),
    "write": ("w", "bright_black"),
    "receive": ("r", "bright_black"),
    "decode": ("d", "cyan"),
    "queue_busy": ("Q", "yellow"),
    "queue_timer": ("T", "bright_yellow"),
    "assemble": ("a", "bright_blue"),
    "compute": ("#", "green"),
    "scatter": ("s", "blue"),
    "encode": ("e", "bright_cyan"),
    RESIDUAL: (".", "white"),
}
MIN_SHARE_SHOWN = 0.005
CONFIDENCE_STYLES = {"proven": "green", "likely": "yellow", "undecided": "dim", "ruled_out": "dim"}
MAX_BATCH_SIZES = 8
STEP_HEADS = ("step", *STAGES, "runs", "rows per run", "busy", "padding")
PIPE_WIDTH = 132
"""Columns of the card where no terminal sets them."""


def console() -> Console:
    """The console of standard output; in a pipe it is wide enough for the card."""
    return Console(width=None if sys.stdout.isatty() else PIPE_WIDTH)


def show(record: RunRecord, console: Console) -> None:
    """Print the card: the verdict, failures, then latency. A refused percentile shows its reason and no value."""
    parts: list[RenderableType] = [_facts(record)]
    if record.verdict is not None:
        parts += [Text(), verdict_of(record.verdict)]
    if record.errors:
        parts += [Text(), _errors(record)]
    if record.validity.reasons:
        parts += [Text(), _invalid(record)]
    if record.latency.corrected is not None:
        parts += [Text(), _latency(record), Text(), _stages(record), Text(), Text(record.sentence, style="bold")]
        parts += [Text(f"Audit failed: {one}", style="bold red") for one in _broken_audits(record.explanation)]
    end = Table.grid(padding=(0, 2))
    end.add_row("Generator", Text(_health(record)), style="dim")
    end.add_row("Again", Text(record.command), style="dim")
    parts += [Text(), end]
    state, style = ("valid", "green") if record.validity.ok else ("INVALID", "red")
    if record.validity.reasons and not record.validity.fatal:
        state = "INVALID IN PART"
    state += ", PARTIAL (interrupted)" if record.partial else ""
    console.print(
        Panel(
            Group(*parts), title=f"{escape(record.target.url)}  [{style}]{state}[/]", title_align="left", padding=(1, 2)
        )
    )


def _facts(record: RunRecord) -> RenderableType:
    load, rates = record.load, record.throughput
    if load.mode == "open":
        kind = f"open loop, {load.arrivals} arrivals, {load.rate_per_s:g} requests/s"
    else:
        kind = f"closed loop, {load.users} users: each waits for its response, so a slow server gets fewer requests"
    offered = f"offered {rates.offered_per_s:,.1f}/s, " if rates.offered_per_s is not None else ""
    grid = Table.grid(padding=(0, 2))
    grid.add_row("Load", f"{kind}; {load.duration_s:g} s after {load.warmup_s:g} s of warm-up{_repeats(record)}")
    grid.add_row("Payload", escape(f"{load.payload.name}, {load.payload.bytes:,} bytes, {load.payload.content_type}"))
    goodput = f"{rates.goodput_per_s:,.1f}/s answered with success"
    grid.add_row("Rate", f"{offered}sent {rates.sent_per_s:,.1f}/s, {goodput} ({record.window.requests:,} requests)")
    if record.objective is not None:
        grid.add_row("Objective", _objective(record.objective))
    return grid


def _repeats(record: RunRecord) -> str:
    seeds = [one.seed for one in record.window.repeats]
    return f", {len(seeds)} times with seeds {seeds[0]} to {seeds[-1]}" if len(seeds) > 1 else ""


def _objective(found: ObjectiveRecord) -> RenderableType:
    name = Objective(found.quantile, found.limit_ms).name
    text = f"{name}: {found.state}; {found.good_share:.2%} of requests within it, {found.goodput_per_s:,.1f}/s"
    return Text(text, style={"met": "green", "missed": "red"}.get(found.state, "yellow"))


def _latency(record: RunRecord) -> RenderableType:
    table = Table(box=None, padding=(0, 2), title="Latency from the intended instant, ms", title_justify="left")
    for name, justify in (
        ("", "left"),
        ("value", "right"),
        ("95 % interval", "left"),
        ("from the actual send", "right"),
    ):
        table.add_column(name, justify="right" if justify == "right" else "left")
    refused = record.latency.untrusted or {}
    every = {**(record.latency.corrected or {}), **refused}
    for name, one in sorted(every.items(), key=lambda item: item[1].quantile):
        other = (record.latency.uncorrected or {}).get(name)
        if name in refused:
            lag_ms = record.validity.lags_ms.get(name, 0.0)
            why = f"refused: the generator was late for {lag_ms:,.2f} ms of it"
            table.add_row(name, "", why, _value(other) if other else "", style="yellow")
            continue
        style = "dim" if one.value_ms is None else ""
        table.add_row(name, _value(one), _interval(one), _value(other) if other else "", style=style)
    return table


def _value(one: Percentile) -> str:
    if one.value_ms is None:
        return "too few"
    return f"{'>= ' if one.at_least else ''}{one.value_ms:,.3f}"


def _interval(one: Percentile) -> str:
    if one.value_ms is None:
        return f"{one.samples} of {one.min_samples} requests that this percentile needs"
    if one.low_ms is None:
        return ""
    high = f"{one.high_ms:,.3f}" if one.high_ms is not None else "the time limit or more"
    return escape(f"[{one.low_ms:,.3f}, {high}]")


def _stages(record: RunRecord) -> RenderableType:
    bands = [band for name in ("p50", "p99") if (band := record.stages.bands.get(name)) is not None]
    if not bands:
        return Text("Where the time went: too few responses for an account", style="dim")
    grid = Table.grid(padding=(0, 2))
    for band in bands:
        grid.add_row(band.name, bar(band), f"{band.total_ms:,.3f} ms")
    legend = Table(box=None, padding=(0, 2), show_header=False)
    for name in TERMS:
        if any(band.terms_ms[name] >= MIN_SHARE_SHOWN * band.total_ms for band in bands):
            sign, style = SIGNS[name]
            cells = [f"{band.terms_ms[name]:,.3f} ms {band.terms_ms[name] / band.total_ms:4.0%}" for band in bands]
            legend.add_row(Text(sign, style=style), term_title(name, record.stages.server), *cells)
    notes = [Text(fact, style="dim") for fact in _stage_facts(record)]
    notes += [Text(note, style="yellow") for note in _stage_notes(record)]
    title = Text("Where the time went (requests around p50 and p99)")
    steps = steps_table(record.host.works if record.host is not None else ())
    return Group(title, grid, legend, *([steps] if steps is not None else []), *notes)


def steps_table(works: Sequence[ModelWork]) -> RenderableType | None:
    """The stage times of each step of a pipeline; None for a plain model."""
    works = [one for one in works if one.step]
    if not works:
        return None
    title = "By step: mean ms of all requests, by the server's counters"
    grid = Table(box=None, padding=(0, 2), title=title, title_justify="left")
    for at, name in enumerate(STEP_HEADS):
        grid.add_column(name, justify="right" if at else "left")
    for one in works:
        grid.add_row(*step_cells(one), style="dim")
    return grid


def step_cells(one: ModelWork) -> tuple[str, ...]:
    """The cells of one step under ``STEP_HEADS``."""
    times = (f"{one.stages_ms[stage]:,.3f}" if stage in one.stages_ms else "" for stage in STAGES)
    busy = f"{one.utilisation:.0%}" if one.utilisation is not None else ""
    padding = f"{one.waste:.0%}" if one.waste is not None else ""
    return (one.step, *times, f"{one.runs:,.0f}", f"{one.rows / one.runs:.2f}", busy, padding)


def verdict_of(found: Verdict) -> RenderableType:
    """The verdict: the first cause with its evidence, remedy, gain and proof, then the others in a line each."""
    first, *others = found.causes
    style = CONFIDENCE_STYLES[first.confidence]
    head = Text("Verdict  ", style="bold")
    head.append(f"{verdict.TITLES[first.name]} ", style="bold")
    head.append(f"({verdict.CONFIDENCE_WORDS[first.confidence]})", style=style)
    grid = Table.grid(padding=(0, 2))
    for text in first.evidence:
        grid.add_row("because", Text(text))
    grid.add_row("do", Text(first.do))
    if first.name != verdict.NONE:
        grid.add_row("gain", Text(verdict.gain_in_words(first.gain)))
        grid.add_row(first.prove_label, Text(first.prove))
    lines: list[RenderableType] = [head, grid]
    also = Table.grid(padding=(0, 2))
    also.add_column(min_width=len("because"))
    for one in others:
        gain = f", {verdict.gain_in_words(one.gain)}" if one.name != verdict.NONE else ""
        also.add_row("Also", Text(f"{verdict.sentence(one)}{gain}"), style="dim")
    return Group(*lines, *([also] if others else []))


def _broken_audits(found: Explanation | None) -> list[str]:
    """Each broken law with its two figures."""
    return [
        f"{one.name}: {one.left} {one.left_value:.4g}, {one.right} {one.right_value:.4g}; {one.note}"
        for one in (found.audits if found is not None else ())
        if one.ok is False
    ]


def term_title(name: str, with_server: bool) -> str:
    """The title of a term. Without stage times of the server, the residual holds server and network."""
    if name != RESIDUAL:
        return name
    return "network, event loop and unexplained" if with_server else "server and network"


def bar(band: Band, width: int = BAR_WIDTH) -> Text:
    """A stacked bar of ``width`` signs; the length of each term is its share."""
    text = Text()
    for name, count in bar_cells(band, width).items():
        sign, style = SIGNS[name]
        text.append(sign * count, style=style)
    return text


def bar_cells(band: Band, width: int) -> dict[str, int]:
    """Whole cells per term, ``width`` in all, by largest remainder. A negative term (a clock error) gets none."""
    positive = {name: max(band.terms_ms[name], 0.0) for name in TERMS}
    whole = sum(positive.values())
    if whole <= 0:
        return dict.fromkeys(TERMS, 0)
    exact = {name: width * ms / whole for name, ms in positive.items()}
    cells = {name: int(share) for name, share in exact.items()}
    by_remainder = sorted(TERMS, key=lambda name: cells[name] - exact[name])
    for name in by_remainder[: width - sum(cells.values())]:
        cells[name] += 1
    return cells


def _stage_notes(record: RunRecord) -> list[str]:
    found = record.stages
    notes = []
    if not found.server and record.load.carrier != "none":
        notes.append("The server sent no stage times. Is it Slipway? Does a proxy remove the header?")
    if found.unaccounted:
        notes.append(f"{found.unaccounted:,} responses without stage times are not in this account.")
    if found.contradictions:
        notes.append(f"In {found.contradictions:,} requests the stage times exceed the time that passed here.")
    return notes


def _stage_facts(record: RunRecord) -> list[str]:
    facts = []
    batching = record.explanation.batching if record.explanation is not None else None
    send_ms = record.server.get("stage_means_ms", {}).get("send")
    if send_ms is not None:
        facts.append(
            f"The server's send, which no header can hold, took {send_ms:,.3f} ms on average: part of the last term."
        )
    if record.batches:
        frequent = sorted(record.batches, key=lambda size: -record.batches[size])[:MAX_BATCH_SIZES]
        sizes = ", ".join(f"{size}: {record.batches[size]:,}" for size in sorted(frequent, key=int))
        rest = sum(record.batches.values()) - sum(record.batches[size] for size in frequent)
        step = ", in the step that took longest" if batching is not None and batching.steps else ""
        facts.append(f"Requests by batch size{step}: {sizes}{f', others: {rest:,}' if rest else ''}")
    if batching is not None and batching.padding is not None:
        facts.append(f"Padding was {batching.padding:.0%} of all positions (rows x length) that were computed.")
    return facts


def _invalid(record: RunRecord) -> RenderableType:
    what = "its latency is not reliable, and not shown" if record.validity.fatal else "a part of it is refused"
    grid = Table.grid(padding=(0, 1))
    for reason in record.validity.reasons:
        grid.add_row("  -", Text(reason), style="red")
    return Group(Text(f"This run is invalid: {what}.", style="bold red"), grid)


def _errors(record: RunRecord) -> RenderableType:
    grid = Table.grid(padding=(0, 1))
    for one in record.errors:
        words = f"{one.code}: {one.message}" if one.code else one.message
        first = f"; first, request {one.first_index}: {words}" if words else ""
        grid.add_row("  -", Text(f"{one.kind}: {one.count:,} ({one.share:.1%}){first}"))
    return Group(Text("Errors", style="bold red"), grid)


def _health(record: RunRecord) -> str:
    state = record.validity
    lag = (
        f"send lag p50 {state.lag_p50_ms:.3f} ms, p99 {state.lag_p99_ms:.3f} ms, "
        if state.lag_p99_ms is not None
        else ""
    )
    kept = f"schedule kept {state.schedule_kept:.1%}, " if state.schedule_kept is not None else ""
    ceiling = f", ceiling {record.calibration.ceiling_per_s:,.0f}/s" if record.calibration else ""
    return f"{kept}{lag}CPU {state.generator_cpu:.0%} of a core, {state.peak_in_flight} in flight at most{ceiling}"
