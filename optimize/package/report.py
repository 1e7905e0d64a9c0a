"""The report: one self-contained HTML page made from the manifest alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path
from typing import Any

from bench.report import svg
from server.artifact import Manifest
from server.tensors import TensorSpec, describe_shape

from . import report_device, report_sections
from .charts import Point, draw
from .tables import table

STYLES = (Path(svg.__file__).with_name("report.css"), Path(__file__).with_name("report.css"))
"""The style sheet of bench, and the additions of this report."""

Row = Mapping[str, Any]


def render(manifest: Manifest) -> str:
    """The page as text: verdict, candidates, chart, timings, checks, and the command and versions to reproduce it."""
    evidence = manifest.evidence
    title = escape(f"{manifest.name} version {manifest.version}")
    sections = (
        _verdict(manifest) + report_sections.warnings(evidence),
        f"<h2>Candidates</h2>{_candidates(evidence)}",
        f"<h2>Accuracy against time</h2>{_plot(evidence)}",
        f"<h2>Loss of accuracy</h2>{report_sections.intervals(evidence)}",
        f"<h2>Time of a run</h2>{_timings(evidence)}",
        f"<h2>Where the time goes</h2>{report_sections.operators(evidence)}",
        *report_device.section(manifest),
        *report_sections.sensitivities(evidence),
        *report_sections.pruned(evidence),
        f"<h2>What was checked</h2>{_checks(evidence)}{report_sections.source_rows(evidence)}",
        *report_sections.neighbours(evidence),
        f"<h2>How this was made</h2>{_provenance(manifest)}",
        f"<h2>What the libraries said</h2>{_said(evidence)}",
    )
    style = "".join(path.read_text(encoding="utf-8") for path in STYLES)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}: optimize report</title><style>{style}</style></head>"
        f"<body>{''.join(sections)}</body></html>\n"
    )


def interval(row: Row, digits: str) -> str:
    """``0.98 (0.97 to 0.99)`` in the number format ``digits``."""
    return f"{row['value']:{digits}} ({row['low']:{digits}} to {row['high']:{digits}})"


def verdict(manifest: Manifest) -> str:
    """The result in one sentence."""
    chosen = _chosen(manifest.evidence)
    if chosen["name"] == "float32":
        if not any(row["accuracy"] for row in manifest.evidence["candidates"] if not row["chosen"]):
            return "The float32 model stays as it is: no other candidate got as far as being judged."
        return "The float32 model stays as it is: nothing that is accurate enough is faster here."
    speed = chosen["speed_up"]["value"]
    return f"{chosen['name']} is {speed:.2f} times as fast as float32 and keeps within the allowed drop."


def _chosen(evidence: Row) -> Row:
    row: Row = next(row for row in evidence["candidates"] if row["chosen"])
    return row


def _verdict(manifest: Manifest) -> str:
    evidence = manifest.evidence
    chosen = _chosen(evidence)
    metric = evidence["metric"]["name"]
    batching = manifest.batching
    figures = [
        (f"{chosen['accuracy']['score']['value']:.4g}", f"{metric} on {chosen['accuracy']['rows']} held-out rows"),
        (f"{chosen['accuracy']['drop']['value']:.3g}", f"drop, of {evidence['max_drop']['asked']} allowed"),
        (f"{chosen['speed_up']['value']:.2f}x", f"{evidence['objective']} against float32"),
    ]
    source = evidence.get("source") or {}
    if source.get("score"):
        baseline = next(row for row in evidence["candidates"] if row["name"] == "float32")
        scores = f"{metric} of the source itself; float32 has {baseline['accuracy']['score']['value']:.4g}"
        figures.append((f"{source['score']['score']['value']:.4g}", scores))
    if batching is not None:
        figures.append((f"{batching.instances} x {batching.threads}", "instances x threads"))
    items = "".join(f"<li><b>{escape(value)}</b>{escape(label)}</li>" for value, label in figures)
    return (
        f'<p class="eyebrow">Slipway optimize: {escape(manifest.name)} version {escape(manifest.version)}</p>'
        f'<h1>{escape(verdict(manifest))}</h1><ul class="tiles">{items}</ul>'
    )


def _candidates(evidence: Row) -> str:
    metric = evidence["metric"]["name"]
    rows = []
    for row in evidence["candidates"]:
        accuracy, speed, at = row["accuracy"], row["speed_up"], row["at"]
        rows.append(
            (
                f'{escape(row["name"])}<span class="interval">{escape(row["about"])}</span>',
                _with_interval(accuracy and accuracy["score"], ".4f"),
                _with_interval(accuracy and accuracy["drop"], "+.4f") + _differing(accuracy),
                _with_interval(speed, ".2f", "x"),
                _best(at) if at else "not timed",
                escape(row["reason"]),
            )
        )
    chosen = [bool(row["chosen"]) for row in evidence["candidates"]]
    rows_judged = evidence["data"]["evaluation_rows"]
    heads = ("candidate", metric, "drop", "speed-up", "at its best", "verdict")
    note = (
        "Intervals hold 95 % of seeded bootstrap resamples. Drops are paired by row, speed-ups by round, each "
        "candidate at its own best cell. A candidate passes when the upper end of its drop is within the allowance. "
        f"Where no row of {rows_judged} differs, up to one in {max(1, rows_judged // 3)} still may (rule of three)."
    )
    return table(heads, rows, chosen, numbers=(1, 2, 3, 4), stacked=True) + f'<p class="soft">{note}</p>'


def _plot(evidence: Row) -> str:
    points = []
    for row in evidence["candidates"]:
        at = row["at"]
        timing = next((t for t in row["timings"] if at and _cell(t) == _cell(at)), None)
        if timing is not None:
            drop = row["accuracy"]["drop"]
            row_us = timing["p50_us"] / timing["batch_size"]
            points.append(Point(row["name"], row_us, drop["value"], drop["low"], drop["high"], bool(row["chosen"])))
    drawing = draw(points, evidence["metric"]["name"], float(evidence["max_drop"]["limit"]))
    caption = "Only candidates that are accurate enough are timed. Bars: 95 % interval of the paired drop."
    names = "".join(f"<li{' class=chosen' if point.chosen else ''}>{escape(point.name)}</li>" for point in points)
    return f'<figure>{drawing}<ol class="names">{names}</ol><figcaption>{caption}</figcaption></figure>'


def _timings(evidence: Row) -> str:
    timed = [row for row in evidence["candidates"] if row["timings"]]
    cells = [_cell(timing) for timing in timed[0]["timings"]] if timed else []
    rows = []
    for cell in sorted(cells, key=lambda cell: (cell[1], cell[0])):
        found = [next((timing for timing in row["timings"] if _cell(timing) == cell), None) for row in timed]
        figures = (
            f'{t["p50_us"]:,.1f}<span class="interval">p95 {t["p95_us"]:,.1f}</span>' if t else "&ndash;" for t in found
        )
        rows.append((str(cell[0]), str(cell[1]), *figures))
    heads = ("batch size", "threads", *(str(row["name"]) for row in timed))
    note = "Median microseconds of a run, as measured, in the server's backend. " + _rounds(evidence)
    return table(heads, rows, numbers=tuple(range(len(heads)))) + f'<p class="soft">{note}</p>' + _layouts(evidence)


def _rounds(evidence: Row) -> str:
    """How the ratios were measured, and how much the machine's pace varied."""
    asked = evidence["measurement"]
    more, uneven = asked.get("most_rounds", 0), asked.get("unevenness")
    text = f"{asked['rounds']} interleaved rounds were asked for"
    text += f", and close candidates had up to {more}" if more > asked["rounds"] else ""
    text += ". Ratios are taken at the machine's usual pace, followed from block to block by the float32 model"
    return text + (f": it varied by a factor of {uneven:.2f} meanwhile." if uneven else ".")


