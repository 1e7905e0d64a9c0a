"""The builder: builds and runs candidates on files, each in its own process, through the search cache."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from server.artifact import digest
from server.errors import SlipwayError
from server.system import installed
from server.tensors import Array

from .. import passes
from ..errors import PassFailed
from ..evaluation import dataset, evaluate, gates, neighbours
from ..evaluation.dataset import Dataset, Split
from ..evaluation.gates import Cover
from ..hardware import Hardware
from ..passes import PassJob, PassRecord, cuda_from_onnx, running
from ..sandbox import isolation, parent
from ..sandbox.isolation import StepLimits
from ..sources import external_data
from ..sources.axes import Probe
from . import benchmark, sensitivity
from .benchmark import Focus, MeasurementConfig
from .budget import Budget
from .cache import SearchCache
from .candidates import Candidate, Option
from .sensitivity import Sensitivity
from .timing import Cell, Timing

TOOLS = ("onnx", "onnxscript", "onnx-ir", "onnxruntime", "numpy")
"""Libraries whose version changes the result of a pass."""

FIRST_ROUND_SHARE = 0.15
FIRST_ROUND_ROUNDS, FIRST_ROUND_OVERRUN = 5, 2.0

LEAST_S = 1.0
"""With less time than this a candidate is not started."""

MOMENT_S = 1.0
"""Least time of a step that starts just before the candidates' time is over."""


