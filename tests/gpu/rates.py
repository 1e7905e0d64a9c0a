"""Stages: the rates of bare sessions, the search of convolution algorithms, and the peaks of the device."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from . import sessions
from .networks import MINILM, NETWORKS, RESNET, Network
from .record import NotRun, Record
from .stages import Place

BATCHES = (1, 8, 32, 128)
SEARCHES = ("HEURISTIC", "EXHAUSTIVE", "DEFAULT")
VARIANTS: tuple[tuple[str, str, dict[str, str]], ...] = (
    ("float32", "float32", {}),
    ("tf32", "float32", {"use_tf32": "1"}),
    ("float16", "float16", {}),
    ("bfloat16", "bfloat16", {}),
    ("fused-float16", "fused-float16", {}),
)
"""Name, file, and options of the provider."""


def rates(place: Place, record: Record) -> None:
    """Rows a second by arrays of numpy, by bound buffers, by a graph, and by a graph with its copies."""
    batches = BATCHES if place.device == "cuda" else (1, 4)
    for network in NETWORKS:
        for name, file, options in VARIANTS:
            if not network.path(place, file).exists() or (not place.on_gpu and name not in ("float32", "float16")):
                continue
            search = {"cudnn_conv_algo_search": "HEURISTIC"} if place.on_gpu else {}
            try:
                _variant(place, record, network, name, file, {**options, **search}, batches)
            except NotRun:
                raise
            except Exception as error:  # noqa: BLE001 - one variant that fails costs one variant
                record.check(f"{network.name} {name}: runs", False, " ".join(str(error).split())[:300])


def _variant(
    place: Place, record: Record, network: Network, name: str, file: str, options: dict[str, str], batches: Any
) -> None:
    path = network.path(place, file)
    plain = sessions.open_session(place, path, **options)
    graphs = sessions.open_session(place, path, enable_cuda_graph="1", **options) if place.on_gpu else None
    for number, batch in enumerate(batches, 1):
        feeds = network.feeds(batch, place)
        label = f"{network.name} {name} batch {batch}"
        wanted = sessions.run(plain, feeds)
        _rate(record, f"{label}: numpy", batch, partial(sessions.run, plain, feeds))
        bound = sessions.bind(place, plain, feeds, wanted, graph=None)
        _rate(record, f"{label}: bound", batch, bound.compute)
        if graphs is not None:
            captured = sessions.bind(place, graphs, feeds, wanted, graph=number)
            _rate(record, f"{label}: graph", batch, captured.compute)
            _rate(record, f"{label}: graph and copies", batch, partial(captured.whole, feeds))
            decibels = sessions.signal_to_noise_db(wanted, captured.copy_out())
            record.check(f"{label}: graph and launches agree", decibels > 40, f"{decibels:.0f} dB", of_values=True)
    if graphs is None:
        record.check(f"{network.name} {name}: answers", bool(np.isfinite(wanted[0]).all()), of_values=True)


def _rate(record: Record, name: str, rows: int, action: Callable[[], object]) -> None:
    record.figure(name, rows / sessions.seconds(action, at_least_s=0.12), "rows/s")


def search(place: Place, record: Record) -> None:
    """How long the first run of a new shape takes, and the runs after it, by the way of the convolution search."""
    if not place.on_gpu:
        raise NotRun("only the CUDA provider searches")
    for precision in ("float16", "float32"):
        for way in SEARCHES:
            begun = time.perf_counter()
            session = sessions.open_session(place, RESNET.path(place, precision), cudnn_conv_algo_search=way)
            name = f"resnet50 {precision} {way}"
            record.figure(f"{name}: open", (time.perf_counter() - begun) * 1e3, "ms")
            for batch in (8, 9, 32):
                feeds = RESNET.feeds(batch, place)
                begun = time.perf_counter()
                out = sessions.run(session, feeds)
                record.figure(f"{name} batch {batch}: first run", (time.perf_counter() - begun) * 1e3, "ms")
                bound = sessions.bind(place, session, feeds, out, graph=None)
                record.figure(f"{name} batch {batch}: warm", sessions.seconds(bound.compute, 0.1) * 1e3, "ms")
            record.check(f"{name}: answers", bool(np.isfinite(out[0]).all()), of_values=True)


def peaks(place: Place, record: Record) -> None:
    """The rates of copies and matrix products that torch reaches: what other figures are a share of."""
    if place.device != "cuda":
        raise NotRun("it needs a GPU and torch")
    import torch

    size = 8192
    for name, dtype, tf32 in (
        ("float32", torch.float32, False),
        ("TF32", torch.float32, True),
        ("float16", torch.float16, False),
        ("bfloat16", torch.bfloat16, False),
    ):
        torch.backends.cuda.matmul.allow_tf32 = tf32
        left, right = (torch.randn(size, size, device="cuda", dtype=dtype) for _ in range(2))
        took = _device_seconds(torch, partial(torch.matmul, left, right), 5)
        record.figure(f"matrix product {size}, {name}", 2 * size**3 / took / 1e12, "TFLOP/s")
        del left, right
    torch.backends.cuda.matmul.allow_tf32 = False
    block = torch.empty(4 << 30, dtype=torch.uint8, device="cuda")
    other = torch.empty_like(block)
    took = _device_seconds(torch, lambda: other.copy_(block), 5)
    record.figure("copy on the device, read and written", 2 * block.numel() / took / 1e12, "TB/s")
    pinned = torch.empty(256 << 20, dtype=torch.uint8, pin_memory=True)
    there = torch.empty_like(pinned, device="cuda")
    for name, action in (
        ("to the device, pinned", lambda: there.copy_(pinned, non_blocking=True)),
        ("to the host, pinned", lambda: pinned.copy_(there, non_blocking=True)),
    ):
        record.figure(f"copy {name}", pinned.numel() / _device_seconds(torch, action, 5) / 1e9, "GB/s")
    pageable = torch.empty(256 << 20, dtype=torch.uint8)
    took = _device_seconds(torch, lambda: there.copy_(pageable), 3)
    record.figure("copy to the device, pageable", pageable.numel() / took / 1e9, "GB/s")
    record.check(
        "the device answers",
        bool(torch.isfinite(torch.ones(2, 2, device="cuda") @ torch.ones(2, 2, device="cuda")).all()),
    )


def _device_seconds(torch: Any, action: Callable[[], object], times: int) -> float:
    """Seconds of one action between two events of the device."""
    action()
    torch.cuda.synchronize()
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    for _ in range(times):
        action()
    end.record()
    torch.cuda.synchronize()
    return float(begin.elapsed_time(end)) / 1e3 / times


def inductor(place: Place, record: Record) -> None:
    """Both networks compiled in half precision by the pass of optimize: their parity, and their rate with a CUDA graph.

    Inputs and outputs are float32.
    """
    if place.device != "cuda":
        raise NotRun("it compiles for a GPU")
    compilers = [name for name in ("g++", "c++", "clang++") if shutil.which(name)]
    if not compilers:
        raise NotRun("AOTInductor needs a C++ compiler, and this host has none")
    record.fact("C++ compilers", ", ".join(compilers))
    for network in (MINILM, RESNET):
        _compiled(place, record, network, 32)


def _compiled(place: Place, record: Record, network: Network, batch: int) -> None:
    import torch

    from optimize.passes.aoti_from_torch import compile_package

    from .networks import module

    built, feeds = module(network), network.feeds(batch, place)
    tensors = [torch.from_numpy(value) for value in feeds.values()]
    with torch.inference_mode():
        wanted = [built(*tensors).numpy()]
    package, begun = place.work / f"{network.name}.pt2", time.perf_counter()
    compile_package(built, feeds, package, "cuda", torch.float16, (batch,), {}, ())
    record.figure(f"{network.name}: compile", time.perf_counter() - begun, "s")
    loader = torch._C._aoti.AOTIModelPackageLoader(str(package), "model", True, 1, 0)
    given = [one.cuda() for one in tensors]
    found = loader.run(given)[0].cpu().numpy()
    decibels = sessions.signal_to_noise_db(wanted, [found])
    record.check(f"{network.name}: half precision", decibels > 35, f"{decibels:.1f} dB against float32 on the CPU")
    took = _device_seconds(torch, partial(loader.run, given), 20)
    record.figure(f"{network.name} batch {batch}: launches", batch / took, "rows/s")
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        held = loader.run(given)
    took = _device_seconds(torch, graph.replay, 20)
    record.figure(f"{network.name} batch {batch}: graph", batch / took, "rows/s")
    again = sessions.signal_to_noise_db([found], [held[0].cpu().numpy()])
    record.check(f"{network.name}: the graph agrees", again > 60, f"{again:.0f} dB")
