"""The lanes of a device: each a stream with pinned and device buffers, through which one batch at a time goes.

While one lane computes, the next one is filled and copied to the device. All buckets of a lane use the same memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, fields
from threading import Lock
from typing import Protocol

import numpy as np

from ..tensors import BF16, Array, DType, ModelSpec, TensorSpec, bfloat16_of_float32, float32_of_bfloat16

ALIGNMENT = 256
"""Bytes to which tensors are aligned, as the CUDA runtime aligns its own blocks."""

Shape = tuple[int, ...]
Launch = Callable[[], None]
"""Enqueues one run, whose buffers and stream are fixed, and does not wait for it."""


class Device(Protocol):
    """One GPU, as ``cuda.CudaDevice``."""

    @property
    def ordinal(self) -> int: ...
    def use(self) -> None: ...
    def memory(self) -> tuple[int, int]: ...
    def allocate(self, size: int) -> int: ...
    def free(self, address: int) -> None: ...
    def pin(self, size: int) -> Array: ...
    def unpin(self, block: Array) -> None: ...
    def stream(self) -> int: ...
    def end_stream(self, stream: int) -> None: ...
    def event(self) -> int: ...
    def end_event(self, event: int) -> None: ...
    def record(self, event: int, stream: int) -> None: ...
    def follow(self, stream: int, event: int) -> None: ...
    def elapsed_ns(self, first: int, second: int) -> int: ...
    def copy_in(self, to: int, source: int, size: int, stream: int) -> None: ...
    def copy_out(self, to: int, source: int, size: int, stream: int) -> None: ...
    def finish(self, stream: int) -> None: ...
    def begin_capture(self, stream: int) -> None: ...
    def end_capture(self, stream: int) -> int: ...
    def replay(self, graph: int, stream: int) -> None: ...
    def end_graph(self, graph: int) -> None: ...
    def failure(self) -> int: ...


@dataclass(frozen=True, slots=True)
class DeviceTensor:
    """A tensor in device memory."""

    name: str
    dtype: DType
    shape: Shape
    address: int


class Program(Protocol):
    """A model on one device. Everything that it enqueues goes to ``stream``."""

    @property
    def spec(self) -> ModelSpec: ...
    @property
    def device(self) -> Device: ...
    @property
    def stream(self) -> int: ...

    def output_shapes(self, inputs: Sequence[DeviceTensor]) -> list[Shape]:
        """The shapes of the outputs for these inputs, in the order of ``spec.outputs``; may run the model."""
        ...

    def bind(self, inputs: Sequence[DeviceTensor], outputs: Sequence[DeviceTensor]) -> Launch:
        """A run with these buffers. Launches of one program are not called at once."""
        ...

    def compute(self, batch: Sequence[Array]) -> list[Array]:
        """Run once on arrays in host memory, in any shape. Raises UnprocessableInput where only buckets can run."""
        ...

    def close(self) -> None:
        """Free what the program holds on the device."""
        ...


@dataclass(slots=True)
class DeviceCounters:
    """What the runs of one lane did and took, as the device measured it. ``open_runs``: in a shape that was not
    warmed."""

    runs: int = 0
    open_runs: int = 0
    replays: int = 0
    launches: int = 0
    copied_in_bytes: int = 0
    copied_out_bytes: int = 0
    padded_rows: int = 0
    copy_in_ns: int = 0
    compute_ns: int = 0
    copy_out_ns: int = 0


def summed(counters: Iterable[DeviceCounters]) -> dict[str, int]:
    """The sums of several counters, by name."""
    total = dict.fromkeys((one.name for one in fields(DeviceCounters)), 0)
    for each in counters:
        for name in total:
            total[name] += getattr(each, name)
    return total


@dataclass(slots=True)
class Region:
    """Tensors that lie one after another, in device memory and in pinned memory alike: one copy moves all of them."""

    specs: Sequence[TensorSpec]
    shapes: list[Shape]
    starts: list[int] = field(default_factory=list)
    size: int = 0
    address: int = 0
    host: int = 0
    views: list[Array] = field(default_factory=list)

    def __post_init__(self) -> None:
        for spec, shape in zip(self.specs, self.shapes, strict=True):
            self.starts.append(self.size)
            self.size += -(-math.prod(shape) * spec.dtype.itemsize // ALIGNMENT) * ALIGNMENT

    def place(self, address: int, block: Array) -> None:
        """Put the region at the beginning of a device block and of a pinned block."""
        self.address, self.host = address, block.ctypes.data
        self.views = []
        for spec, shape, start in zip(self.specs, self.shapes, self.starts, strict=True):
            dtype = np.dtype(np.uint16) if spec.dtype is BF16 else spec.dtype.numpy
            end = start + math.prod(shape) * dtype.itemsize
            self.views.append(block[start:end].view(dtype).reshape(shape))

    def tensors(self) -> list[DeviceTensor]:
        return [
            DeviceTensor(spec.name, spec.dtype, shape, self.address + start)
            for spec, shape, start in zip(self.specs, self.shapes, self.starts, strict=True)
        ]


@dataclass(slots=True)
class Slot:
    """One bucket in one lane: where its tensors lie, and how it is run."""

    inputs: Region
    outputs: Region
    launch: Launch
    graph: int = 0


class Lane:
    """One stream and one set of buffers of a program."""

    def __init__(self, program: Program, enqueue: Lock) -> None:
        """``enqueue`` is held while a run of the program is enqueued: runs share the program's scratch memory, so that
        the kernels of two runs must not alternate in its stream."""
        self.program = program
        self.device = program.device
        self.slots: dict[tuple[int, int], Slot] = {}
        self.counters = DeviceCounters()
        self._enqueue = enqueue
        self._stream = self.device.stream()
        self._events = [self.device.event() for _ in range(5)]
        self._address = self._out_address = 0
        self._block: Array | None = None
        self._out_block: Array | None = None

    def allocate(self, in_bytes: int, out_bytes: int) -> None:
        """Make room for the largest bucket."""
        device = self.device
        self._address, self._out_address = device.allocate(in_bytes), device.allocate(out_bytes)
        self._block, self._out_block = device.pin(in_bytes), device.pin(out_bytes)

    def add(self, bucket: tuple[int, int], inputs: list[Shape], outputs: list[Shape]) -> Slot:
        """Bind a bucket to the buffers."""
        assert self._block is not None
        assert self._out_block is not None
        spec = self.program.spec
        taken, given = Region(spec.inputs, inputs), Region(spec.outputs, outputs)
        taken.place(self._address, self._block)
        given.place(self._out_address, self._out_block)
        slot = Slot(taken, given, self.program.bind(taken.tensors(), given.tensors()))
        self.slots[bucket] = slot
        return slot

    def run(self, slot: Slot) -> None:
        """Copy the inputs in, compute, copy the outputs out, and wait for them."""
        device, stream, compute = self.device, self._stream, self.program.stream
        begun, copied, started, computed, ended = self._events
        device.record(begun, stream)
        device.copy_in(slot.inputs.address, slot.inputs.host, slot.inputs.size, stream)
        device.record(copied, stream)
        with self._enqueue:
            device.follow(compute, copied)
            device.record(started, compute)
            if slot.graph:
                device.replay(slot.graph, compute)
            else:
                slot.launch()
            device.record(computed, compute)
        device.follow(stream, computed)
        device.copy_out(slot.outputs.host, slot.outputs.address, slot.outputs.size, stream)
        device.record(ended, stream)
        device.finish(stream)
        counters = self.counters
        counters.runs += 1
        counters.replays += bool(slot.graph)
        counters.launches += not slot.graph
        counters.copied_in_bytes += slot.inputs.size
        counters.copied_out_bytes += slot.outputs.size
        counters.copy_in_ns += device.elapsed_ns(begun, copied)
        counters.compute_ns += device.elapsed_ns(started, computed)
        counters.copy_out_ns += device.elapsed_ns(computed, ended)

    def compute(self, batch: Sequence[Array]) -> list[Array]:
        """Run a batch in a shape of its own."""
        with self._enqueue:
            outputs = self.program.compute(batch)
        self.counters.open_runs += 1
        return outputs

    def drop_graphs(self) -> None:
        """Launch the kernels of all buckets one by one from now on."""
        self.device.use()
        for slot in self.slots.values():
            if slot.graph:
                self.device.end_graph(slot.graph)
                slot.graph = 0

    def settle(self) -> None:
        """Wait until nothing uses the buffers, after a run that failed while it was enqueued."""
        self.device.finish(self.program.stream)
        self.device.finish(self._stream)

    def close(self) -> None:
        """Free buffers, graphs, events and stream."""
        device = self.device
        self.drop_graphs()
        self.slots.clear()
        for address in (self._address, self._out_address):
            if address:
                device.free(address)
        for block in (self._block, self._out_block):
            if block is not None:
                device.unpin(block)
        for event in self._events:
            device.end_event(event)
        device.end_stream(self._stream)
        self._address = self._out_address = 0
        self._block = self._out_block = None
        self._events = []


def fill(view: Array, parts: Sequence[Array], dtype: DType, axis: int, value: float) -> None:
    """Copy the rows of all parts into a bucket's input: each part is filled up with ``value`` along ``axis`` (0: none),
    and further rows repeat the last one."""
    start = 0
    for array in parts:
        source = bfloat16_of_float32(array) if dtype is BF16 else array
        if not array.ndim or source.shape == view.shape:
            view[...] = source
            return
        part = view[start : start + len(array)]
        if axis and array.shape[axis] < view.shape[axis]:
            length, before = array.shape[axis], (slice(None),) * axis
            part[(*before, slice(length))] = source
            filler = bfloat16_of_float32(np.array(value, np.float32)) if dtype is BF16 else value
            part[(*before, slice(length, None))] = filler
        else:
            part[...] = source
        start += len(array)
    view[start:] = view[start - 1]


def taken_out(view: Array, dtype: DType, rows: int, axis: int, length: int) -> Array:
    """A copy of a bucket's output: the first ``rows`` rows (0: all), cut to ``length`` along ``axis`` (0: not cut)."""
    cut = view[:rows] if rows else view
    if axis:
        cut = cut[(*(slice(None),) * axis, slice(length))]
    return float32_of_bfloat16(cut) if dtype is BF16 else np.array(cut)
