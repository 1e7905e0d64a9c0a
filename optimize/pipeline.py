"""The pipeline from options to an artifact, with one progress stage per step. The composition root of optimize."""

from __future__ import annotations

import contextlib
import platform
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from server.artifact import Artifact, VariableAxis

from . import hardware, passes
from .evaluation import dataset, evaluate, metrics, padding, synthetic
from .evaluation.dataset import Dataset, Split
from .hardware import Hardware
from .options import Options
from .package import artifact, prepack, profile
from .package.prepack import PrepackedModel
from .package.profile import OperatorTime
from .progress import Display
from .sandbox import isolation
from .search import budget, builder, candidates, layouts, timing
from .search.benchmark import MeasurementConfig
from .search.budget import Budget
from .search.layouts import Layout
from .search.outcome import Outcome, Rule, Search
from .search.search import search
from .sources import axes, baseline, detection, dispatch
from .sources.conversion import Conversion

LIBRARIES = (
    *("torch", "onnx", "onnxscript", "onnx-ir", "onnxruntime", "numpy"),
    *("transformers", "scikit-learn", "skl2onnx", "onnxmltools", "xgboost-cpu", "lightgbm"),
)
"""Libraries whose versions the manifest records, if they are installed."""

TYPICAL_BATCH = 8


def run(options: Options, command: str, display: Display) -> Artifact:
    """Run a search and write its artifact to ``options.output``.

    Raises BadInput for an unusable option or file, ExportFailed and NotProven for a model that cannot be optimized. An
    incomplete artifact is deleted.
    """
    time = Budget(options.budget_s)
    with artifact.staged(options.output, force=options.force) as root, tempfile.TemporaryDirectory() as scratch:
        allowed = evaluate.allowance(options.max_drop)
        evaluation, calibration, synthetic_note = _read(options, display)
        metric = metrics.metric(options.metric, evaluation.labels)
        source = _convert(options, evaluation, Path(scratch), display)
        split = dataset.split(
            evaluation.select(source.inputs), calibration.select(source.inputs) if calibration else None, options.seed
        )
        if synthetic_note:
            split = replace(split, note=f"{synthetic_note}; {split.note}")
        graph = Path(scratch) / "baseline.onnx"
        proof = _prove(source, graph, display)
        time, sizes = _share(time, options, graph, split.evaluation, display)
        left_out, options = tuple(sorted(set(options.batch_sizes) - set(sizes))), replace(options, batch_sizes=sizes)
        machine = hardware.detect()
        rule = Rule(metric, allowed, options.objective, split.evaluation.labels, options.seed)
        found = _search(options, time, split, machine, rule, source, graph, display)
        measured = _layouts(options, time, found, split.evaluation, machine, display)
        finished = _finish(options, time, found, split.evaluation, Path(scratch), display)
        findings = artifact.Findings(
            search=found,
            proof=proof,
            layout=layouts.best(measured) if measured else _single(found),
            layouts=tuple(measured),
            batch_sizes=options.batch_sizes,
            asked=_asked(options, rule, found, split, left_out),
            finished=finished,
            provenance=_provenance(options, command, source, split, machine),
            operators=_operators(found, split.evaluation),
            padding=_padding(source, graph, finished.files[0], display),
        )
        task = "classification" if metric.classifies or options.labels else ""
        identity = artifact.Identity(options.name, options.version, task, options.labels or source.classes)
        with display.stage("Writing the artifact"):
            written = artifact.write(root, identity, findings, split.evaluation)
    return Artifact(options.output, written.manifest)


def _read(options: Options, display: Display) -> tuple[Dataset, Dataset | None, str]:
    """Read the evaluation rows and the calibration rows. The last value describes synthetic rows, or is empty."""
    note = ""
    with display.stage("Reading the data") as stage:
        if options.evaluation:
            evaluation = dataset.read(options.evaluation)
        else:
            detection.detect(options.source)
            evaluation, note = synthetic.rows(Path(options.source), options.seed)
        calibration = dataset.read(options.calibration) if options.calibration else None
        stage.result = f"{evaluation.rows} rows of {', '.join(evaluation.inputs)}{f' ({note})' if note else ''}"
    return evaluation, calibration, note


def _convert(options: Options, data: Dataset, scratch: Path, display: Display) -> Conversion:
    with display.stage(f"Loading {options.source} and exporting it to ONNX") as stage:
        directory = scratch / "source"
        directory.mkdir()
        sizes = (1, 2, TYPICAL_BATCH, max(options.batch_sizes))
        source = dispatch.convert(options, data, sizes, directory, stage.say)
        stage.result = f"{', '.join(source.inputs)} to {', '.join(source.outputs)}, by {source.exported.exporter}"
    return source


def _prove(source: Conversion, path: Path, display: Display) -> baseline.Proof:
    with display.stage("Proving the baseline equal to the source") as stage:
        proof = baseline.write(source, path)
        at = ", ".join(str(size) for size, _ in proof.differences)
        lengths = "".join(f" and {name} {', '.join(map(str, sizes))}" for name, sizes in proof.lengths)
        stage.result = f"largest difference {proof.worst:.2g} at batch sizes {at}{lengths}"
    return proof


