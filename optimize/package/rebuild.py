"""Rebuilding: an engine for the GPU and the libraries of this host, from the ONNX file that travels with it."""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from server import artifact
from server.artifact import Artifact, CostPoint, Manifest
from server.target import BucketBytes, DeviceTarget

from ..errors import BadInput
from ..evaluation import evaluate
from ..evaluation.dataset import Dataset, storable
from ..passes import engine, engine_from_onnx, twin
from ..passes.engine import BuildConfig
from ..sandbox import isolation
from ..sandbox.isolation import StepLimits
from ..sources import external_data
from ..target import ENGINES, RTX, Target
from . import device_memory, report
from .artifact import REPORT, staged
from .verify import Verified, has_evidence, opening, samples, verify

MEMORY_S = 600.0
"""Most seconds for measuring the device memory of all shapes."""

Check = Callable[[Path], Verified]
"""Runs the samples of an artifact and times it, on this host."""

Memory = Callable[[Artifact, str], tuple[BucketBytes, ...]]
"""The device memory of every closed shape of an artifact, on the GPU with this UUID."""


def memory_of(found: Artifact, uuid: str) -> tuple[BucketBytes, ...]:
    """Measured in a child process."""
    manifest = found.manifest
    limits = StepLimits(MEMORY_S, isolation.available_memory())
    how = manifest.backend, opening(manifest), manifest.device.bytes, uuid
    return isolation.call(limits, device_memory.buckets, found.model_path, *how)


def rebuild(
    path: Path, here: Target, graph: Path | None, check: Check = verify, memory: Memory = memory_of
) -> Artifact:
    """Replace the engine of the artifact at ``path`` by one for ``here``, and its recorded times and device memory by
    those of this host.

    ``graph``: an ONNX file with new weights for the same network, in the same number formats. They are put into an
    engine that was built to take them and runs here; else the engine is built anew. The answers of the samples then
    become those of the new weights. Raises BadInput for an artifact that has no engine, or whose number format this GPU
    lacks, PassFailed as the builder, and BrokenArtifact if the engine gives other answers than those recorded. The
    artifact then stays as it was.
    """
    found = artifact.read(path)
    artifact.verify(found)
    manifest = found.manifest
    if manifest.device.kind not in ENGINES or manifest.shapes is None:
        raise BadInput(f"{path} has no engine: only artifacts of --target tensorrt are built for one kind of GPU")
    if here.sm < manifest.device.least_sm:
        raise BadInput(f"its number format needs SM {manifest.device.least_sm}, and this GPU has SM {here.sm}")
    trt = importlib.import_module(here.module)
    with staged(path, force=True) as root:
        _copied(path, root, {artifact.MANIFEST, engine_from_onnx.PLAN})
        if graph is not None:
            _place(graph, root)
            _sample(root, manifest)
        device = replace(
            manifest.device,
            kind=here.engine,
            sm=here.sm,
            least_driver=here.least_driver,
            versions={here.module: trt.__version__},
        )
        refitted = graph is not None and _refitted(trt, path, root, manifest.device, device)
        if not refitted:
            _build(trt, root, manifest, device)
        device = replace(device, bytes=(root / engine_from_onnx.PLAN).stat().st_size)
        record = {"weights_replaced": graph is not None, "refitted": refitted}
        written = _written(root, manifest, device, record, here)
        finished = _measured(written, check(root), memory(written, here.gpu.uuid if here.gpu else ""))
    return Artifact(path, finished.manifest)


def _build(trt: Any, root: Path, manifest: Manifest, device: DeviceTarget) -> None:
    """Build the engine of the graph in ``root``, for the shapes of the manifest."""
    before, shapes = manifest.device, manifest.shapes
    assert shapes is not None
    if (before.versions, before.sm) != (device.versions, device.sm):
        (root / engine_from_onnx.TIMING_CACHE).unlink(missing_ok=True)
    config = BuildConfig(sm=device.sm if device.kind == RTX else 0, refittable=device.refittable)
    engine_from_onnx.make(trt, root, shapes.rows, shapes.lengths, config)


def _copied(source: Path, target: Path, without: set[str]) -> None:
    shutil.copytree(source, target, ignore=lambda _, names: without & set(names), dirs_exist_ok=True)


def _place(graph: Path, root: Path) -> None:
    """Put a new graph with its weights in the place of the one in ``root``."""
    for file in external_data.beside(root / engine_from_onnx.GRAPH):
        file.unlink()
    engine_from_onnx.place_graph(graph, root)


def _sample(root: Path, manifest: Manifest) -> None:
    """Rewrite the answers of the samples to those of the graph in ``root``, which rounds as its number formats do."""
    inputs, _ = samples(root)
    judged = twin.write(root / engine_from_onnx.GRAPH, root / "twin.onnx")
    rows = max(len(array) for array in inputs.values())
    outputs = evaluate.outputs(judged, Dataset(inputs, None, ""), rows, 1)
    arrays = {f"input:{name}": storable(array) for name, array in inputs.items()}
    arrays |= {f"output:{name}": storable(outputs[name]) for name in (one.name for one in manifest.spec.outputs)}
    np.savez(root / artifact.SAMPLES, **arrays)  # type: ignore[arg-type]  # the stub mixes up arrays and allow_pickle
    judged.unlink()


def _refitted(trt: Any, path: Path, root: Path, before: DeviceTarget, now: DeviceTarget) -> bool:
    """Put the new weights into the engine, if it runs here and was built to take them."""
    if not before.refittable or (before.kind, before.sm, before.versions) != (now.kind, now.sm, now.versions):
        return False
    plan = (path / engine_from_onnx.PLAN).read_bytes()
    refitted = engine.refit(trt, plan, root / engine_from_onnx.GRAPH)
    (root / engine_from_onnx.PLAN).write_bytes(refitted)
    return True


def _written(
    root: Path, manifest: Manifest, device: DeviceTarget, changes: Mapping[str, Any], here: Target
) -> Artifact:
    """Write the manifest of the new engine. ``rebuilds`` keeps all records: evidence from before other weights stays
    recognizable."""
    record = {
        "rebuilt": datetime.now(UTC).isoformat(timespec="seconds"),
        "gpu": here.gpu.to_json() if here.gpu else None,
        **changes,
    }
    provenance = {**manifest.provenance, "rebuilds": [*manifest.provenance.get("rebuilds", []), record]}
    return artifact.write(root, replace(manifest, backend=device.kind, device=device, provenance=provenance))


def _measured(written: Artifact, found: Verified, memory: tuple[BucketBytes, ...]) -> Artifact:
    """Write manifest and report with the times and the device memory of this host; the 95th percentile keeps its ratio
    to the median."""
    here = {speed.batch_size: speed.here_us for speed in found.speeds}
    cost = tuple(
        CostPoint(
            one.batch_size,
            round(here[one.batch_size], 2),
            round(here[one.batch_size] * one.p95_us / max(one.p50_us, 1e-9), 2),
        )
        for one in written.manifest.cost
    )
    assert written.manifest.shapes is not None
    manifest = replace(written.manifest, cost=cost, shapes=replace(written.manifest.shapes, bytes=memory))
    if has_evidence(manifest):
        (written.root / REPORT).write_text(report.render(manifest), encoding="utf-8")
    return artifact.write(written.root, manifest)
