"""The output directory: model file, samples, manifest with evidence, and report; renamed into place when complete."""

from __future__ import annotations

import contextlib
import math
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from server import artifact
from server.artifact import Artifact, Batching, CostPoint, Manifest, VariableAxis
from server.backends import Session, loader
from server.backends.independence import Independence
from server.target import CPU, BucketBytes, ClosedShapes, DeviceTarget
from server.tensors import Array, ModelSpec

from ..errors import BadInput
from ..evaluation import evaluate
from ..evaluation.dataset import Dataset, storable
from ..evaluation.source_check import SourceCheck
from ..passes import running
from ..passes.running import Running
from ..search.device_options import Variant
from ..search.layouts import Layout
from ..search.outcome import Outcome, Search
from ..search.timing import Cell, Timing
from ..sources.baseline import Proof
from . import prepack, report
from .prepack import PrepackedModel
from .profile import OperatorTime

REPORT = "report.html"
SAMPLE_ROWS = 8
SAMPLE_BYTES = 1_000_000
"""Size of the samples beyond which there are fewer of them; at least one is kept."""


@dataclass(frozen=True, slots=True)
class Identity:
    """The name, version and task that the model is served under, and the names of its classes."""

    name: str
    version: str
    task: str
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Findings:
    """All results of a run that the artifact records."""

    search: Search
    proof: Proof
    layout: Layout
    layouts: tuple[Layout, ...]
    batch_sizes: tuple[int, ...]
    asked: Mapping[str, Any]
    finished: PrepackedModel
    provenance: Mapping[str, Any]
    operators: tuple[OperatorTime, ...] = ()
    padding: VariableAxis | None = None
    checked: SourceCheck = field(default_factory=lambda: SourceCheck(0, 0))
    independence: Independence = field(default_factory=lambda: Independence(True))
    missing: tuple[str, ...] = ()
    least_sm: int = 0
    least_driver: int = 0
    device_memory: tuple[BucketBytes, ...] = ()
    device_options: tuple[Variant, ...] = ()


@contextlib.contextmanager
def staged(output: Path, *, force: bool) -> Iterator[Path]:
    """A temporary directory that replaces ``output`` when the block succeeds, and is removed when it fails.

    Raises BadInput at once when ``output`` exists and ``force`` is False.
    """
    if output.exists() and not output.is_dir():
        raise BadInput(f"--output {output} is a file")
    if output.is_dir() and any(output.iterdir()) and not force:
        raise BadInput(f"--output {output} is not empty: --force replaces it")
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = output.with_name(f".{output.name}.partial-{os.getpid()}")
    replaced = output.with_name(f".{output.name}.replaced-{os.getpid()}")
    partial.mkdir()
    try:
        yield partial
        if output.exists():
            output.rename(replaced)
        partial.rename(output)
    except BaseException:
        if replaced.exists() and not output.exists():
            replaced.rename(output)
        raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(replaced, ignore_errors=True)


def write(root: Path, identity: Identity, findings: Findings, data: Dataset) -> Artifact:
    """Write model, samples (``input:<name>``, and float32's ``output:<name>``), report and manifest into ``root``."""
    chosen = findings.search.chosen
    if chosen.record is None:
        raise ValueError(f"{chosen.name} was chosen without a file")
    prepack.place(findings.finished, root)
    model, how = findings.finished.files[0].name, running.of(findings.finished.files[0])
    session = loader(how.backend)(root / model, how.opening(1, optimized=findings.finished.prepacked))
    try:
        difference = _write_samples(root / artifact.SAMPLES, findings, data, session, max(how.rows, default=0))
        spec = _with_missing(session.spec, findings.missing)
    finally:
        session.close()
    threads = findings.layout.threads
    manifest = Manifest(
        name=identity.name,
        version=identity.version,
        backend=how.backend,
        model=model,
        spec=spec,
        task=identity.task,
        labels=identity.labels,
        batching=_batching(findings, threads),
        padding=findings.padding,
        cost=tuple(_cost(findings, chosen.name, size, threads) for size in findings.batch_sizes),
        evidence=_evidence(findings, difference),
        provenance={**findings.provenance, "prepacked": findings.finished.prepacked},
        device=_device(how, findings),
        shapes=_shapes(how, findings),
    )
    (root / REPORT).write_text(report.render(manifest), encoding="utf-8")
    return artifact.write(root, manifest)


def _device(how: Running, findings: Findings) -> DeviceTarget:
    """The device that the model was made for, with the least that it needs."""
    if how.device == CPU:
        return how.target
    return replace(
        how.target,
        least_sm=findings.least_sm,
        least_driver=findings.least_driver,
        bytes=weight_bytes(findings.finished),
    )


def weight_bytes(finished: PrepackedModel) -> int:
    """Bytes of the weights on the device: of the plan, or of the graph and its external data."""
    first = finished.files[0]
    files = (first,) if first.suffix == ".plan" else finished.files
    return sum(file.stat().st_size for file in files)


def _shapes(how: Running, findings: Findings) -> ClosedShapes | None:
    """The closed shapes of a GPU: every measured batch size with every length that may be padded to."""
    if how.device == CPU:
        return None
    lengths = findings.padding.sizes if findings.padding else ()
    return ClosedShapes(findings.batch_sizes, lengths, findings.device_memory)


def _batching(findings: Findings, threads: int) -> Batching:
    """How to batch; rows of other requests may join where float32's rows are independent and the winner's error among
    neighbours is within the allowed drop."""
    found, influence = findings.independence, findings.search.chosen.influence
    reason = found.reason
    if found.independent and influence is not None and influence.dependent:
        reason = (
            f"neighbours change {influence.changed} of {influence.rows} rows by up to {influence.largest:.2g} of their "
            "largest value, which is within the allowed drop"
        )
    return Batching(findings.batch_sizes, findings.layout.instances, threads, found.independent, reason)


