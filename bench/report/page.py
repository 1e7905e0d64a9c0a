"""The page: the sections of a report on one or several runs, the most general first."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from ..errors import Unusable
from ..explain.explanation import Explanation
from ..explain.ratio import Ratio
from ..result.verifications import Verification
from . import accounts, health, latency, runs, words
from .events import find
from .latency import Lines
from .source import Run, by_load, explained, judged, read
from .svg import stylesheet

SCRIPT = Path(__file__).with_name("report.js")


def write(records: Sequence[Path], output: Path, objective_ms: float | None = None) -> None:
    """Write the page of one or several record files. Raises Unusable if a file cannot be read or written."""
    text = render([read(path) for path in records], objective_ms)
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise Unusable(f"cannot write the report to {str(output)!r}: {error.strerror or error}") from error


def render(found: Sequence[Run], objective_ms: float | None = None) -> str:
    """The page of at least one run. It shows the first valid run in detail, else the first run.

    ``objective_ms``: draw a line at this latency; None for the objective of the detailed run, if it has one.
    """
    run = next((one for one in found if one.valid), found[0])
    explanation = explained(run)
    title = escape(f"{run.record.target.url}: bench report")
    body = "".join(
        (
            _head(run, explanation),
            words.failures(run),
            words.events(find(run)) if run.valid else "",
            _runs_table(found),
            *(_valid(found, run, explanation, objective_ms) if run.valid else ()),
            _section("Forecasts that were tried", _forecasts(run.log)),
            _folded("Load generator", words.health(run) + _grid(_generator_charts(run), "panels small")),
            _folded("Server and machine", _notes(run) + _grid(health.server_charts(run), "panels small")),
            _folded("Audits", words.audits(explanation.audits) if run.valid else ""),
            _folded("Environment", words.environment(run)),
            _section("Run it again", words.command(run)),
        )
    )
    script = SCRIPT.read_text(encoding="utf-8")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{stylesheet()}</style></head>"
        f'<body>{body}<div id="tip" role="status" hidden></div><script>{script}</script></body></html>\n'
    )


def _valid(found: Sequence[Run], run: Run, explanation: Explanation, objective_ms: float | None) -> tuple[str, ...]:
    """The sections that need a valid run: latency, and everything computed from it."""
    batching, with_server = explanation.batching, run.record.stages.server
    rows_per_request = 1.0
    if batching is not None and explanation.bands:
        rows_per_request = max(batching.rows_per_s / max(run.record.throughput.goodput_per_s, 1e-9), 1e-9)
    capacity = batching.capacity_per_s if batching is not None else None
    if objective_ms is None and (own := run.record.objective) is not None:
        objective_ms = own.limit_ms
    lines = Lines(capacity / rows_per_request if capacity is not None else None, objective_ms)
    return (
        _section("Where the time went", _grid([accounts.bars(explanation, with_server)]) + words.steps(run)),
        _folded("What was measured, by resource", words.evidence(explanation)),
        _section(
            "The tail",
            _grid([accounts.waterfall(explanation.tail, with_server), latency.percentiles(run)])
            + words.paragraph(accounts.variance(explanation.variance, with_server)),
        ),
        _section(
            "Load and time",
            _grid([latency.heat_map(run, find(run)), latency.against_load(found, lines), health.in_flight_chart(run)]),
        ),
        _section("Batches", _grid([runs.sizes(batching), runs.law(batching)]) + runs.step_laws(batching)),
    )


def _head(run: Run, explanation: Explanation) -> str:
    found = run.record
    ok = found.validity.ok
    state = "valid" if ok else "invalid in part" if run.valid else "invalid: its latency is not reliable, and not shown"
    partial = '<span class="badge bad">partial</span>' if found.partial else ""
    reasons = "".join(f"<li>{escape(reason)}</li>" for reason in found.validity.reasons)
    return (
        '<header><button type="button" id="theme" title="light or dark">◐</button>'
        f'<p class="eyebrow">Slipway bench: {escape(found.target.url)}</p>'
        f'{words.verdict(judged(run))}<p><span class="badge {"good" if ok else "bad"}">{state}</span>{partial}'
        f"<span class=soft>{escape(words.load(run))}</span></p>"
        + (f'<ul class="reasons">{reasons}</ul>' if reasons else "")
        + (words.tiles(run, explanation) + words.paragraph(found.sentence) if run.valid else "")
        + "</header>"
    )


def _runs_table(found: Sequence[Run]) -> str:
    if len(found) < 2:
        return ""
    ordered = by_load(found) + [run for run in found if not run.valid]
    return _section("Runs", words.runs_table(ordered))


def _generator_charts(run: Run) -> list[str]:
    # A valid run shows its requests in flight in the section on load.
    return [health.lag_chart(run), *([] if run.valid else [health.in_flight_chart(run)])]


def _notes(run: Run) -> str:
    notes = run.record.host.notes if run.record.host is not None else ("The server was not observed beside the load.",)
    return "".join(words.paragraph(note) for note in notes)


def _forecasts(log: Sequence[Verification]) -> str:
    """A table of the verifications of a record, the newest first, as times of the value before; empty without any."""

    def times(ratio: Ratio) -> str:
        return f"x{ratio.value:.2f} [{ratio.low:.2f}, {ratio.high:.2f}]"

    rows = []
    for one in reversed(log):
        for name, told in one.forecast.items():
            seen = one.observed.get(name)
            if seen is not None:
                held = "held" if told.low <= seen.value <= told.high else "missed"
                rows.append((one.change, name, times(told), times(seen), held))
    return words.table(("change", "percentile", "forecast", "observed", ""), rows) if rows else ""


def _section(title: str, content: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{content}</section>" if content else ""


def _folded(title: str, content: str) -> str:
    """A section that a click opens."""
    return f"<details><summary>{escape(title)}</summary>{content}</details>" if content else ""


def _grid(figures: Sequence[str], kind: str = "panels") -> str:
    """A grid of figures. ``kind``: the class; with ``panels small`` two figures share a line on paper too."""
    shown = "".join(figures)
    return f'<div class="{kind}">{shown}</div>' if shown else ""
