"""The session of a model on GPUs: closed shapes, each warmed and captured before the first request.

Every run is one of the buckets. Rows are rounded up to a bucket by repeating the last row, lengths by the padding's
value; what was added is cut off the outputs. A CUDA graph of a bucket replaces its launches by one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import fields
from queue import SimpleQueue
from threading import Lock

import numpy as np

from ..artifact import VariableAxis
from ..errors import BrokenArtifact, ModelFailed, OutOfMemory, SlipwayError, UnprocessableInput
from ..target import ClosedShapes
from ..tensors import Array, ModelSpec, TensorSpec, describe_shape
from .cuda import CudaError, classified
from .lanes import Device, DeviceCounters, Lane, Program, Region, Shape, Slot, fill, taken_out

log = logging.getLogger("slipway.device")

LANES = 2
"""Buffer sets of a program: one is copied while the other one computes."""

WARM_RUNS = 2
"""Runs before a capture: in them libraries allocate and choose, which is not allowed during a capture."""

ALIKE = 1e-2
"""A replayed graph must give the same answer up to this share of the largest value: reductions may reorder."""

Bucket = tuple[int, int]


class DeviceSession:
    """A model on one or several GPUs. Several threads may call ``run`` at once; each takes a free lane."""

    def __init__(
        self,
        programs: Sequence[Program],
        shapes: ClosedShapes,
        padding: VariableAxis | None,
        *,
        lanes: int = LANES,
        graphs: bool = True,
    ) -> None:
        """Warm every bucket on every lane. Buckets that do not fit into device memory are dropped, with a warning.

        Raises BrokenArtifact where the model has axes that the shapes do not close, OutOfMemory if no bucket fits, or
        the error of the model.
        """
        self.spec: ModelSpec = programs[0].spec
        reason = open_axes(self.spec, padding)
        if reason:
            raise BrokenArtifact(reason)
        self._programs = programs
        filled = padding.inputs if padding is not None else {}
        self._padded = [filled.get(one.name, (0, 0.0)) for one in self.spec.inputs]
        cut = padding.outputs if padding is not None else {}
        self._cut = [cut.get(one.name, 0) for one in self.spec.outputs]
        self.shapes = ClosedShapes(shapes.rows if self.spec.batchable else (0,), shapes.lengths if padding else ())
        self.graphless = "" if graphs else "graphs are off"
        """Why no CUDA graph is used; empty where every bucket has one."""
        self.pads_rows = True
        """Whether rows are rounded up. False for a model whose rows depend on each other: an added row would change
        the answer, so that every other number of rows runs in a shape of its own."""
        self._lanes: list[Lane] = []
        self._free: SimpleQueue[Lane] = SimpleQueue()
        self._open = True
        try:
            for program in programs:
                self._prepare(program, lanes, graphs)
        except BaseException:
            self.close()
            raise
        for lane in self._lanes:
            self._free.put(lane)

    def run(self, batch: Sequence[Array]) -> list[Array]:
        """As ``Session.run``. Raises DeviceLost where the process can never use the device again."""
        if not self._open:
            raise ModelFailed("this model has been unloaded")
        bucket, rows, length = self._bucket(batch)
        lane = self._free.get()
        try:
            with faults_of(lane.device, lane.settle):
                lane.device.use()
                if bucket[0] != rows and not self.pads_rows:
                    return lane.compute(batch)
                slot = lane.slots[bucket]
                self._fill(slot, batch)
                lane.run(slot)
                lane.counters.padded_rows += bucket[0] - rows
            return [
                taken_out(view, one.dtype, rows, axis, length)
                for view, one, axis in zip(slot.outputs.views, self.spec.outputs, self._cut, strict=True)
            ]
        finally:
            self._free.put(lane)

    def close(self) -> None:
        """Free all device memory. A device that was lost frees nothing."""
        self._open = False
        ends = [*(lane.close for lane in self._lanes), *(program.close for program in self._programs)]
        for end in ends:
            with suppress(CudaError):
                end()
        self._lanes, self._programs = [], []

    @property
    def devices(self) -> list[Device]:
        """The devices of the session, one for each program."""
        return [one.device for one in self._programs]

    def counters(self) -> DeviceCounters:
        """The counters of all lanes together."""
        total = DeviceCounters()
        for lane in self._lanes:
            for one in fields(DeviceCounters):
                setattr(total, one.name, getattr(total, one.name) + getattr(lane.counters, one.name))
        return total

    def _bucket(self, batch: Sequence[Array]) -> tuple[Bucket, int, int]:
        """The bucket of a batch, its rows (0: no batch axis) and its length (0: nothing is padded)."""
        spec, shapes = self.spec, self.shapes
        rows = len(batch[0]) if spec.batchable else 0
        length = next((array.shape[axis] for array, (axis, _) in zip(batch, self._padded, strict=True) if axis), 0)
        for array, one, (axis, _) in zip(batch, spec.inputs, self._padded, strict=True):
            fits = array.dtype == one.dtype.numpy and one.accepts(array.shape)
            if not fits or (axis and array.shape[axis] != length) or (rows and len(array) != rows):
                raise UnprocessableInput(
                    f"the input {one.name!r} must be {one.dtype.name} {describe_shape(one.shape)}, it is "
                    f"{array.dtype} {describe_shape(array.shape)}"
                )
        bucket = shapes.rows_for(rows) if rows else 0, shapes.length_for(length) if length else 0
        if rows and not bucket[0] and self.pads_rows:
            raise UnprocessableInput(f"{rows} rows are more than the {shapes.rows[-1]} that the model takes at once")
        if length and not bucket[1]:
            raise UnprocessableInput(f"the length {length} exceeds the largest of this model, {shapes.lengths[-1]}")
        return bucket, rows, length

    def _fill(self, slot: Slot, batch: Sequence[Array]) -> None:
        for view, array, one, padded in zip(slot.inputs.views, batch, self.spec.inputs, self._padded, strict=True):
            fill(view, array, one.dtype, *padded)

    def _prepare(self, program: Program, lanes: int, graphs: bool) -> None:
        """Open the lanes of a program and warm every bucket in each."""
        program.device.use()
        planned = self._planned(program)
        enqueue = Lock()
        for _ in range(lanes):
            lane = Lane(program, enqueue)
            self._lanes.append(lane)
            with faults_of(program.device):
                lane.allocate(*_largest(self.spec, planned))
                for bucket, (inputs, outputs) in planned.items():
                    self._warm(lane, lane.add(bucket, inputs, outputs), graphs)
            lane.counters = DeviceCounters()

    def _planned(self, program: Program) -> dict[Bucket, tuple[list[Shape], list[Shape]]]:
        """The input and output shapes of all buckets that fit; each is run once, the largest first."""
        planned: dict[Bucket, tuple[list[Shape], list[Shape]]] = {}
        refused: OutOfMemory | None = None
        for bucket in self.shapes.buckets():
            inputs = [
                self._shape(one, bucket, axis) for one, (axis, _) in zip(self.spec.inputs, self._padded, strict=True)
            ]
            try:
                with faults_of(program.device):
                    planned[bucket] = inputs, _tried(program, inputs)
            except OutOfMemory as error:
                refused = error
                log.warning("bucket does not fit into device memory rows=%d length=%d", *bucket)
        if not planned:
            assert refused is not None
            raise refused
        if refused is not None:
            self.shapes = _kept(self.shapes, planned)
            planned = {bucket: planned[bucket] for bucket in self.shapes.buckets()}
        return planned

    def _shape(self, one: TensorSpec, bucket: Bucket, axis: int) -> Shape:
        shape = list(one.shape)
        if self.spec.batchable:
            shape[0] = bucket[0]
        if axis:
            shape[axis] = bucket[1]
        return tuple(shape)

    def _warm(self, lane: Lane, slot: Slot, graphs: bool) -> None:
        """Run a bucket until nothing is allocated any more, and capture its graph."""
        _fill_evenly(slot, 0)
        for _ in range(WARM_RUNS):
            lane.run(slot)
        if graphs:
            reason = _capture(lane, slot)
            if reason:
                self.graphless = reason
                log.warning("no graph of a bucket reason=%r; its kernels are launched one by one", reason)


@contextmanager
def faults_of(device: Device, settle: Callable[[], None] | None = None) -> Iterator[None]:
    """Turn whatever a runtime raises into DeviceLost, OutOfMemory or ModelFailed, after ``settle``."""
    try:
        yield
    except SlipwayError:
        raise
    except Exception as error:
        failure = classified(error, device.failure())
        if settle is not None:
            with suppress(CudaError):
                settle()
        raise failure from error


def open_axes(spec: ModelSpec, padding: VariableAxis | None) -> str:
    """Why the shapes of a model cannot be closed; empty where they can."""
    padded = padding.inputs if padding is not None else {}
    cut = padding.outputs if padding is not None else {}
    named = {name for one in spec.inputs for name in one.axes if name}
    for one in (*spec.inputs, *spec.outputs):
        if one.dtype.itemsize == 0:
            return f"{one.name!r} holds texts, which a GPU cannot compute with"
    for one in spec.inputs:
        for axis in _free(one, spec.batchable):
            if one.name not in padded or padded[one.name][0] != axis:
                return f"axis {axis} of {one.name!r} has any size, and nothing pads it"
    for one in spec.outputs:
        for axis in _free(one, spec.batchable):
            name = one.axes[axis] if axis < len(one.axes) else ""
            if cut.get(one.name) != axis and name not in named:
                return f"the size of axis {axis} of the output {one.name!r} may depend on the values of the inputs"
    return ""


def _free(one: TensorSpec, batchable: bool) -> list[int]:
    """The axes of any size, without the batch axis."""
    return [axis for axis, size in enumerate(one.shape) if size == -1 and not (batchable and axis == 0)]


def _capture(lane: Lane, slot: Slot) -> str:
    """Capture the graph of a bucket, and compare its answer with that of plain launches. Returns why there is none."""
    device, stream = lane.device, lane.program.stream
    try:
        device.begin_capture(stream)
        try:
            slot.launch()
        finally:
            graph = device.end_capture(stream)
    except Exception as error:  # noqa: BLE001 - whatever a runtime raises: the bucket runs without a graph
        device.failure()
        return " ".join(str(error).split())[:200]
    _fill_evenly(slot, 1)
    lane.run(slot)
    plain = [view.copy() for view in slot.outputs.views]
    slot.graph = graph
    lane.run(slot)
    if all(_alike(one, other) for one, other in zip(plain, slot.outputs.views, strict=True)):
        return ""
    slot.graph = 0
    device.end_graph(graph)
    return "the graph gives another answer than the launches"


def _alike(one: Array, other: Array) -> bool:
    if one.dtype.kind != "f" or not one.size:
        return np.array_equal(one, other)
    finite = np.abs(one[np.isfinite(one)], dtype=np.float64)
    largest = float(finite.max()) if finite.size else 0.0
    return np.allclose(one.astype(np.float64), other.astype(np.float64), ALIKE, ALIKE * largest, equal_nan=True)


def _fill_evenly(slot: Slot, seed: int) -> None:
    """Inputs of which every embedding and category has a row: normal floats, integers 0 or 1."""
    random = np.random.default_rng(seed)
    for view in slot.inputs.views:
        floats = view.dtype.kind == "f"
        view[...] = random.standard_normal(view.shape) if floats else random.integers(0, 2, view.shape)


def _tried(program: Program, shapes: list[Shape]) -> list[Shape]:
    """The output shapes of a bucket, found with inputs of zeros."""
    region = Region(program.spec.inputs, shapes)
    device = program.device
    block, address = device.pin(region.size), 0
    try:
        address = device.allocate(region.size)
        block[:] = 0
        region.place(address, block)
        device.copy_in(address, region.host, region.size, program.stream)
        found = program.output_shapes(region.tensors())
        device.finish(program.stream)
        return found
    finally:
        if address:
            device.free(address)
        device.unpin(block)


def _largest(spec: ModelSpec, planned: dict[Bucket, tuple[list[Shape], list[Shape]]]) -> tuple[int, int]:
    """Bytes of the inputs and outputs of the largest bucket."""
    return (
        max(Region(spec.inputs, inputs).size for inputs, _ in planned.values()),
        max(Region(spec.outputs, outputs).size for _, outputs in planned.values()),
    )


def _kept(shapes: ClosedShapes, fitting: dict[Bucket, tuple[list[Shape], list[Shape]]]) -> ClosedShapes:
    """The shapes without the rows and lengths that do not fit: first rows are given up, then lengths."""
    lengths = shapes.lengths or (0,)
    rows = tuple(one for one in shapes.rows if all((one, length) in fitting for length in lengths))
    if rows:
        return ClosedShapes(rows, shapes.lengths)
    least = shapes.rows[0]
    return ClosedShapes((least,), tuple(length for length in shapes.lengths if (least, length) in fitting))
