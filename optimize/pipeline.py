"""The pipeline from options to an artifact, with one progress stage per step. The composition root of optimize."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from server.artifact import Artifact, VariableAxis
from server.backends.independence import Independence
from server.target import BucketBytes, ClosedShapes

from . import hardware, provenance, target
from .errors import ExportFailed, NotProven
from .evaluation import dataset, evaluate, independence, metrics, padding, source_check, synthetic
from .evaluation.dataset import Dataset, Split
from .evaluation.evaluate import Allowance
from .evaluation.metrics import Metric
from .evaluation.source_check import SourceCheck
from .hardware import Gpu, Hardware
from .options import Options
from .package import artifact, device_memory, prepack, profile
from .package.prepack import PrepackedModel
from .package.profile import OperatorTime
from .passes import cuda_from_onnx, running
from .progress import Display
from .sandbox import isolation
from .sandbox.isolation import StepLimits
from .search import budget, builder, device_options, layouts, selection
from .search.benchmark import MeasurementConfig
from .search.budget import Budget
from .search.builder import LocalBuilder
from .search.candidates import FLOAT32
from .search.device_options import Variant
from .search.judge import REPAIRED
from .search.layouts import Layout
from .search.outcome import Outcome, Rule, Search
from .search.search import search
from .sources import axes, baseline, detection, dispatch
from .sources.conversion import Conversion
from .target import Target

TYPICAL_BATCH = 8


def run(options: Options, command: str, display: Display, gpus: Sequence[Gpu] = ()) -> Artifact:
    """Run a search and write its artifact to ``options.output``.

    Raises BadInput for an unusable option or file, ExportFailed and NotProven for a model that cannot be optimized. An
    incomplete artifact is deleted.
    """
    time = Budget(options.budget_s)
    device = target.resolve(options.target, target.look(gpus))
    with artifact.staged(options.output, force=options.force) as root, tempfile.TemporaryDirectory() as scratch:
        allowed = evaluate.allowance(options.max_drop)
        options = replace(options, threads=(1,)) if device.gpu else options
        evaluation, calibration, synthetic_note = _read(options, display)
        graph = Path(scratch) / "baseline.onnx"
        source, proof = _proven(options, evaluation, time, graph, device, display)
        split = _split(options, source, evaluation, calibration, synthetic_note)
        options = replace(options, batch_sizes=_batch_sizes(options, source))
        time, sizes = _share(time, options, _timed(options, graph, split.evaluation, device), split.evaluation, display)
        left_out, options = tuple(sorted(set(options.batch_sizes) - set(sizes))), replace(options, batch_sizes=sizes)
        machine = hardware.detect(gpu=device.gpu)
        rows_proof = _independence(options, split, graph, display)
        if not rows_proof.independent:
            options = replace(options, batch_sizes=(split.evaluation.layout.run_rows or 1,))
        built = _builder(options, time, split, machine, source, graph)
        # Rows that depend on each other have no answers of their own: the proof has compared whole batches.
        alone = source if rows_proof.independent else replace(source, evaluation=())
        metric, checked = _check_source(options, alone, split, built, allowed, display)
        rule = Rule(
            metric, allowed, options.objective, split.evaluation.labels, options.seed,
            rows_proof.independent and max(options.batch_sizes) > 1,
        )  # fmt: skip
        found = _search(options, machine, rule, source, built, device, display)
        found, variants = _device_options(options, time, found, split.evaluation, Path(scratch), display)
        measured = _layouts(options, time, found, split.evaluation, machine, display)
        finished = _finish(options, time, found, split.evaluation, Path(scratch), display)
        findings = artifact.Findings(
            search=found,
            proof=proof,
            layout=layouts.best(measured) if measured else _single(found),
            layouts=tuple(measured),
            batch_sizes=options.batch_sizes,
            asked=provenance.asked(options, rule, found, split, left_out),
            checked=checked,
            independence=rows_proof,
            missing=provenance.missing(split),
            finished=finished,
            provenance=provenance.of(options, command, source, split, machine),
            operators=_operators(found, split.evaluation),
            padding=_padding(source, graph, found.chosen, finished, display),
            least_sm=_least_sm(found.chosen),
            least_driver=device.least_driver,
            device_memory=_device_memory(options, time, finished, device, display),
            device_options=variants,
        )
        with display.stage("Writing the artifact"):
            written = artifact.write(root, provenance.identity(options, source, rule), findings, split.evaluation)
    return Artifact(options.output, written.manifest)


def _split(
    options: Options, source: Conversion, evaluation: Dataset, calibration: Dataset | None, synthetic_note: str
) -> Split:
    """Arrange the data as the source takes it, and split it."""
    calibrating = source.arranged(calibration) if calibration else None
    split = dataset.split(source.arranged(evaluation), calibrating, options.seed)
    return replace(split, note=f"{synthetic_note}; {split.note}") if synthetic_note else split


def _batch_sizes(options: Options, source: Conversion) -> tuple[int, ...]:
    """Return the batch sizes that the source can run."""
    return (source.layout.run_rows,) if source.layout.run_rows else options.batch_sizes


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
    if options.metric:
        # A metric that is not known or lacks its labels is an error before any work is done.
        metrics.metric(options.metric, evaluation.labels)
    return evaluation, calibration, note


def _proven(
    options: Options, data: Dataset, time: Budget, graph: Path, device: Target, display: Display
) -> tuple[Conversion, baseline.Proof]:
    """Convert the source and prove the baseline. Free axes that cannot be proven are fixed, unless the user asked, and
    so are those that a GPU, whose shapes are closed, could only pad with other answers."""
    source = _convert(options, data, time, graph.parent / "source", display)
    try:
        if device.gpu and source.axes and not padding.possible(source):
            raise ExportFailed("a GPU's shapes are closed, and this model cannot be padded")
        return source, _prove(options, source, graph, display)
    except (ExportFailed, NotProven) as error:
        if options.dynamic or not source.axes:
            raise
        names = ", ".join(sorted({axis.name for axis in source.axes}))
        display.warn(f"{error}: the axes {names} are fixed to the sizes of the data")
    source = _convert(replace(options, fixed=(axes.EVERY,)), data, time, graph.parent / "fixed", display)
    return source, _prove(options, source, graph, display)


def _convert(options: Options, data: Dataset, time: Budget, directory: Path, display: Display) -> Conversion:
    with display.stage(f"Loading {options.source} and exporting it to ONNX") as stage:
        directory.mkdir()
        sizes = (1, 2, TYPICAL_BATCH, max(options.batch_sizes))
        source = dispatch.convert(options, data, sizes, directory, stage.say, time.conversion_s)
        stage.result = f"{', '.join(source.inputs)} to {', '.join(source.outputs)}, by {source.exported.exporter}"
    for warning in source.warnings:
        display.warn(warning)
    return source


def _roomy(options: Options) -> StepLimits:
    """The limits of a step that must not fail for lack of time or memory."""
    return StepLimits(
        max(options.budget_s, options.source_time_s), int(options.source_memory_gib * 2**30), "--source-time",
        "--source-memory",
    )  # fmt: skip


def _prove(options: Options, source: Conversion, path: Path, display: Display) -> baseline.Proof:
    with display.stage("Proving the baseline equal to the source") as stage:
        proof = isolation.call(_roomy(options), baseline.write, source, path)
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


def _timed(options: Options, graph: Path, data: Dataset, device: Target) -> Path:
    """The float32 file on the device of the search."""
    if device.gpu is None:
        return graph
    directory = graph.parent / "timed"
    directory.mkdir()
    return cuda_from_onnx.place(graph, directory, data, options.batch_sizes)


def _independence(options: Options, split: Split, graph: Path, display: Display) -> Independence:
    with display.stage("Proving that rows are independent") as stage:
        rows = split.evaluation.take(np.arange(min(split.evaluation.rows, independence.LOOKED_AT)))
        data = Dataset(dict(rows.inputs), None, rows.sha256, rows.layout)
        found = isolation.call(_roomy(options), independence.prove_file, graph, data)
        stage.result = "rows of several requests can share a batch" if found.independent else f"no: {found.reason}"
    return found


def _builder(
    options: Options, time: Budget, split: Split, machine: Hardware, source: Conversion, graph: Path
) -> LocalBuilder:
    config = MeasurementConfig(options.batch_sizes, options.threads, options.rounds, seed=options.seed)
    memory_bytes = options.memory_bytes or isolation.available_memory()
    return builder.set_up(
        options.work or graph.parent, graph, split, machine, config, time, memory_bytes, lambda *_: None,
        axes.shorter(source.probes), int(options.source_memory_gib * 2**30), options.keep_float,
    )  # fmt: skip


def _check_source(
    options: Options, source: Conversion, split: Split, built: LocalBuilder, allowed: Allowance, display: Display
) -> tuple[Metric, SourceCheck]:
    """Choose the metric, and compare the baseline with the source on all evaluation rows."""
    classes, labels = options.labels or source.classes, split.evaluation.labels
    with display.stage("Comparing source and baseline on all evaluation rows") as stage:
        expected = built.outputs(built.reference)
        name = options.metric or metrics.default(expected, labels, classes)
        metric = metrics.metric(name, labels, classes)
        answers, places = source_check.source_rows(source.outputs, source.evaluation, split)
        checked = source_check.check(answers, places, expected, labels, metric, allowed, options.seed)
        about = metric.about(expected, labels)
        why = "" if options.metric else ", which fits the outputs and labels"
        stage.result = f"{checked.rows} of {checked.of} rows by the source; metric {name}{why}: {about or 'your own'}"
        if checked.score:
            stage.result += f"; the source's own score is {checked.score.score.value:.4g}"
    for warning in checked.warnings:
        display.warn(warning)
    return metric, checked


def _search(
    options: Options, machine: Hardware, rule: Rule, source: Conversion, built: LocalBuilder, device: Target,
    display: Display,
) -> Search:  # fmt: skip
    extra = dispatch.pruned(options, source.axes)
    extra += dispatch.compiled(options) if device.gpu else ()
    rows = selection.select(options.candidates, machine.flags, extra=extra, target=device)
    sizes = ",".join(map(str, options.batch_sizes))
    rows = selection.completed(rows, {"rows": sizes, "engine": device.engine, "module": device.module})
    with display.stage("Building, evaluating and measuring candidates") as stage:
        found = search(built.reference, rows, replace(built, progress=stage.count), rule, stage.say)
        stage.result = f"chose {found.chosen.name} among {len(found.outcomes)} candidates"
    return found


def _finish(
    options: Options, time: Budget, found: Search, data: Dataset, scratch: Path, display: Display
) -> PrepackedModel:
    with display.stage("Packing the weights of the chosen candidate") as stage:
        late = time.remaining_s <= 0
        finished = prepack.in_child(
            _roomy(options), _file(found.chosen), scratch / "finished", data, portable=options.portable, late=late
        )
        loads = finished.mapped_ms if finished.prepacked and finished.mapped_ms is not None else finished.plain_ms
        stage.result = f"{finished.bytes / 1e6:,.1f} MB, loads in {loads:.1f} ms; {finished.reason}"
    return finished


def _device_memory(
    options: Options, time: Budget, finished: PrepackedModel, device: Target, display: Display
) -> tuple[BucketBytes, ...]:
    """What every closed shape takes on the GPU; nothing on the CPU, and where no time is left."""
    if device.gpu is None or time.remaining_s <= 0:
        return ()
    file = finished.files[0]
    how = running.of(file)
    shapes = ClosedShapes(options.batch_sizes, (how.length,) if how.length else ())
    with display.stage("Measuring the device memory of every shape") as stage:
        weights = artifact.weight_bytes(finished)
        opening = how.opening(1, shapes=shapes)
        found = isolation.call(
            _roomy(options), device_memory.buckets, file, how.backend, opening, weights, device.gpu.uuid
        )
        stage.result = f"{weights / 1e6:,.0f} MB, and {max(one.bytes for one in found) / 1e6:,.0f} MB for the largest"
    return found


def _padding(
    source: Conversion, graph: Path, chosen: Outcome, finished: PrepackedModel, display: Display
) -> VariableAxis | None:
    """Whether lengths may be padded; a GPU's file is represented by the graph that it was made from."""
    if not source.axes or chosen.record is None:
        return None
    file = finished.files[0]
    if running.on_gpu(chosen.record.path):
        file = graph if chosen.name == FLOAT32 else chosen.record.on_processor
    with display.stage("Checking that padding is safe") as stage:
        axis = padding.promised(source, graph, file)
        if axis is None and running.on_gpu(chosen.record.path):
            raise NotProven(
                "padding changes the answers, and a GPU's shapes are closed: fix the lengths with --fixed all"
            )
        stage.result = (
            "requests of different lengths can share a batch" if axis else "only requests of equal length share a batch"
        )
    return axis


