"""Device memory of the closed shapes: what each takes on the GPU besides the weights, seen from outside."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from server.backends import BackendOptions, loader
from server.system import gpu
from server.target import BucketBytes, ClosedShapes

Used = Callable[[], int]
"""Bytes of the GPU's memory that are used now."""


def buckets(path: Path, backend: str, options: BackendOptions, weight_bytes: int, uuid: str) -> tuple[BucketBytes, ...]:
    """The device memory of every number of rows at the largest length, of the shapes in ``options``; the GPU is that
    with ``uuid``.

    For a child process: the first session creates what all of the process share, and is not counted.
    """
    if options.shapes is None:
        raise ValueError(f"{path.name} runs in open shapes")

    def opened(rows: int, length: int) -> Callable[[], None]:
        shapes = ClosedShapes((rows,), (length,) if length else ())
        return loader(backend)(path, replace(options, shapes=shapes)).close

    return measure(opened, options.shapes, weight_bytes, lambda: _used(uuid))


def measure(
    opened: Callable[[int, int], Callable[[], None]], shapes: ClosedShapes, weight_bytes: int, used: Used
) -> tuple[BucketBytes, ...]:
    """``opened`` loads the model for one bucket and returns what unloads it."""
    length = max(shapes.lengths, default=0)
    opened(shapes.rows[0], length)()
    found = []
    for rows in shapes.rows:
        before = used()
        close = opened(rows, length)
        taken = used() - before
        close()
        found.append(BucketBytes(rows, length, max(0, taken - weight_bytes)))
    return tuple(found)


def _used(uuid: str) -> int:
    devices: Sequence[gpu.Gpu] = gpu.read().devices
    return next((one.used_bytes for one in devices if one.uuid == uuid), 0)
