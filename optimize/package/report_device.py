"""The report's section on the GPU: forecasts of the noise, layers of engines, and what was measured on the winner."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from server.artifact import Manifest
from server.target import CPU

from .report_sections import Row
from .tables import table


def section(manifest: Manifest) -> list[str]:
    """The section as HTML; nothing for an artifact of the CPU."""
    if manifest.device.kind == CPU:
        return []
    evidence = manifest.evidence
    return [f"<h2>On the GPU</h2>{_device(manifest)}{_formats(evidence)}{_options(evidence)}{_memory(manifest)}"]


def _device(manifest: Manifest) -> str:
    device = manifest.device
    rebuilds = manifest.provenance.get("rebuilds", [])
    gpu = (rebuilds[-1] if rebuilds else manifest.provenance.get("hardware", {})).get("gpu") or {}
    bound = f"bound to SM {device.sm / 10:.1f}" if device.sm else f"SM {device.least_sm / 10:.1f} or later"
    versions = "".join(f", {name} {version}" for name, version in device.versions.items())
    text = f"{gpu.get('name', 'unknown GPU')}, driver {gpu.get('driver', 'unknown')}; {bound}{versions}"
    return f"<p>{escape(text)}, driver {device.least_driver} or later.</p>{_rebuilds(rebuilds)}"


def _rebuilds(rebuilds: Sequence[Row]) -> str:
    """What was rebuilt after the search, whose figures above were not measured again."""
    if not rebuilds:
        return ""
    items = "".join(
        f"<li>{escape(one['rebuilt'])}: {'with other weights' if one['weights_replaced'] else 'the same weights'}, on "
        f"{escape(one['gpu']['name'] if one['gpu'] else 'an unknown GPU')}</li>"
        for one in rebuilds
    )
    return f"<p>Built again after the search, which measured the candidates above:</p><ul>{items}</ul>"


def _formats(evidence: Row) -> str:
    """Candidates with a forecast by their twin, or with an engine's layers."""
    rows = [
        (
            escape(str(row["name"])),
            _decibel(row["sqnr_db"]),
            _decibel(row.get("forecast_db")),
            escape(str(row["applied"].get("types", ""))),
            escape(str(row["applied"].get("layers", ""))),
            escape(str(row["applied"].get("reformat_layers", ""))),
        )
        for row in evidence["candidates"]
        if row.get("forecast_db") is not None or "layers" in row["applied"]
    ]
    if not rows:
        return ""
    heads = ("candidate", "signal to noise", "forecast by the twin", "types in the graph", "layers", "only reformat")
    return table(heads, rows, numbers=(1, 2, 4, 5), stacked=True)


def _decibel(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} dB"


def _options(evidence: Row) -> str:
    rows = evidence.get("device_options", [])
    cells = [
        (
            escape(", ".join(f"{name} {value}" for name, value in row["options"].items())),
            f"{row['speed_up']['value']:.2f}x ({row['speed_up']['low']:.2f} to {row['speed_up']['high']:.2f})",
        )
        for row in rows
    ]
    if not cells:
        return ""
    return table(("options", "speed"), cells, chosen=[bool(row["chosen"]) for row in rows], numbers=(1,))


def _memory(manifest: Manifest) -> str:
    if manifest.shapes is None or not manifest.shapes.bytes:
        return ""
    rows = [(str(one.rows), str(one.length or "-"), f"{one.bytes / 1e6:,.1f}") for one in manifest.shapes.bytes]
    weights = f"<p>Weights: {manifest.device.bytes / 1e6:,.1f} MB of device memory.</p>"
    return weights + table(("rows", "length", "MB besides the weights"), rows, numbers=(0, 1, 2))
