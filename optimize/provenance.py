"""Provenance: the request, the data, the machine and the versions that the manifest records about a search."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np

from server.system import installed

from .evaluation.dataset import Split
from .hardware import Hardware
from .options import Options
from .package.artifact import Identity
from .search import timing
from .search.outcome import Rule, Search
from .sources.conversion import Conversion

LIBRARIES = (
    *("torch", "onnx", "onnxscript", "onnx-ir", "onnxruntime", "numpy"),
    *("transformers", "scikit-learn", "skl2onnx", "onnxmltools", "xgboost-cpu", "lightgbm"),
)
"""Libraries whose versions the manifest records, if they are installed."""


def asked(options: Options, rule: Rule, found: Search, split: Split, left_out: Sequence[int]) -> dict[str, Any]:
    """Describe the metric, the limits, the data and the measurement, for the evidence of the manifest."""
    reference = found.reference.accuracy
    return {
        "metric": {
            "name": rule.metric.name,
            "higher_is_better": rule.metric.higher_is_better,
            "chosen_by": "user" if options.metric else "default",
            "about": rule.metric.about(found.reference_outputs, rule.labels),
        },
        "max_drop": {
            "asked": rule.allowed.text,
            "limit": rule.allowed.limit(reference.score.value) if reference else None,
        },
        "objective": options.objective,
        "data": {
            "evaluation_rows": split.evaluation.rows,
            "calibration_rows": split.calibration.rows,
            "split": split.note,
        },
        "measurement": {
            "rounds": options.rounds,
            "most_rounds": max(len(timing.rounds_us) for timing in found.timings.values()),
            "unevenness": round(timing.unevenness(found.timings), 2),
            "budget_s": options.budget_s,
            "threads": list(options.threads),
            "left_out_batch_sizes": list(left_out),
        },
    }


def of(options: Options, command: str, source: Conversion, split: Split, machine: Hardware) -> dict[str, Any]:
    """Describe command, machine, versions, source and data, for the provenance of the manifest."""
    return {
        "command": command,
        "seed": options.seed,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "hardware": machine.to_json(),
        "versions": {"python": platform.python_version(), **_versions()},
        "source": {"reference": source.reference, "sha256": dict(source.digests), "exporter": source.exported.exporter},
        "evaluation": {"sha256": split.evaluation.sha256},
        "calibration": {"sha256": split.calibration.sha256},
    }


def _versions() -> dict[str, str]:
    found = {name: installed.version(name) for name in LIBRARIES}
    return {name: version for name, version in found.items() if version is not None}


def missing(split: Split) -> tuple[str, ...]:
    """Return the float inputs that have missing values (NaN) in the data."""
    return tuple(
        name
        for name, array in split.evaluation.inputs.items()
        if array.dtype.kind == "f"
        and (np.isnan(array).any() or np.isnan(split.calibration.inputs.get(name, array)).any())
    )


def identity(options: Options, source: Conversion, rule: Rule) -> Identity:
    """Return the name, the task and the class names under which the artifact is served."""
    task = "classification" if rule.metric.classifies or options.labels else ""
    return Identity(options.name, options.version, task, options.labels or source.classes)