def _with_missing(spec: ModelSpec, names: Sequence[str]) -> ModelSpec:
    """``spec`` with the inputs that accept missing values (NaN), because the evaluation data has them."""
    return ModelSpec(tuple(replace(one, missing=one.name in names) for one in spec.inputs), spec.outputs)


def sample_rows(data: Dataset, outputs: Mapping[str, Array]) -> int:
    """The number of sample rows: at most ``SAMPLE_ROWS``, fewer when they take more than ``SAMPLE_BYTES``."""
    arrays = [*data.batch(1).values(), *(array[:1] for array in outputs.values())]
    row_bytes = sum(array.nbytes for array in arrays)
    return max(1, min(SAMPLE_ROWS, data.rows, SAMPLE_BYTES // max(1, row_bytes)))


def _write_samples(path: Path, findings: Findings, data: Dataset, session: Session, most_rows: int) -> float:
    """Write the samples; return the largest absolute difference between the winner's outputs and float32's.

    ``most_rows`` of a run; 0: any number.
    """
    outputs = findings.search.reference_outputs
    rows = data.layout.run_rows or sample_rows(data, outputs)
    inputs = data.batch(rows)
    expected = {spec.name: evaluate.as_answered(outputs[spec.name][:rows], spec, rows) for spec in session.spec.outputs}
    arrays: dict[str, Array] = {f"input:{name}": storable(array) for name, array in inputs.items()}
    arrays |= {f"output:{name}": storable(array) for name, array in expected.items()}
    np.savez(path, **arrays)  # type: ignore[arg-type]  # the stub mixes up arrays and allow_pickle
    answers = evaluate.run_in_parts(session, [inputs[spec.name] for spec in session.spec.inputs], most_rows)
    return largest_difference(answers, [expected[spec.name] for spec in session.spec.outputs])


def largest_difference(got: list[Array], expected: list[Array]) -> float:
    """The largest absolute difference over all outputs; infinite when shapes differ or a value is not a number."""
    worst = 0.0
    for have, want in zip(got, expected, strict=True):
        if have.shape != want.shape:
            return math.inf
        if want.dtype.kind in "OU":
            worst = worst if (have == want).all() else math.inf
            continue
        both = np.isnan(have) & np.isnan(want) if want.dtype.kind == "f" else np.zeros(want.shape, bool)
        apart = np.where(both, 0.0, np.abs(have.astype(np.float64) - want.astype(np.float64)))
        difference = float(np.max(np.where(have == want, 0.0, apart), initial=0.0))
        worst = max(worst, math.inf if math.isnan(difference) else difference)
    return worst


def _cost(findings: Findings, name: str, batch_size: int, threads: int) -> CostPoint:
    timing = findings.search.timings[Cell(name, batch_size, threads)]
    return CostPoint(batch_size, round(timing.p50_us, 2), round(timing.p95_us, 2))


def _evidence(findings: Findings, difference: float) -> dict[str, Any]:
    return {
        **findings.asked,
        "proof": [{"batch_size": size, "max_abs_difference": worst} for size, worst in findings.proof.differences],
        "proof_lengths": {name: list(sizes) for name, sizes in findings.proof.lengths},
        "proof_cosine": round(findings.proof.cosine, 9),
        "source": findings.checked.to_json(),
        "warnings": list(findings.checked.warnings),
        "independence": {"independent": findings.independence.independent, "reason": findings.independence.reason},
        "exporter_said": list(findings.proof.messages),
        "chosen": findings.search.chosen.name,
        "candidates": [_outcome(outcome, findings.search.timings) for outcome in findings.search.outcomes],
        "layouts": [
            {"instances": row.instances, "threads": row.threads, "rows_per_s": round(row.rows_per_s, 1)}
            for row in findings.layouts
        ],
        "device_options": [row.to_json() for row in findings.device_options],
        "loading": findings.finished.to_json(),
        "operators": [row.to_json() for row in findings.operators],
        "samples": {"max_abs_difference": difference},
    }


def _finite(decibel: float | None) -> float | None:
    """JSON has no infinity: no noise at all is no figure."""
    return round(decibel, 2) if decibel is not None and math.isfinite(decibel) else None


def _segment(found: tuple[str, float] | None) -> dict[str, Any] | None:
    return None if found is None or not found[0] else {"part": found[0], "sqnr_db": round(found[1], 2)}


def _outcome(outcome: Outcome, timings: Mapping[Cell, Timing]) -> dict[str, Any]:
    return {
        "name": outcome.name,
        "about": outcome.about,
        "chosen": outcome.chosen,
        "reason": outcome.reason,
        "applied": dict(outcome.record.applied) if outcome.record else {},
        "said": list(outcome.record.said) if outcome.record else [],
        "accuracy": outcome.accuracy.to_json() if outcome.accuracy else None,
        "sqnr_db": _finite(outcome.sqnr_db),
        "forecast_db": _finite(outcome.forecast_db),
        "speed_up": outcome.speed_up.to_json() if outcome.speed_up else None,
        "neighbours": outcome.influence.to_json() if outcome.influence else None,
        "served": outcome.served.to_json() if outcome.served else None,
        "worst_segment": _segment(outcome.worst_segment),
        "at": {"batch_size": outcome.cell.batch_size, "threads": outcome.cell.threads} if outcome.cell else None,
        "sensitivities": [row.to_json() for row in outcome.sensitivities],
        "timings": [
            {"batch_size": cell.batch_size, "threads": cell.threads, **timing.to_json()}
            for cell, timing in sorted(timings.items())
            if cell.candidate == outcome.name
        ],
    }
