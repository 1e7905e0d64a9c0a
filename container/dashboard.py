"""The Grafana dashboard as JSON, generated from the table of panels.

python -m container.dashboard         # rewrites container/monitoring/grafana/dashboards/slipway.json
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .panels import ROWS, Panel

PATH = Path(__file__).resolve().parent / "monitoring" / "grafana" / "dashboards" / "slipway.json"
SOURCE = {"type": "prometheus", "uid": "slipway-prometheus"}
COLUMNS = 24
HEIGHT = 8


def document() -> dict[str, Any]:
    """The dashboard as Grafana reads it."""
    return {
        "uid": "slipway",
        "title": "Slipway",
        "schemaVersion": 39,
        "editable": True,
        "refresh": "10s",
        "time": {"from": "now-30m", "to": "now"},
        "templating": {
            "list": [
                {
                    "name": "model",
                    "label": "model",
                    "type": "query",
                    "datasource": SOURCE,
                    "query": {"query": "label_values(slipway_load_seconds, model)", "refId": "models"},
                    "refresh": 2,
                    "multi": True,
                    "includeAll": True,
                    "current": {"text": "All", "value": "$__all"},
                }
            ]
        },
        "panels": [{"id": number, **panel} for number, panel in enumerate(_placed(), 1)],
    }


def _placed() -> Iterator[dict[str, Any]]:
    """The panels with their grid positions, left to right and top to bottom, each row under its heading."""
    y = 0
    for row in ROWS:
        yield {"type": "row", "title": row.title, "gridPos": {"x": 0, "y": y, "w": COLUMNS, "h": 1}, "panels": []}
        x, y = 0, y + 1
        height = 4 if all(panel.kind == "stat" for panel in row.panels) else HEIGHT
        for panel in row.panels:
            if x + panel.width > COLUMNS:
                x, y = 0, y + height
            yield {**_rendered(panel), "gridPos": {"x": x, "y": y, "w": panel.width, "h": height}}
            x += panel.width
        y += height


def _rendered(panel: Panel) -> dict[str, Any]:
    targets = [
        {"refId": chr(ord("A") + index), "datasource": SOURCE, "expr": expression, "legendFormat": legend}
        for index, (expression, legend) in enumerate(panel.queries)
    ]
    custom = {"fillOpacity": 40, "stacking": {"mode": "normal"}} if panel.stacked else {}
    if panel.kind == "heatmap":
        targets = [{**one, "format": "heatmap"} for one in targets]
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.text,
        "datasource": SOURCE,
        "fieldConfig": {"defaults": {"unit": panel.unit, "custom": custom}, "overrides": []},
        "targets": targets,
    }


def as_text() -> str:
    """The document with a panel on each line."""
    whole = document()
    panels = ",\n".join(map(json.dumps, whole.pop("panels")))
    head = ",\n".join(f"{json.dumps(name)}: {json.dumps(value)}" for name, value in whole.items())
    return f'{{{head},\n"panels": [\n{panels}\n]}}\n'


def main() -> int:
    PATH.write_text(as_text(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