@dataclass(frozen=True, slots=True)
class LocalBuilder:
    """Builds candidates in child processes on this machine.

    ``cache`` holds everything built; a later search over the same folder reuses entries with the same ingredients. A
    child that crashes or exceeds its memory or time raises PassFailed. ``probes`` are rows at other lengths of the free
    axes than those of the data. ``keep_float``: tensors of layers that stay in float in every candidate.
    ``graph`` is the float32 file on the processor, where passes start; ``on_device`` the same on a GPU, or None.
    """

    cache: SearchCache
    graph: Path
    rows: Path
    data: Split
    hardware: Hardware
    config: MeasurementConfig
    budget: Budget
    memory_bytes: int
    progress: benchmark.Progress
    probes: tuple[Probe, ...] = ()
    source_memory_bytes: int = parent.SandboxLimits().memory_bytes
    keep_float: tuple[str, ...] = ()
    on_device: Path | None = None

    @property
    def reference(self) -> Path:
        """The float32 file on the device of the search."""
        return self.on_device or self.graph

    @property
    def batch_size(self) -> int:
        return max(self.config.batch_sizes)

    @property
    def limits(self) -> StepLimits:
        """The limits of one step of a candidate."""
        return StepLimits(max(self.budget.left_s, MOMENT_S), self.memory_bytes)

    @property
    def sandbox_limits(self) -> parent.SandboxLimits:
        """The limits of the process that runs the user's training. Its address space is larger than its memory use."""
        return parent.SandboxLimits(self.source_memory_bytes, self.limits.seconds, "--budget")

    @property
    def _patience_s(self) -> float:
        return max(self.budget.remaining_s, self.budget.seconds)

    def build(self, candidate: Candidate, keep_float: tuple[str, ...] = ()) -> PassRecord:
        """Run the candidate's passes one after the other; applied options and messages add up."""
        ingredients: dict[str, Any] = {"reference": self.graph.parent.name, "seed": self.config.seed}
        ingredients |= {"calibration": self.data.calibration.sha256, "rows": self.data.note}
        ingredients |= {"machine": self.hardware.to_json()}
        ingredients |= {name: installed.version(name) for name in TOOLS}
        record = PassRecord(self.graph, {})
        for position, recipe in enumerate(candidate.recipe):
            # Layers in float are left out by every pass that lowers the precision.
            kept = (*self.keep_float, *keep_float) if passes.PASSES[recipe].keeps_float else ()
            # Only the options that the passes so far read: candidates with the same first steps share them.
            seen = frozenset().union(*(passes.PASSES[name].options for name in candidate.recipe[: position + 1]))
            options = {name: value for name, value in candidate.options.items() if name in seen}
            ingredients = {
                **ingredients, "recipe": candidate.recipe[: position + 1], "keep_float": kept, "options": options,
            }  # fmt: skip
            if position:
                # Retraining may give another network than the last time.
                ingredients["from"] = digest(record.path)
            record = self._step(recipe, options, record, kept, ingredients)
        return record

    def _step(
        self,
        recipe: str,
        options: Mapping[str, Option],
        before: PassRecord,
        keep_float: tuple[str, ...],
        ingredients: Mapping[str, Any],
    ) -> PassRecord:
        def make(directory: Path) -> PassRecord:
            where, how = (self.rows, before.path, directory), (dict(options), self.hardware, self.config.seed)
            if passes.PASSES[recipe].own_process:
                return _apply(recipe, where, how, keep_float, self.sandbox_limits)
            return isolation.call(replace(self.limits, heard=self.progress), _apply, recipe, where, how, keep_float)

        record = self.cache.record(ingredients, make)
        applied = {**before.applied, **record.applied}
        if keep_float:
            applied["kept_in_float"] = ", ".join(keep_float)
        record = replace(record, applied=applied, said=(*before.said, *record.said), base=record.base or before.base)
        if running.on_gpu(record.path):
            return replace(record, graph=before.path, forecast=before.twin, float_graph=before.float_graph)
        return record

    def outputs(self, path: Path, limit: int | None = None) -> dict[str, Array]:
        threads = max(self.config.threads)
        # Ranges that are computed in the run depend on the rows of the batch.
        how = {"limit": limit, "batch_size": self.batch_size, "threads": threads}
        ingredients = {**self._run_ingredients(path), **how}
        # The reference must run in any case, even if that takes the time of the candidates.
        limits = self.limits if path != self.reference else replace(self.limits, seconds=self._patience_s)

        def make() -> dict[str, Array]:
            return isolation.call(limits, _outputs, path, self.rows, self.batch_size, threads, limit)

        return self.cache.arrays(ingredients, make)

    def alone(self, path: Path) -> dict[str, Array]:
        threads = max(self.config.threads)
        ingredients = {**self._run_ingredients(path), "run": "alone", "threads": threads, "few": neighbours.ROWS}
        return self.cache.arrays(ingredients, lambda: isolation.call(self.limits, _alone, path, self.rows, threads))

    def served(self, path: Path, limit: int | None = None) -> dict[str, Array]:
        how = (self.batch_size, max(self.config.threads), self.config.seed, limit)
        ingredients = {**self._run_ingredients(path), "run": "served", "how": how}
        return self.cache.arrays(ingredients, lambda: isolation.call(self.limits, _served, path, self.rows, how))

    def _run_ingredients(self, path: Path) -> dict[str, Any]:
        """The parts of a cache key that all runs of a file share."""
        return {
            "outputs of": str(path),
            "rows": self.data.evaluation.sha256,
            "note": self.data.note,
            "running": asdict(running.of(path)),
            "runtime": installed.version("onnxruntime"),
            "seed": self.config.seed,
            # The path names the candidate, but not the data that its training read.
            "file": digest(path),
        }

    def check_lengths(self, path: Path, base: Path | None = None) -> str | None:
        if not self.probes:
            return None
        return isolation.call(self.limits, _check_lengths, path, base or self.graph, self.probes)

    def sensitivities(self, record: PassRecord) -> Sequence[Sensitivity]:
        if record.float_graph is None:
            return ()
        return isolation.call(self.limits, _rank, record.float_graph, record.graph or record.path, self.rows)

    def first_round(self, paths: Mapping[str, Path], focus: Focus) -> dict[Cell, Timing]:
        sizes = self.config.batch_sizes
        few = tuple(sorted({sizes[0], sizes[len(sizes) // 2]}))
        budget_s = FIRST_ROUND_SHARE * self.budget.measurement_s
        config = MeasurementConfig(
            few,
            (max(self.config.threads),),
            FIRST_ROUND_ROUNDS,
            budget_s,
            self.config.seed,
            FIRST_ROUND_OVERRUN * budget_s,
        )
        return benchmark.measure(paths, self.data.evaluation, config, self.progress, focus)

    def measure(self, paths: Mapping[str, Path], focus: Focus) -> dict[Cell, Timing]:
        budget_s = min(self.budget.measurement_s, max(MOMENT_S, self.budget.measuring_left_s))
        config = replace(self.config, budget_s=budget_s, limit_s=max(MOMENT_S, self.budget.measuring_left_s))
        return benchmark.measure(paths, self.data.evaluation, config, self.progress, focus)

    def time_left(self) -> bool:
        return self.budget.left_s > LEAST_S


def set_up(
    folder: Path,
    reference: Path,
    data: Split,
    machine: Hardware,
    config: MeasurementConfig,
    budget: Budget,
    memory_bytes: int,
    progress: benchmark.Progress,
    probes: tuple[Probe, ...] = (),
    source_memory_bytes: int = parent.SandboxLimits().memory_bytes,
    keep_float: tuple[str, ...] = (),
) -> LocalBuilder:
    """Write the reference and the rows into ``folder`` and return a builder over them.

    ``keep_float``: names of nodes or tensors that stay in float in every candidate. Raises BadInput for an unknown one.
    """
    # Children have another working directory.
    folder = folder.resolve()
    beside = external_data.beside(reference)
    key = hashlib.sha256("".join(map(digest, (reference, *beside))).encode()).hexdigest()
    home = folder / f"reference-{key[:16]}"
    home.mkdir(parents=True, exist_ok=True)
    placed = home / "float32.onnx"
    shutil.copyfile(reference, placed)
    for file in beside:
        external_data.place(file, reference.parent, home)
    rows = folder / "rows"
    dataset.store(data.evaluation, rows / "evaluation")
    dataset.store(data.calibration, rows / "calibration")
    on_device = _on_device(placed, data.evaluation, config) if machine.gpu else None
    return LocalBuilder(
        SearchCache(folder / "candidates"), placed, rows, data, machine, config, budget, memory_bytes, progress, probes,
        source_memory_bytes, passes.tensors_of(placed, keep_float), on_device,
    )  # fmt: skip


def _on_device(placed: Path, data: Dataset, config: MeasurementConfig) -> Path:
    """The reference on CUDA, in float32 without TF32."""
    directory = placed.parent / "cuda"
    directory.mkdir(exist_ok=True)
    return cuda_from_onnx.place(placed, directory, data, config.batch_sizes)


def _apply(
    recipe: str,
    where: tuple[Path, Path, Path],
    how: tuple[Mapping[str, Option], Hardware, int],
    keep_float: tuple[str, ...],
    limits: parent.SandboxLimits | None = None,
) -> PassRecord:
    """Run one pass, in the child. ``where``: rows, source and directory; ``how``: options, machine and seed."""
    rows, source, directory = where
    options, machine, seed = how
    calibration = dataset.stored(rows / "calibration")
    return passes.PASSES[recipe].load()(
        PassJob(source, directory, options, calibration, machine, seed, keep_float, limits)
    )


def _check_lengths(path: Path, reference: Path, probes: tuple[Probe, ...]) -> str | None:
    """Compare a candidate with the reference at other lengths than those of the data, in the child."""
    for probe in probes:
        rows = Dataset(probe.inputs, None, "")
        try:
            got, expected = (evaluate.outputs(file, rows, rows.rows, 1) for file in (path, reference))
        except SlipwayError as error:
            raise PassFailed(f"it does not run at {probe}: {error}") from error
        incomparable = gates.incomparable(got, expected)
        if incomparable:
            raise PassFailed(f"{incomparable}, at {probe}")
        noisy = gates.too_noisy(got, expected, Cover(None, classes=False))
        if noisy:
            return f"{noisy}, at {probe}"
    return None


def _outputs(path: Path, rows: Path, batch_size: int, threads: int, limit: int | None) -> dict[str, Array]:
    """The outputs for the evaluation rows, in the child."""
    return evaluate.outputs(path, dataset.stored(rows / "evaluation"), batch_size, threads, limit)


def _alone(path: Path, rows: Path, threads: int) -> dict[str, Array]:
    """The outputs of rows that run alone, in the child."""
    return neighbours.alone(path, dataset.stored(rows / "evaluation"), threads)


def _served(path: Path, rows: Path, how: tuple[int, int, int, int | None]) -> dict[str, Array]:
    """The outputs of rows among neighbours, in the child. ``how``: batch size, threads, seed and limit."""
    return neighbours.served(path, dataset.stored(rows / "evaluation"), *how)


def _rank(float_graph: Path, lower: Path, rows: Path) -> tuple[Sensitivity, ...]:
    """The layers ranked by the noise that they add, in the child."""
    try:
        return sensitivity.rank(float_graph, lower, dataset.stored(rows / "calibration"))
    except (KeyError, ValueError, RuntimeError) as error:
        raise PassFailed(f"its layers cannot be compared: {error}") from error