def _layouts(evidence: Row) -> str:
    if not evidence["layouts"]:
        return ""
    rows = [(str(row["instances"]), str(row["threads"]), f"{row['rows_per_s']:,.0f}") for row in evidence["layouts"]]
    return table(("instances", "threads each", "rows/s together"), rows, numbers=(0, 1, 2))


def _checks(evidence: Row) -> str:
    proofs = ", ".join(f"{row['max_abs_difference']:.2g} at {row['batch_size']}" for row in evidence["proof"])
    return _definitions(
        (
            ("source = float32", f"largest difference by batch size: {proofs}"),
            ("metric", report_sections.metric(evidence)),
            ("independent rows", report_sections.independence(evidence)),
            ("data", evidence["data"]["split"]),
            ("loading", _loading(evidence.get("loading"))),
            ("samples", f"differ from the reference by up to {evidence['samples']['max_abs_difference']:.3g}"),
        )
    )


def _loading(row: Row | None) -> str:
    if row is None:
        return "not measured"
    mapped = "" if row["mapped_ms"] is None else f", mapped {row['mapped_ms']:.1f} ms"
    return f"{row['bytes'] / 1e6:,.1f} MB; plain {row['plain_ms']:.1f} ms{mapped}: {row['reason']}"


def _provenance(manifest: Manifest) -> str:
    made = manifest.provenance
    machine = made["hardware"]
    digests = {**made["source"]["sha256"], "evaluation": made["evaluation"]["sha256"]}
    inputs, outputs = (_specs(specs) for specs in (manifest.spec.inputs, manifest.spec.outputs))
    return f"<pre>{escape(made['command'])}</pre>" + _definitions(
        (
            ("inputs", inputs),
            ("outputs", outputs),
            ("processor", f"{machine['cpu']}, {machine['cores']} core(s) available"),
            ("instructions", ", ".join(machine["flags"]) or "none of note"),
            ("versions", ", ".join(f"{name} {version}" for name, version in made["versions"].items())),
            ("seed", str(made["seed"])),
            ("made", made["created"]),
            *((f"SHA-256 of {name}", value) for name, value in digests.items()),
        )
    )


