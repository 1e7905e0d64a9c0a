"""Reads and steers the fake GPUs of this process: launches, copies, memory; devices and faults."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass, fields
from functools import cache


@dataclass(frozen=True, slots=True)
class Counters:
    """Counts since start or :func:`reset`, outside of graphs; ``captured_launches`` counts what captures recorded.
    ``allocated_bytes``, ``peak_allocated_bytes`` and ``pinned_bytes`` are states, which a reset keeps."""

    kernel_launches: int
    captured_launches: int
    graph_launches: int
    captures: int
    copies_to_device: int
    copies_to_host: int
    copies_on_device: int
    bytes_to_device: int
    bytes_to_host: int
    bytes_on_device: int
    device_allocations: int
    device_frees: int
    host_allocations: int
    host_frees: int
    allocated_bytes: int
    peak_allocated_bytes: int
    pinned_bytes: int
    synchronizations: int
    stream_creations: int
    event_creations: int
    refused_in_capture: int
    pageable_async_copies: int


class _Counters(ctypes.Structure):
    """``fake_counters`` of ``native/state.h``, whose order is that of :class:`Counters`."""

    _fields_ = [(field.name, ctypes.c_uint64) for field in fields(Counters)]


@cache
def library() -> ctypes.CDLL:
    """The library that owns the state. Raises OSError outside of the fake environment, which loads it."""
    return ctypes.CDLL("libfakegpu.so")


def read() -> Counters:
    counts = _Counters.in_dll(library(), "fake_gpu_counts")
    return Counters(*(int(getattr(counts, field.name)) for field in fields(Counters)))


def reset() -> None:
    """Counts start at 0."""
    library().fake_gpu_reset_counts()


def configure(devices: str) -> None:
    """Replace the devices, in the form of ``FAKE_GPUS``. What is allocated on them is forgotten."""
    if library().fake_gpu_configure(devices.encode()):
        raise ValueError(f"a field of {devices!r} is not known")


def fail(code: int, after_launches: int = 0) -> None:
    """From the launch with that number on every call of CUDA fails with ``code``; 0 ends it."""
    library().fake_gpu_fail(code, ctypes.c_long(after_launches))
