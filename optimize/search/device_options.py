"""Device options: the search for convolutions and CUDA graphs, measured on the chosen candidate. Neither is guessed:
an exhaustive search costs time at load and may gain nothing, and graphs help where launches take as long as kernels."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..evaluation.bootstrap import Interval
from ..evaluation.dataset import Dataset
from ..passes import contains, running
from ..sources import external_data
from . import benchmark, decide
from .benchmark import MeasurementConfig, Progress
from .candidates import Option
from .decide import Objective
from .outcome import Outcome, Search
from .timing import Cell, Timing

SEARCH, GRAPHS = "cudnn_conv_algo_search", "graphs"
CONVOLUTIONS = frozenset({"Conv", "ConvTranspose", "FusedConv"})


@dataclass(frozen=True, slots=True)
class Variant:
    """One set of options, with its best speed over that of the first one. ``chosen``: the artifact has it."""

    options: Mapping[str, Option]
    speed_up: Interval
    chosen: bool

    def to_json(self) -> dict[str, Any]:
        return {"options": dict(self.options), "speed_up": self.speed_up.to_json(), "chosen": self.chosen}


def combinations(convolutions: bool) -> list[dict[str, Option]]:
    """The options to measure, those first that were used so far. Without convolutions there is nothing to search."""
    searches = ("HEURISTIC", "EXHAUSTIVE") if convolutions else ("HEURISTIC",)
    return [{SEARCH: search, GRAPHS: graphs} for search in searches for graphs in (True, False)]


def measure(
    found: Search, data: Dataset, directory: Path, config: MeasurementConfig, objective: Objective, progress: Progress
) -> tuple[Search, tuple[Variant, ...]]:
    """Measure the options of the chosen candidate, and return the search with the best of them, and all variants.

    A candidate that is not ONNX Runtime's on CUDA has none.
    """
    chosen = found.chosen
    if chosen.record is None or running.of(chosen.record.path).backend != "onnxruntime_cuda":
        return found, ()
    source = chosen.record.path
    options = combinations(contains(source, CONVOLUTIONS))
    names = [f"options {number}" for number in range(len(options))]
    paths = {
        name: _placed(source, directory / f"options-{number}", options[number]) for number, name in enumerate(names)
    }
    timings = benchmark.measure(paths, data, config, progress)
    cells = {name: decide.best_cell(timings, name, objective) for name in names}
    ratios = {name: decide.speed_up(timings, cells[name], cells[names[0]], config.seed) for name in names}
    best = fastest(names, ratios)
    variants = tuple(Variant(of, ratios[name], name == best) for name, of in zip(names, options, strict=True))
    return _with(found, chosen, paths[best], {cell: one for cell, one in timings.items() if cell.candidate == best}), (
        variants
    )


def fastest(names: list[str], ratios: Mapping[str, Interval]) -> str:
    """The first one, unless another one is shown to be faster by what makes a change worth it; then the fastest."""
    better = [name for name in names[1:] if ratios[name].low > 1 and ratios[name].value >= decide.WORTH_IT]
    return max(better, key=lambda name: ratios[name].value, default=names[0])


def _with(found: Search, chosen: Outcome, path: Path, timings: Mapping[Cell, Timing]) -> Search:
    """The search whose winner is ``path``, with its new times."""
    if chosen.record is None:
        raise ValueError(f"{chosen.name} has no file")
    updated = replace(chosen, record=replace(chosen.record, path=path))
    outcomes = tuple(updated if one is chosen else one for one in found.outcomes)
    retimed = {replace(cell, candidate=chosen.name): timing for cell, timing in timings.items()}
    return replace(found, outcomes=outcomes, timings={**found.timings, **retimed})


def _placed(source: Path, directory: Path, options: Mapping[str, Option]) -> Path:
    """A copy of ``source`` that runs with other options."""
    directory.mkdir(parents=True, exist_ok=True)
    target = directory / source.name
    shutil.copyfile(source, target)
    for file in external_data.beside(source):
        external_data.place(file, source.parent, directory)
    before = running.of(source)
    running.mark(target, replace(before, options={**before.options, **options}))
    return target
