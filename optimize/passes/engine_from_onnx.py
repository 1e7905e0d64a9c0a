"""Pass: an engine of TensorRT for the GPU of this host, with the ONNX file and the timing cache that rebuild it."""

from __future__ import annotations

import importlib
import json
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import PassFailed
from ..sandbox import isolation
from ..sources import external_data
from ..target import RTX
from . import PassJob, PassRecord, engine, profiles, running
from .engine import BuildConfig, Built
from .running import Running

PLAN, GRAPH, TIMING_CACHE, LAYERS = "model.plan", "model.onnx", "timing.cache", "layers.json"
"""The files of an engine: what is loaded, what it is rebuilt from, and what its inspector says."""


def apply(job: PassJob) -> PassRecord:
    """``engine`` and ``module``: the kind and the module that builds it. ``rows``: the closed numbers of rows, as 1,8.
    ``refittable``: other weights can be put into it.

    Raises PassFailed as :func:`engine.build`, and where the engine does not load.
    """
    if job.hardware.gpu is None:
        raise PassFailed("an engine is built on the GPU that it runs on, and this host has none")
    sm, kind, module = job.hardware.gpu.sm, str(job.options["engine"]), str(job.options["module"])
    trt = importlib.import_module(module)
    shared = job.workdir.parent / f"timing-sm{sm}-{trt.__name__}-{trt.__version__}.cache"
    axes, length = running.free_length(job.reference, job.calibration)
    rows = running.rows(job.options)
    config = BuildConfig(sm=sm if kind == RTX else 0, refittable=bool(job.options.get("refittable")))
    place_graph(job.reference, job.workdir)
    if shared.is_file():
        shutil.copyfile(shared, job.workdir / TIMING_CACHE)
    built, layers = make(trt, job.workdir, rows, running.closed_lengths(length), config)
    shutil.copyfile(job.workdir / TIMING_CACHE, shared)
    plan = job.workdir / PLAN
    versions = {module: str(trt.__version__)}
    running.mark(plan, Running(kind, kind, {}, rows, axes, length, sm, versions, refittable=config.refittable))
    applied = {
        "engine": f"{trt.__name__} {trt.__version__}",
        "sm": sm,
        "plan_bytes": len(built.plan),
        **counted(layers),
    }
    applied["types"] = ", ".join(f"{name} {count}" for name, count in built.layers.items())
    return PassRecord(plan, applied, built.said)


def make(
    trt: Any, directory: Path, rows: Sequence[int], lengths: Sequence[int], config: BuildConfig
) -> tuple[Built, list[dict[str, Any]]]:
    """Build the graph in ``directory`` with the timing cache there, write plan, timing cache and layers beside it, and
    return the engine and its layers. Raises PassFailed as :func:`engine.build`."""
    cache = directory / TIMING_CACHE
    built = engine.build(
        trt,
        directory / GRAPH,
        lambda shapes: profiles.of(shapes, rows, lengths),
        config,
        isolation.report,
        cache.read_bytes() if cache.is_file() else b"",
    )
    (directory / PLAN).write_bytes(built.plan)
    cache.write_bytes(built.timing_cache)
    layers = engine.layers_of(trt, built.plan)
    (directory / LAYERS).write_text(json.dumps(layers, indent=1), encoding="utf-8")
    return built, layers


def place_graph(source: Path, directory: Path) -> None:
    """Copy the ONNX file with its weights, because an engine is rebuilt from it on another host."""
    shutil.copyfile(source, directory / GRAPH)
    for file in external_data.beside(source):
        external_data.place(file, source.parent, directory)


def companions(directory: Path) -> tuple[Path, ...]:
    """The files that travel with a plan."""
    graph = directory / GRAPH
    return (graph, *external_data.beside(graph), directory / TIMING_CACHE, directory / LAYERS)


def counted(layers: Sequence[Mapping[str, Any]]) -> dict[str, str | int | bool]:
    """What the inspector's layers show: how many there are, and how many only change a format."""
    kinds = Counter(str(layer.get("LayerType", "unknown")) for layer in layers)
    reformats = sum(count for kind, count in kinds.items() if "reformat" in kind.lower())
    usual = ", ".join(f"{kind} {count}" for kind, count in kinds.most_common(6))
    return {"layers": len(layers), "reformat_layers": reformats, "layer_types": usual}
