"""Tables of the result, one for each model, for a terminal and as Markdown, with versions and configurations."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from .figures import Comparison, PeerInfo, Ratio, Summary, start_s
from .rounds import CALLERS, MANY, ONE, OPEN

MIN_PAIRS = 3
"""Rounds that an interval needs: fewer give one that is too wide to print."""
NONE = "-"


def table(found: Comparison) -> RenderableType:
    """The whole result for a terminal."""
    parts: list[RenderableType] = []
    for model, about in found.models.items():
        grid = Table(title=f"{model}: {about}", title_justify="left", box=None, padding=(0, 2))
        head, *rows = _rows(found, model)
        for at, name in enumerate(head):
            grid.add_column(name, justify="left" if at == 0 else "right")
        for row in rows:
            grid.add_row(*row)
        parts += [grid, *(Text(note) for note in _notes(found, model)), Text("")]
    parts += [Text(f"{one.title} {one.version}: {_settings(one)}") for one in found.peers]
    return Group(*parts, Text(_conditions(found)))


def markdown(found: Comparison) -> str:
    """The whole result as a Markdown page."""
    lines: list[str] = []
    for model, about in found.models.items():
        head, *rows = _rows(found, model)
        lines += [f"**{model}**: {about}", "", _line(head), _line(["---", *["---:"] * (len(head) - 1)])]
        lines += [*(_line(row) for row in rows), "", *(f"- {note}" for note in _notes(found, model)), ""]
    lines += ["| server | version | configuration | follows |", "| --- | --- | --- | --- |"]
    for one in found.peers:
        lines.append(_line([one.title, one.version, _settings(one), " ".join(_page(page) for page in one.advice)]))
    return "\n".join([*lines, "", _conditions(found), "", "```sh", found.command, "```", ""])


def show(found: Comparison, console: Console) -> None:
    console.print(table(found))


def _rows(found: Comparison, model: str) -> list[list[str]]:
    rate = next((one.rate_per_s for one in found.loads.get(model, ()) if one.name == OPEN), None)
    offered = f"{rate:,.0f}/s open loop" if rate is not None else "open loop"
    first = found.peers[0].title
    rows = [
        [
            "server",
            "1 connection: req/s",
            "p50 ms",
            f"{CALLERS} connections: req/s",
            "p99 ms",
            f"{offered}: p50 ms",
            "p99 ms",
            f"{first} at {CALLERS}",
            f"{first}'s p99 at equal load",
            "start s",
        ]
    ]
    results = [one for one in found.visits if one.model == model]
    for one in found.peers:
        by_load = found.summaries.get(model, {}).get(one.name, {})
        lone, many, equal = (by_load.get(name) for name in (ONE, MANY, OPEN))
        rows.append(
            [
                one.title,
                _rate(lone),
                _ms(lone.p50_ms if lone else None),
                _rate(many),
                _ms(many.p99_ms if many else None),
                _ms(equal.p50_ms if equal else None),
                _ms(equal.p99_ms if equal else None),
                _times(many.rate_ratio if many else None, "x"),
                _times(equal.p99_ratio if equal else None, "x lower"),
                _start(start_s(results, one.name)),
            ]
        )
    return rows


def _notes(found: Comparison, model: str) -> list[str]:
    """Why figures are missing: for each server, each reason once."""
    notes = []
    for one in found.peers:
        by_load = found.summaries.get(model, {}).get(one.name, {})
        if one.missing is not None:
            notes.append(f"{one.title}: was not measured: {one.missing}")
            continue
        reasons: dict[str, list[str]] = {}
        for load, summary in by_load.items():
            if summary.problem is not None:
                reasons.setdefault(summary.problem, []).append(load)
        notes += [f"{one.title}, {', '.join(loads)}: {reason}" for reason, loads in reasons.items()]
    return notes


def _conditions(found: Comparison) -> str:
    cores = ", ".join(str(one) for one in found.server_cores)
    partial = "Interrupted: partial. " if found.partial else ""
    return (
        f"{partial}{found.created}, {found.env.cpu}, {found.env.cores} cores, {found.env.system}, Python "
        f"{found.env.python}, commit {found.env.commit}. Each server alone on core {cores}, load on core "
        f"{found.generator_core} (closed loops by {found.generator}, open loop by bench's engine); medians of "
        f"{found.rounds} rounds of {found.seconds:g} s in turns; ratios with 95 % intervals over rounds."
    )


def _settings(one: PeerInfo) -> str:
    return "; ".join(one.settings)


def _page(page: str) -> str:
    return f"<{page}>" if page.startswith("https:") else f"`{page}`"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(one.replace('|', '/') for one in cells)} |"


def _rate(one: Summary | None) -> str:
    return NONE if one is None or one.rate_per_s is None else f"{one.rate_per_s:,.0f}"


def _ms(value: float | None) -> str:
    return NONE if value is None else f"{value:,.2f}" if value < 100 else f"{value:,.0f}"


def _start(value: float | None) -> str:
    return NONE if value is None else f"{value:.1f}"


def _times(one: Ratio | None, what: str) -> str:
    if one is None:
        return NONE
    interval = f" [{one.low:.3g}, {one.high:.3g}]" if one.pairs >= MIN_PAIRS else ""
    return f"{one.ratio:.3g}{what}{interval}"
