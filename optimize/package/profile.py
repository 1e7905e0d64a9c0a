"""The profile: time of a run by operator, measured by ONNX Runtime's profiler."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from server.tensors import Array

RUNS = 5
WARM_UP_RUNS = 2


@dataclass(frozen=True, slots=True)
class OperatorTime:
    """Microseconds that one run of ``candidate`` spends in all ``nodes`` of one operator."""

    candidate: str
    operator: str
    run_us: float
    nodes: int

    def to_json(self) -> dict[str, Any]:
        return {
            "candidate": self.candidate,
            "operator": self.operator,
            "run_us": round(self.run_us, 2),
            "nodes": self.nodes,
        }


def operators(candidate: str, path: Path, batch: Mapping[str, Array]) -> list[OperatorTime]:
    """Run the file a few times with one thread and add up its nodes, the most expensive operator first.

    The profiler adds a little time to every node: shares are right, and sums exceed an undisturbed run.
    """
    import onnxruntime as ort

    with tempfile.TemporaryDirectory() as directory:
        settings = ort.SessionOptions()
        settings.intra_op_num_threads = 1
        settings.log_severity_level = 3
        settings.enable_profiling = True
        settings.profile_file_prefix = str(Path(directory) / "profile")
        session = ort.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
        feed = {value.name: batch[value.name] for value in session.get_inputs()}
        for _ in range(WARM_UP_RUNS + RUNS):
            session.run(None, feed)
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    return _add_up(candidate, [event for event in events if event.get("cat") == "Node"])


def _add_up(candidate: str, events: list[dict[str, Any]]) -> list[OperatorTime]:
    """Add up the time by operator. Every node has one event per run; the first of each name belong to the warm-up."""
    met: Counter[str] = Counter()
    spent: Counter[str] = Counter()
    nodes: dict[str, set[str]] = {}
    for event in events:
        operator = event.get("args", {}).get("op_name")
        if operator is None or not event["name"].endswith("_kernel_time"):
            continue
        met[event["name"]] += 1
        if met[event["name"]] > WARM_UP_RUNS:
            spent[operator] += event["dur"]
            nodes.setdefault(operator, set()).add(event["name"])
    rows = [OperatorTime(candidate, name, total / RUNS, len(nodes[name])) for name, total in spent.items()]
    return sorted(rows, key=lambda row: -row.run_us)
