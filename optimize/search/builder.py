"""The workbench: candidates built and run on real files, each in a process of its own, and remembered."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from server.artifact import digest
from server.errors import SlipwayError
from server.tensors import Array

from .. import passes
from ..errors import PassFailed
from ..evaluation import dataset, evaluate, gates
from ..evaluation.dataset import Dataset, Split
from ..hardware import Hardware
from ..passes import PassJob, PassRecord
from ..sandbox import isolation, parent
from ..sandbox.isolation import StepLimits
from ..sources.axes import Probe
from . import benchmark as measure
from . import sensitivity
from .benchmark import Cell, Focus, Plan, Timing
from .budget import Budget
from .cache import Memory
from .candidates import Candidate, Option
from .sensitivity import Sensitivity

TOOLS = ("onnx", "onnxscript", "onnx-ir", "onnxruntime", "numpy")
"""Libraries whose version changes what a pass makes."""

HEAT_SHARE = 0.15
HEAT_ROUNDS, HEAT_OVERRUN = 5, 2.0


LEAST_S = 1.0
"""With less than this a candidate is not begun: it would be ended half made."""

MOMENT_S = 1.0
"""What a step gets that begins just before the time of the candidates is over."""


@dataclass(frozen=True, slots=True)
class LocalWorkbench:
    """The search's workbench on this machine.

    ``folder`` holds the reference, the rows and everything built; a later search with the same folder takes from it
    what has the same ingredients. A child that runs out of memory or time, or crashes, fails as a pass does. The
    ``probes`` are rows at other lengths of the free axes than those of the data.
    """

    memory: Memory
    reference: Path
    rows: Path
    data: Split
    hardware: Hardware
    plan: Plan
    budget: Budget
    memory_bytes: int
    progress: measure.Progress
    probes: tuple[Probe, ...] = ()
    source_memory_bytes: int = parent.SandboxLimits().memory_bytes

    @property
    def batch_size(self) -> int:
        return max(self.plan.batch_sizes)

    @property
    def limits(self) -> StepLimits:
        """Of one step of a candidate."""
        return StepLimits(max(self.budget.left_s, MOMENT_S), self.memory_bytes)

    @property
    def confined(self) -> parent.SandboxLimits:
        """The same for a process that the user's training runs in. Its address space holds more than it uses."""
        return parent.SandboxLimits(self.source_memory_bytes, self.limits.seconds, "--budget")

    @property
    def _patience_s(self) -> float:
        return max(self.budget.remaining_s, self.budget.seconds)

    def build(self, candidate: Candidate, keep_float: tuple[str, ...] = ()) -> PassRecord:
        """Run the candidate's passes one after the other; what each applied and said adds up."""
        ingredients: dict[str, Any] = {"reference": self.reference.parent.name, "seed": self.plan.seed}
        ingredients |= {"calibration": self.data.calibration.sha256, "rows": self.data.note}
        ingredients |= {"machine": self.hardware.to_json()}
        ingredients |= {name: metadata.version(name) for name in TOOLS}
        record = PassRecord(self.reference, {})
        for position, recipe in enumerate(candidate.recipe):
            last = position == len(candidate.recipe) - 1
            kept = keep_float if last else ()
            # Only what the passes so far look at: candidates that begin alike share the steps that they begin with.
            seen = frozenset().union(*(passes.TAKES.get(name, ()) for name in candidate.recipe[: position + 1]))
            options = {name: value for name, value in candidate.options.items() if name in seen}
            ingredients = {
                **ingredients, "recipe": candidate.recipe[: position + 1], "keep_float": kept, "options": options,
            }  # fmt: skip
            if position:
                # What was trained again may be another network than the last time.
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
            where, how = (self.rows, before.path, directory), (dict(options), self.hardware, self.plan.seed)
            if recipe in passes.OWN_PROCESS:
                return _apply(recipe, where, how, keep_float, self.confined)
            return isolation.call(self.limits, _apply, recipe, where, how, keep_float)

        record = self.memory.record(ingredients, make)
        applied = {**before.applied, **record.applied}
        if keep_float:
            applied["kept_in_float"] = ", ".join(keep_float)
        return replace(record, applied=applied, said=(*before.said, *record.said), base=record.base or before.base)

    def outputs(self, path: Path, limit: int | None = None) -> dict[str, Array]:
        ingredients: dict[str, Any] = {
            "outputs of": str(path),
            "rows": self.data.evaluation.sha256,
            "note": self.data.note,
        }
        ingredients |= {"limit": limit, "runtime": metadata.version("onnxruntime"), "seed": self.plan.seed}
        threads = max(self.plan.threads)
        # Ranges that are found in the run depend on which rows share it.
        ingredients |= {"batch_size": self.batch_size, "threads": threads}
        # The path names the candidate, but not which data its own training read.
        ingredients |= {"file": digest(path)}

        # The reference has to be run in any case, and what it takes is taken from everything else.
        limits = self.limits if path != self.reference else replace(self.limits, seconds=self._patience_s)

        def make() -> dict[str, Array]:
            return isolation.call(limits, _outputs, path, self.rows, self.batch_size, threads, limit)

        return self.memory.arrays(ingredients, make)

    def elsewhere(self, path: Path, base: Path | None = None) -> str | None:
        if not self.probes:
            return None
        return isolation.call(self.limits, _elsewhere, path, base or self.reference, self.probes)

    def sensitivities(self, record: PassRecord) -> Sequence[Sensitivity]:
        if record.float_graph is None:
            return ()
        return isolation.call(self.limits, _rank, record.float_graph, record.path, self.rows)

    def heat(self, paths: Mapping[str, Path], focus: Focus) -> dict[Cell, Timing]:
        sizes = self.plan.batch_sizes
        few = tuple(sorted({sizes[0], sizes[len(sizes) // 2]}))
        budget_s = HEAT_SHARE * self.budget.measurement_s
        plan = Plan(few, (max(self.plan.threads),), HEAT_ROUNDS, budget_s, self.plan.seed, HEAT_OVERRUN * budget_s)
        return measure.measure(paths, self.data.evaluation, plan, self.progress, focus)

    def measure(self, paths: Mapping[str, Path], focus: Focus) -> dict[Cell, Timing]:
        budget_s = min(self.budget.measurement_s, max(MOMENT_S, self.budget.measuring_left_s))
        plan = replace(self.plan, budget_s=budget_s, limit_s=max(MOMENT_S, self.budget.measuring_left_s))
        return measure.measure(paths, self.data.evaluation, plan, self.progress, focus)

    def time_left(self) -> bool:
        return self.budget.left_s > LEAST_S


def set_up(
    folder: Path,
    reference: Path,
    data: Split,
    machine: Hardware,
    plan: Plan,
    budget: Budget,
    memory_bytes: int,
    progress: measure.Progress,
    probes: tuple[Probe, ...] = (),
    source_memory_bytes: int = parent.SandboxLimits().memory_bytes,
) -> LocalWorkbench:
    """Put the reference and the rows into ``folder`` and return the workbench that stands on them."""
    # The children work in a folder of their own.
    folder = folder.resolve()
    home = folder / f"reference-{digest(reference)[:16]}"
    home.mkdir(parents=True, exist_ok=True)
    placed = home / "float32.onnx"
    shutil.copyfile(reference, placed)
    rows = folder / "rows"
    dataset.store(data.evaluation, rows / "evaluation")
    dataset.store(data.calibration, rows / "calibration")
    return LocalWorkbench(
        Memory(folder / "candidates"), placed, rows, data, machine, plan, budget, memory_bytes, progress, probes,
        source_memory_bytes,
    )  # fmt: skip


def _apply(
    recipe: str,
    where: tuple[Path, Path, Path],
    how: tuple[Mapping[str, Option], Hardware, int],
    keep_float: tuple[str, ...],
    limits: parent.SandboxLimits | None = None,
) -> PassRecord:
    """In the child: one pass. ``where``: rows, source and directory; ``how``: options, machine and seed."""
    rows, source, directory = where
    options, machine, seed = how
    calibration = dataset.stored(rows / "calibration")
    return passes.resolve(recipe)(PassJob(source, directory, options, calibration, machine, seed, keep_float, limits))


def _elsewhere(path: Path, reference: Path, probes: tuple[Probe, ...]) -> str | None:
    """In the child: why a candidate, which is judged at the lengths of the data, is of no use at others."""
    for probe in probes:
        rows = Dataset(probe.inputs, None, "")
        try:
            got, expected = (evaluate.outputs(file, rows, rows.rows, 1) for file in (path, reference))
        except SlipwayError as error:
            raise PassFailed(f"it does not run at {probe}: {error}") from error
        misfit = gates.misfit(got, expected)
        if misfit:
            raise PassFailed(f"{misfit}, at {probe}")
        rough = gates.too_rough(got, expected, classifies=False)
        if rough:
            return f"{rough}, at {probe}"
    return None


def _outputs(path: Path, rows: Path, batch_size: int, threads: int, limit: int | None) -> dict[str, Array]:
    """In the child: the answers to the evaluation rows."""
    return evaluate.outputs(path, dataset.stored(rows / "evaluation"), batch_size, threads, limit)


def _rank(float_graph: Path, lower: Path, rows: Path) -> tuple[Sensitivity, ...]:
    """In the child: the layers by the noise that they add."""
    try:
        return sensitivity.rank(float_graph, lower, dataset.stored(rows / "calibration"))
    except (KeyError, ValueError, RuntimeError) as error:
        raise PassFailed(f"its layers cannot be compared: {error}") from error
