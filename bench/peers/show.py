"""Tables of the result, one for each model, for a terminal and as Markdown, with versions and configurations."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from .figures import Comparison, PeerInfo, Ratio, Summary, start_s
from .rounds import CALLERS, MANY, ONE, OPEN

MIN_PAIRS = 3
"""The fewest pairs of rounds for which an interval is shown: with fewer it is too wide to be useful."""
NONE = "-"


def table(comparison: Comparison) -> RenderableType:
    """The result as tables for a terminal."""
    parts: list[RenderableType] = []
    for model, description in comparison.models.items():
        grid = Table(title=f"{model}: {description}", title_justify="left", box=None, padding=(0, 2))
        heading, *rows = _rows(comparison, model)
        for index, name in enumerate(heading):
            grid.add_column(name, justify="left" if index == 0 else "right")
        for row in rows:
            grid.add_row(*row)
        parts += [grid, *(Text(note) for note in _notes(comparison, model)), Text("")]
    parts += [Text(f"{peer.title} {peer.version}: {_settings(peer)}") for peer in comparison.peers]
    return Group(*parts, Text(_conditions(comparison)))


def markdown(comparison: Comparison) -> str:
    """The result as Markdown."""
    lines: list[str] = []
    for model, description in comparison.models.items():
        heading, *rows = _rows(comparison, model)
        rule = ["---", *["---:"] * (len(heading) - 1)]
        lines += [f"**{model}**: {description}", "", _markdown_row(heading), _markdown_row(rule)]
        lines += [*(_markdown_row(row) for row in rows), "", *(f"- {note}" for note in _notes(comparison, model)), ""]
    lines += ["| server | version | configuration | follows |", "| --- | --- | --- | --- |"]
    for peer in comparison.peers:
        pages = " ".join(_link(page) for page in peer.advice)
        lines.append(_markdown_row([peer.title, peer.version, _settings(peer), pages]))
    return "\n".join([*lines, "", _conditions(comparison), "", "```sh", comparison.command, "```", ""])


def show(comparison: Comparison, console: Console) -> None:
    console.print(table(comparison))


def _rows(comparison: Comparison, model: str) -> list[list[str]]:
    rate = next((load.rate_per_s for load in comparison.loads.get(model, ()) if load.name == OPEN), None)
    offered = f"{rate:,.0f}/s open loop" if rate is not None else "open loop"
    first = comparison.peers[0].title
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
    results = [result for result in comparison.visits if result.model == model]
    for peer in comparison.peers:
        by_load = comparison.summaries.get(model, {}).get(peer.name, {})
        single, closed_loop, open_loop = (by_load.get(name) for name in (ONE, MANY, OPEN))
        rows.append(
            [
                peer.title,
                _rate(single),
                _ms(single.p50_ms if single else None),
                _rate(closed_loop),
                _ms(closed_loop.p99_ms if closed_loop else None),
                _ms(open_loop.p50_ms if open_loop else None),
                _ms(open_loop.p99_ms if open_loop else None),
                _times(closed_loop.rate_ratio if closed_loop else None, "x"),
                _times(open_loop.p99_ratio if open_loop else None, "x lower"),
                _start(start_s(results, peer.name)),
            ]
        )
    return rows


def _notes(comparison: Comparison, model: str) -> list[str]:
    """The reasons for missing figures: for each server, each reason once, with its loads."""
    notes = []
    for peer in comparison.peers:
        by_load = comparison.summaries.get(model, {}).get(peer.name, {})
        if peer.missing is not None:
            notes.append(f"{peer.title}: was not measured: {peer.missing}")
            continue
        reasons: dict[str, list[str]] = {}
        for load, summary in by_load.items():
            if summary.problem is not None:
                reasons.setdefault(summary.problem, []).append(load)
        notes += [f"{peer.title}, {', '.join(loads)}: {reason}" for reason, loads in reasons.items()]
    return notes


def _conditions(comparison: Comparison) -> str:
    server_cores = ", ".join(str(core) for core in comparison.server_cores)
    env = comparison.env
    partial = "Interrupted: partial. " if comparison.partial else ""
    return (
        f"{partial}{comparison.created}, {env.cpu}, {env.cores} cores, {env.system}, Python "
        f"{env.python}, commit {env.commit}. Each server alone on core {server_cores}, load on core "
        f"{comparison.generator_core} (closed loops by {comparison.generator}, open loop by bench's engine); medians "
        f"of {comparison.rounds} rounds of {comparison.seconds:g} s in turns; ratios with 95 % intervals over rounds."
    )


def _settings(peer: PeerInfo) -> str:
    return "; ".join(peer.settings)


def _link(address: str) -> str:
    return f"<{address}>" if address.startswith("https:") else f"`{address}`"


def _markdown_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def _rate(summary: Summary | None) -> str:
    return NONE if summary is None or summary.rate_per_s is None else f"{summary.rate_per_s:,.0f}"


def _ms(value: float | None) -> str:
    return NONE if value is None else f"{value:,.2f}" if value < 100 else f"{value:,.0f}"


def _start(value: float | None) -> str:
    return NONE if value is None else f"{value:.1f}"


def _times(ratio: Ratio | None, unit: str) -> str:
    if ratio is None:
        return NONE
    interval = f" [{ratio.low:.3g}, {ratio.high:.3g}]" if ratio.pairs >= MIN_PAIRS else ""
    return f"{ratio.ratio:.3g}{unit}{interval}"
