"""The report's sections on causes: intervals of the drop, time by operator, noise by layer."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from .charts import Bar, Span, bars, spans
from .tables import table

Row = Mapping[str, Any]

MOST_BARS = 12
BEST_DB = 120.0
"""Signal-to-noise ratio of a layer without visible noise, where its bar begins."""


def intervals(evidence: Row) -> str:
    rows = []
    for row in evidence["candidates"]:
        if row["accuracy"] and row["name"] != "float32":
            drop = row["accuracy"]["drop"]
            rows.append(Span(row["name"], drop["value"], drop["low"], drop["high"], bool(row["chosen"])))
    drawing = spans(rows, "Drop of each candidate with its interval", float(evidence["max_drop"]["limit"]))
    caption = "Paired drop of the metric, right is worse. An interval that ends beyond the dashed line does not pass."
    return f"<figure>{drawing}<figcaption>{caption}</figcaption></figure>"


def operators(evidence: Row) -> str:
    """One bar chart for float32 and one for the winner: the time of each operator."""
    rows = evidence.get("operators", [])
    blocks = []
    for name in dict.fromkeys(row["candidate"] for row in rows):
        own = [row for row in rows if row["candidate"] == name][:MOST_BARS]
        total = sum(row["run_us"] for row in rows if row["candidate"] == name)
        lines = [
            Bar(
                f"{row['operator']} x {row['nodes']}",
                row["run_us"],
                f"{row['run_us']:,.0f} us, {row['run_us'] / max(total, 1e-9):.0%}",
                name != "float32",
            )
            for row in own
        ]
        caption = f"{escape(name)}: {total:,.0f} us in all nodes of a run"
        blocks.append(
            f"<figure>{bars(lines, f'Time by operator of {name}')}<figcaption>{caption}</figcaption></figure>"
        )
    return "".join(blocks) or '<p class="soft">Not recorded.</p>'


def sensitivities(evidence: Row) -> list[str]:
    """A section for each candidate that repair was tried on: the noise of its layers, the worst first."""
    sections = []
    for row in evidence["candidates"]:
        layers = row.get("sensitivities", [])[:MOST_BARS]
        if layers:
            lines = [
                Bar(f"{one['operator']} {one['tensor']}", max(0.0, BEST_DB - one["sqnr_db"]), _layer(one))
                for one in layers
            ]
            caption = "Longer is noisier. Gain: of the outputs when only this layer stays in float32."
            drawing = bars(lines, f"Noise of the layers of {row['name']}")
            sections.append(
                f"<h2>Layers of {escape(row['name'])}</h2><figure>{drawing}<figcaption>{caption}</figcaption></figure>"
            )
    return sections


def _layer(row: Row) -> str:
    gain = "" if row["gain_db"] is None else f", gain {row['gain_db']:+.1f} dB"
    return f"{row['sqnr_db']:.1f} dB{gain}"


def pruned(evidence: Row) -> list[str]:
    """The removed and the kept layers of pruned networks with the reasons; empty without pruning."""
    rows = [row for row in evidence["candidates"] if "prune" in row["applied"] and row["said"]]
    seen: dict[str, str] = {}
    for row in rows:
        # The int8 variants of a pruned network repeat the messages of the network.
        seen.setdefault(
            str(row["applied"]["prune"]),
            f"<details open><summary>{escape(row['name'])}: {escape(str(row['applied']['weights']))} weights not "
            f"zero</summary><pre>{escape(chr(10).join(row['said']))}</pre></details>",
        )
    return [f"<h2>What was pruned</h2>{''.join(seen.values())}"] if seen else []


def warnings(evidence: Row) -> str:
    """The warnings of the run as a list; empty without any."""
    items = "".join(f"<li>{escape(text)}</li>" for text in evidence.get("warnings", []))
    return f'<ul class="reasons">{items}</ul>' if items else ""


def metric(evidence: Row) -> str:
    row = evidence["metric"]
    chosen = ", chosen because it fits the outputs and labels" if row.get("chosen_by") == "default" else ""
    return f"{row['name']}{chosen}: {row.get('about') or 'your own function'}"


def independence(evidence: Row) -> str:
    row = evidence.get("independence")
    if row is None:
        return "not checked"
    return "yes: rows of several requests can share a batch" if row["independent"] else f"no: {row['reason']}"


def source_rows(evidence: Row) -> str:
    """A table of the outputs: how many rows of float32 equal the source, and the worst row of each."""
    source = evidence.get("source") or {}
    if not source.get("outputs"):
        return ""
    rows = [
        (
            escape(row["output"]),
            f"{row['rows']} of {source['of']}",
            str(row["unequal"]),
            str(row["worst_row"]),
            f"{row['source']:.6g}",
            f"{row['float32']:.6g}",
        )
        for row in source["outputs"]
    ]
    heads = ("output", "rows compared", "unequal", "worst row", "source there", "float32 there")
    return table(heads, rows, numbers=(1, 2, 3, 4, 5), stacked=True)


def neighbours(evidence: Row) -> list[str]:
    """A section on the influence of other rows of a batch, and on the noisiest output or part of one."""
    rows = [row for row in evidence["candidates"] if row.get("neighbours") or row.get("worst_segment")]
    if not rows:
        return []
    heads = ("candidate", "changed by neighbours", "score among them", "noisiest part")
    body = table(heads, [_neighbour_row(row) for row in rows], stacked=True)
    note = (
        "Rows were run alone, and in batches of random rows with one whose float values are a thousand times as large. "
        "A candidate whose outputs change is scored among such neighbours."
    )
    section = f'<h2>Influence of other rows and noise by output</h2>{body}<p class="soft">{note}</p>'
    return [section]


def _neighbour_row(row: Row) -> tuple[str, ...]:
    influence, served, part = row.get("neighbours"), row.get("served"), row.get("worst_segment")
    changed = "not measured"
    if influence:
        changed = f"{influence['changed']} of {influence['rows']} rows, by up to {influence['largest']:.2g}"
    score = f"{served['score']['value']:.4g}" if served else "the same"
    noisiest = f"{part['part']}: {part['sqnr_db']:.1f} dB" if part else "no noise"
    return escape(row["name"]), changed, score if influence else "&ndash;", escape(noisiest)