def _said(evidence: Row) -> str:
    speakers = [("exporter", evidence["exporter_said"])]
    speakers += [(row["name"], row["said"]) for row in evidence["candidates"] if "prune" not in row["applied"]]
    blocks = [
        f"<details><summary>{escape(name)}: {len(lines)} line(s)</summary>"
        f"<pre>{escape(chr(10).join(lines))}</pre></details>"
        for name, lines in speakers
        if lines
    ]
    return "".join(blocks) or '<p class="soft">Nothing.</p>'


def _cell(row: Row) -> tuple[int, int]:
    return row["batch_size"], row["threads"]


def _differing(accuracy: Row | None) -> str:
    return f'<span class="interval">rows that differ: {accuracy["differing"]}</span>' if accuracy else ""


def _best(at: Row) -> str:
    return f'batch {at["batch_size"]}<span class="interval">{at["threads"]} thread{"s" * (at["threads"] > 1)}</span>'


def _specs(specs: Iterable[TensorSpec]) -> str:
    return ", ".join(f"{spec.name} {spec.dtype.name} {describe_shape(spec.shape)}" for spec in specs)


def _with_interval(row: Row | None, digits: str, unit: str = "") -> str:
    if row is None:
        return "&ndash;"
    between = f"{row['low']:{digits}} to {row['high']:{digits}}"
    return f'{row["value"]:{digits}}{unit}<span class="interval">{between}</span>'


def _definitions(rows: Iterable[tuple[str, str]]) -> str:
    items = "".join(f"<dt>{escape(term)}</dt><dd>{escape(text)}</dd>" for term, text in rows)
    return f"<dl>{items}</dl>"
