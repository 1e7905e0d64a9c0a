"""The candidates of GPUs for the four models: the files that their passes write, made once for all tests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from optimize.evaluation.dataset import Dataset
from optimize.hardware import Gpu, Hardware
from optimize.passes import PASSES, PassJob, PassRecord, cuda_from_onnx
from optimize.search.candidates import Candidate
from optimize.search.gpu_candidates import ENGINE, GPU_CANDIDATES
from optimize.search.selection import completed
from optimize.target import CUDA, TENSORRT

from . import models

ROWS = (1, 4)
CALIBRATION_ROWS = 2
L4 = Gpu("NVIDIA L4", "GPU-0", 89, "580.95.05", 23034 << 20)
HARDWARE = Hardware("Abacus 3", "x86_64", ("avx2",), 2, L4)
FLOAT32 = "cuda_float32"
"""The baseline, which is no row of the table."""

GIVEN = {"rows": ",".join(str(rows) for rows in ROWS), "engine": "tensorrt_rtx", "module": "tensorrt_rtx_bindings"}
CANDIDATES = {row.name: row for row in completed(GPU_CANDIDATES, GIVEN)}
ON_CUDA = (FLOAT32, *(name for name, row in CANDIDATES.items() if row.target == CUDA))
ENGINES = tuple(name for name, row in CANDIDATES.items() if row.target == TENSORRT)


@dataclass(slots=True)
class Workshop:
    """Runs passes in this process, in ``folder``; candidates with the same first passes share their files."""

    folder: Path
    made: dict[tuple[object, ...], PassRecord] = field(default_factory=dict)

    def on_cuda(self, model: str, candidate: str) -> Path:
        """The file that ONNX Runtime runs on CUDA."""
        if candidate == FLOAT32:
            return cuda_from_onnx.place(models.file(model), self._new(), data_of(model), ROWS)
        return self._through(model, CANDIDATES[candidate], len(CANDIDATES[candidate].recipe)).path

    def for_engine(self, model: str, candidate: str) -> Path:
        """The graph that TensorRT builds: what the passes before the last one write."""
        row = CANDIDATES[candidate]
        assert row.recipe[-1] == ENGINE
        return self._through(model, row, len(row.recipe) - 1).path

    def fused(self, model: str) -> Path:
        """The float32 graph with operators of ONNX Runtime's own domain."""
        row = CANDIDATES["cuda_fused_float16"]
        return self._through(model, row, 1).path

    def _through(self, model: str, row: Candidate, count: int) -> PassRecord:
        if not count:
            return PassRecord(models.file(model), {})
        recipe = row.recipe[:count]
        read = frozenset().union(*(PASSES[name].options for name in recipe))
        options = {name: value for name, value in row.options.items() if name in read}
        key = (model, recipe, tuple(sorted(options.items())))
        if key not in self.made:
            before = self._through(model, row, count - 1)
            self.made[key] = _applied(recipe[-1], before.path, self._new(), options, data_of(model))
        return self.made[key]

    def _new(self) -> Path:
        folder = self.folder / str(len(list(self.folder.iterdir())))
        folder.mkdir()
        return folder


def data_of(model: str) -> Dataset:
    return Dataset(models.MODELS[model].rows(CALIBRATION_ROWS), None, "")


def _applied(
    name: str, source: Path, folder: Path, options: Mapping[str, str | int | bool], data: Dataset
) -> PassRecord:
    return PASSES[name].load()(PassJob(source, folder, options, data, HARDWARE, seed=0))