def _least_sm(chosen: Outcome) -> int:
    """The lowest compute capability that has the chosen candidate's number format; 0: any."""
    name = chosen.name.removesuffix(REPAIRED)
    return next((row.least_sm for row in selection.EVERY if row.name == name), 0)


def _operators(found: Search, data: Dataset) -> tuple[OperatorTime, ...]:
    """Return the time per operator of the baseline and of the chosen candidate, if ONNX Runtime runs them."""
    files = {outcome.name: _file(outcome) for outcome in (found.reference, found.chosen)}
    return tuple(
        row
        for name, path in files.items()
        if running.of(path).backend == "onnxruntime"
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
    pairs = layouts.on_gpu() if machine.gpu else layouts.options(machine.cores, options.threads)
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


def _device_options(
    options: Options, time: Budget, found: Search, data: Dataset, scratch: Path, display: Display
) -> tuple[Search, tuple[Variant, ...]]:
    """Measure the options of the chosen candidate's device, if it has any and time is left."""
    if found.chosen.record is None or not running.on_gpu(found.chosen.record.path) or time.remaining_s <= 0:
        return found, ()
    config = MeasurementConfig(options.batch_sizes, (1,), options.rounds, time.layouts_s, options.seed)
    with display.stage("Measuring convolution search and CUDA graphs") as stage:
        found, variants = device_options.measure(found, data, scratch, config, options.objective, stage.count)
        best = [f"{name} {value}" for one in variants if one.chosen for name, value in one.options.items()]
        stage.result = ", ".join(best) or "the engine has no such options"
    return found, variants


def _single(found: Search) -> Layout:
    cell = found.chosen.cell
    if cell is None:
        raise ValueError("nothing was measured")
    return Layout(1, cell.threads, cell.batch_size / found.timings[cell].p50_us * 1e6)
