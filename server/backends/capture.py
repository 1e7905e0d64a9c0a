"""The capture of one bucket's CUDA graph, which is used only if it gives the answer of plain launches."""

from __future__ import annotations

import numpy as np

from ..tensors import Array
from .lanes import Lane, Slot

ALIKE = 1e-2
"""A replayed graph must give the same answer up to this share of the largest value: reductions may reorder."""


def capture(lane: Lane, slot: Slot) -> str:
    """Capture the graph of a bucket that has been warmed. Returns why there is none; empty where there is one."""
    device, stream = lane.device, lane.program.stream
    try:
        device.begin_capture(stream)
        try:
            slot.launch()
        finally:
            slot.graph = device.end_capture(stream)
    except Exception as error:  # noqa: BLE001 - whatever a runtime raises: the bucket runs without a graph
        device.failure()
        slot.graph = 0
        return " ".join(str(error).split())[:200]
    return ""


def confirm(lane: Lane, slot: Slot) -> str:
    """Compare the graph of a bucket with plain launches, on other inputs than those of its capture. Returns why it is
    given up; empty where it stays.

    To be called when all buckets have been captured. The replay comes first: a graph may read a table in host memory
    that the runs of other buckets have overwritten since.
    """
    if not slot.graph:
        return ""
    fill_evenly(slot, 1)
    lane.run(slot)
    replayed, graph = [view.copy() for view in slot.outputs.views], slot.graph
    slot.graph = 0
    lane.run(slot)
    if all(_alike(one, other) for one, other in zip(slot.outputs.views, replayed, strict=True)):
        slot.graph = graph
        return ""
    lane.device.end_graph(graph)
    return "the graph gives another answer than the launches"


def _alike(one: Array, other: Array) -> bool:
    if one.dtype.kind != "f" or not one.size:
        return np.array_equal(one, other)
    finite = np.abs(one[np.isfinite(one)], dtype=np.float64)
    largest = float(finite.max()) if finite.size else 0.0
    return np.allclose(one.astype(np.float64), other.astype(np.float64), ALIKE, ALIKE * largest, equal_nan=True)


def fill_evenly(slot: Slot, seed: int) -> None:
    """Inputs of which every embedding and category has a row: normal floats, integers 0 or 1."""
    random = np.random.default_rng(seed)
    for view in slot.inputs.views:
        floats = view.dtype.kind == "f"
        view[...] = random.standard_normal(view.shape) if floats else random.integers(0, 2, view.shape)
