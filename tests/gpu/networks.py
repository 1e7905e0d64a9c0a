"""Stages: ResNet-50 and MiniLM with seeded weights, exported and cast; and what their twins forecast."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from . import sessions
from .record import Record
from .stages import Place

LENGTH = 128
WITHIN_DB = 3.0
"""How far the forecast of a twin may be from what the device shows."""


@dataclass(frozen=True, slots=True)
class Network:
    """``feeds``: random inputs of so many rows. ``axes``: the free axes besides the batch, as (input, axis).

    ``precisions``: what it is cast to. ONNX Runtime 1.31 has no bfloat16 convolution for CUDA.
    """

    name: str
    feeds: Callable[[int, Place], dict[str, Any]]
    axes: tuple[tuple[str, int], ...]
    output: str
    precisions: tuple[str, ...]

    def path(self, place: Place, precision: str = "float32") -> Path:
        return place.work / f"{self.name}-{precision}.onnx"


def images(rows: int, place: Place) -> dict[str, Any]:
    """Float32 [rows, 3, side, side]; 224 wide on a GPU, 64 in a rehearsal."""
    side = 224 if place.device == "cuda" else 64
    return {"image": np.random.default_rng(5).standard_normal((rows, 3, side, side)).astype(np.float32)}


def texts(rows: int, place: Place) -> dict[str, Any]:
    """Token ids and mask, int64 [rows, 128]; every row has an end of its own."""
    random = np.random.default_rng(6)
    ids = random.integers(1, 30_000, (rows, LENGTH)).astype(np.int64)
    ends = random.integers(LENGTH // 2, LENGTH + 1, (rows, 1))
    return {"input_ids": ids, "attention_mask": (np.arange(LENGTH)[None] < ends).astype(np.int64)}


RESNET = Network("resnet50", images, (), "scores", ("float16",))
MINILM = Network("minilm", texts, (("input_ids", 1), ("attention_mask", 1)), "embedding", ("float16", "bfloat16"))
NETWORKS = (RESNET, MINILM)


def module(network: Network) -> Any:
    """The torch module, seeded. Statistics and scales of batch normalisation are random, as after training."""
    import torch

    from tests.benchmarks.optimize.networks import minilm, resnet50

    torch.manual_seed(14)
    made: Any = resnet50() if network is RESNET else minilm(None)
    for part in made.modules():
        if isinstance(part, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(part.weight)
        if isinstance(part, torch.nn.BatchNorm2d):
            assert part.running_var is not None
            assert part.running_mean is not None
            part.running_mean.uniform_(-0.1, 0.1)
            part.running_var.uniform_(0.8, 1.2)
            torch.nn.init.uniform_(part.weight, 0.3, 0.6)
    return made.eval()


def export(place: Place, record: Record) -> None:
    """Export both networks, and cast them with the project's passes."""
    from optimize.sources.axes import Axis
    from optimize.sources.torch_module import export_module

    for network in NETWORKS:
        axes = [Axis(name, position, "tokens") for name, position in network.axes]
        built = module(network)
        export_module(built, network.feeds(2, place), (network.output,), axes, network.path(place))
        reference = sessions.open_session(Place("cpu", place.work), network.path(place))
        feeds = network.feeds(2, place)
        told = [built(*_tensors(feeds)).detach().numpy()]
        decibels = sessions.signal_to_noise_db(told, sessions.run(reference, feeds))
        record.check(f"{network.name}: exported", decibels > 80, f"{decibels:.0f} dB against torch on the CPU")
        for precision in network.precisions:
            _cast(place, record, network, precision)
        if network is MINILM:
            _fuse(place, record, network)


def _tensors(feeds: dict[str, Any]) -> list[Any]:
    import torch

    return [torch.from_numpy(value) for value in feeds.values()]


def _job(place: Place, network: Network, source: Path, name: str, options: dict[str, Any]) -> Any:
    """What a pass is given: the graph, an empty folder, and four rows to observe ranges on."""
    from optimize import hardware
    from optimize.evaluation.dataset import Dataset
    from optimize.passes import PassJob

    folder = place.work / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    data = Dataset(network.feeds(4, place), None, "")
    return PassJob(source, folder, options, data, hardware.detect(), 14)


def _cast(place: Place, record: Record, network: Network, precision: str, base: str = "float32") -> None:
    """Half precision by the project's pass; the file and its twin get the network's name."""
    from optimize.passes import half_from_float32

    target = precision if base == "float32" else f"{base}-{precision}"
    job = _job(place, network, network.path(place, base), f"{network.name}-{target}", {"to": precision})
    done = half_from_float32.apply(job)
    done.path.replace(network.path(place, target))
    assert done.twin is not None
    done.twin.replace(network.path(place, f"{target}-twin"))
    record.fact(f"{network.name} {target}", dict(done.applied))
    record.check(f"{network.name}: cast to {target}", int(done.applied["cast_nodes"]) > 0, done.applied["cast_nodes"])


def _fuse(place: Place, record: Record, network: Network) -> None:
    from optimize.passes import fused_from_float32

    done = fused_from_float32.apply(_job(place, network, network.path(place), f"{network.name}-fused", {}))
    done.path.replace(network.path(place, "fused"))
    record.fact(f"{network.name} fused", dict(done.applied))
    _cast(place, record, network, "float16", "fused")


def twins(place: Place, record: Record) -> None:
    """The signal-to-noise that a twin shows on the CPU is that of the half-precision file on the device."""
    for network in NETWORKS:
        feeds = network.feeds(8 if place.device == "cuda" else 2, place)
        on_cpu = Place("cpu", place.work)
        reference = sessions.run(sessions.open_session(on_cpu, network.path(place)), feeds)
        exact = sessions.run(sessions.open_session(place, network.path(place)), feeds)
        decibels = sessions.signal_to_noise_db(reference, exact)
        record.check(f"{network.name}: float32 on the device", decibels >= 80, f"{decibels:.1f} dB", of_values=True)
        for precision in network.precisions:
            twin = sessions.open_session(on_cpu, network.path(place, f"{precision}-twin"))
            forecast = sessions.signal_to_noise_db(reference, sessions.run(twin, feeds))
            _measured(place, record, network, precision, reference, feeds, forecast)


def _measured(
    place: Place, record: Record, network: Network, precision: str, reference: Any, feeds: Any, forecast: float
) -> None:
    name = f"{network.name} {precision}"
    record.figure(f"{name}: forecast of the twin", forecast, "dB")
    try:
        session = sessions.open_session(place, network.path(place, precision))
    except Exception as error:  # noqa: BLE001 - a CPU has no bfloat16 kernels; a GPU must have them
        record.check(f"{name}: opens", not place.on_gpu, " ".join(str(error).split())[:300])
        return
    left = sessions.compute_on_cpu(session) if place.on_gpu else []
    record.check(f"{name}: no node computes on the CPU", not left, left or "none")
    shown = sessions.signal_to_noise_db(reference, sessions.run(session, feeds))
    record.figure(f"{name}: on the device", shown, "dB")
    if place.on_gpu:
        close = abs(shown - forecast) <= WITHIN_DB
        record.check(
            f"{name}: the twin forecasts it", close, f"{forecast:.1f} dB forecast, {shown:.1f} dB shown", of_values=True
        )