def _share(
    time: Budget, options: Options, graph: Path, data: Dataset, display: Display
) -> tuple[Budget, tuple[int, ...]]:
    with display.stage("Dividing the budget") as stage:
        took = budget.cost(graph, data)
        time, sizes = budget.share(time, took, options.batch_sizes, len(options.threads))
        stage.result = f"{time.left_s:.0f} s for candidates, {time.measurement_s:.0f} s for measurements"
        left_out = sorted(set(options.batch_sizes) - set(sizes))
        if left_out:
            listed = ", ".join(map(str, left_out))
            stage.result += (
                f"; batch sizes {listed} are left out, because measuring them takes too long: increase --budget"
            )
    return time, sizes


def _search(
    options: Options,
    time: Budget,
    split: Split,
    machine: Hardware,
    rule: Rule,
    source: Conversion,
    graph: Path,
    display: Display,
) -> Search:
    config = MeasurementConfig(options.batch_sizes, options.threads, options.rounds, seed=options.seed)
    rows = candidates.select(options.candidates, machine.flags, extra=dispatch.pruned(options, source.axes))
    folder = options.work or graph.parent
    memory_bytes = options.memory_bytes or isolation.available_memory()
    with display.stage("Building, evaluating and measuring candidates") as stage:
        built = builder.set_up(
            folder, graph, split, machine, config, time, memory_bytes, stage.count,
            axes.shorter(source.probes), int(options.source_memory_gib * 2**30),
        )  # fmt: skip
        found = search(built.reference, rows, built, rule, stage.say)
        stage.result = f"chose {found.chosen.name} among {len(found.outcomes)} candidates"
    return found


def _finish(
    options: Options, time: Budget, found: Search, data: Dataset, scratch: Path, display: Display
) -> PrepackedModel:
    with display.stage("Packing the weights of the chosen candidate") as stage:
        late = time.remaining_s <= 0
        finished = prepack.prepack(
            _file(found.chosen), scratch / "finished", data, portable=options.portable, late=late
        )
        loads = finished.mapped_ms if finished.prepacked and finished.mapped_ms is not None else finished.plain_ms
        stage.result = f"{finished.bytes / 1e6:,.1f} MB, loads in {loads:.1f} ms; {finished.reason}"
    return finished


def _padding(source: Conversion, graph: Path, chosen: Path, display: Display) -> VariableAxis | None:
    if not source.axes:
        return None
    with display.stage("Checking that padding is safe") as stage:
        axis = padding.promised(source, graph, chosen)
        stage.result = (
            "requests of different lengths can share a batch" if axis else "only requests of equal length share a batch"
        )
    return axis


def _operators(found: Search, data: Dataset) -> tuple[OperatorTime, ...]:
    """Return the time per operator of the baseline and of the chosen candidate, if ONNX Runtime runs them."""
    files = {outcome.name: _file(outcome) for outcome in (found.reference, found.chosen)}
    return tuple(
        row
        for name, path in files.items()
        if passes.backend_of(path) == "onnxruntime"
        for row in profile.operators(name, path, data.batch(TYPICAL_BATCH))
    )


def _file(outcome: Outcome) -> Path:
    if outcome.record is None:
        raise ValueError(f"{outcome.name} has no file")
    return outcome.record.path


def _layouts(
    options: Options, time: Budget, found: Search, data: Dataset, machine: Hardware, display: Display
) -> list[Layout]:
    """Measure how many instances to run at once. Latency needs no layouts: one instance serves a single request."""
    pairs = layouts.options(machine.cores, options.threads)
    chosen = found.chosen
    if options.objective == "latency" or len(pairs) < 2 or chosen.record is None or chosen.cell is None:
        return []
    config = MeasurementConfig((), (), options.rounds, time.layouts_s, options.seed)
    with display.stage("Measuring instances and threads") as stage:
        path, batch_size = chosen.record.path, chosen.cell.batch_size
        measured = layouts.measure(path, data, batch_size, pairs, config, stage.count)
        best = layouts.best(measured)
        stage.result = f"{best.instances} x {best.threads} thread(s), {best.rows_per_s:,.0f} rows/s"
    return measured


def _single(found: Search) -> Layout:
    cell = found.chosen.cell
    if cell is None:
        raise ValueError("nothing was measured")
    return Layout(1, cell.threads, cell.batch_size / found.timings[cell].p50_us * 1e6)


def _asked(options: Options, rule: Rule, found: Search, split: Split, left_out: Sequence[int]) -> dict[str, Any]:
    reference = found.reference.accuracy
    return {
        "metric": {"name": rule.metric.name, "higher_is_better": rule.metric.higher_is_better},
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


def _provenance(options: Options, command: str, source: Conversion, split: Split, machine: Hardware) -> dict[str, Any]:
    return {
        "command": command,
        "seed": options.seed,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "hardware": machine.to_json(),
        "versions": {"python": platform.python_version(), **_versions()},
        "source": {
            "reference": source.reference,
            "sha256": dict(source.digests),
            "exporter": source.exported.exporter,
        },
        "evaluation": {"sha256": split.evaluation.sha256},
        "calibration": {"sha256": split.calibration.sha256},
    }


def _versions() -> dict[str, str]:
    found = {}
    for name in LIBRARIES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found
