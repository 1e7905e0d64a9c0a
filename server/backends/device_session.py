"""The session of a model on GPUs: closed shapes, each warmed and captured before the first request.

Every run is one of the buckets. Rows are rounded up to a bucket by repeating the last row, lengths by the padding's
value; what was added is cut off the outputs. A CUDA graph of a bucket replaces its launches by one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from queue import SimpleQueue
from threading import Lock

from ..artifact import VariableAxis
from ..errors import BrokenArtifact, ModelFailed, OutOfMemory, SlipwayError, UnprocessableInput
from ..target import ClosedShapes
from ..tensors import BF16, Array, ModelSpec, TensorSpec, describe_shape
from .capture import capture, confirm, fill_evenly
from .cuda import CudaError, classified
from .lanes import Device, DeviceCounters, Lane, Program, Region, Shape, Slot, fill, summed, taken_out

log = logging.getLogger("slipway.device")

LANES = 2
"""Buffer sets of a program: one is copied while the other one computes."""

WARM_RUNS = 2
"""Runs before a capture: in them libraries allocate and choose, which is not allowed during a capture."""

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
        """Whether rows are rounded up."""
        self._lanes: list[Lane] = []
        self._free: SimpleQueue[Lane] = SimpleQueue()
        self._joined: dict[int, tuple[Lane, tuple[Array, ...]]] = {}
        self._open = True
        try:
            for program in programs:
                self._prepare(program, lanes, graphs)
        except BaseException:
            self.close()
            raise
        for lane in self._lanes:
            self._free.put(lane)

    def join(self, parts: Sequence[Sequence[Array]]) -> tuple[Array, ...]:
        """Copy the rows of several requests straight into the pinned memory of a free lane: one copy instead of two.

        Returns the joined arrays, for one call of :meth:`run`, which has to follow: the lane waits for it.
        """
        rows, length = sum(len(part[0]) for part in parts), 0
        for part in parts:
            length = max(length, self._checked(part)[1])
        bucket = self._bucket(rows, length)
        lane = self._free.get()
        try:
            slot = lane.slots[bucket]
            self._fill(slot, parts)
            joined = tuple(
                view[:rows][(*(slice(None),) * axis, slice(length))] if axis else view[:rows]
                for view, (axis, _) in zip(slot.inputs.views, self._padded, strict=True)
            )
        except BaseException:
            self._free.put(lane)
            raise
        self._joined[id(joined[0])] = lane, joined
        return joined

    def run(self, batch: Sequence[Array]) -> list[Array]:
        """As ``Session.run``. Raises DeviceLost where the process can never use the device again."""
        if not self._open:
            raise ModelFailed("this model has been unloaded")
        lane, _ = self._joined.pop(id(batch[0]), (None, ()))
        filled = lane is not None
        rows, length = self._checked(batch)
        if self.spec.batchable and not rows:
            return self._nothing(length)
        bucket = self._bucket(rows, length)
        lane = lane or self._free.get()
        try:
            with faults_of(lane.device, lane.settle):
                lane.device.use()
                if bucket[0] != rows and not self.pads_rows:
                    return lane.compute(batch)
                slot = lane.slots[bucket]
                if not filled:
                    self._fill(slot, [batch])
                lane.run(slot)
                lane.counters.padded_rows += bucket[0] - rows
            return [
                taken_out(view, one.dtype, rows, axis, length)
                for view, one, axis in zip(slot.outputs.views, self.spec.outputs, self._cut, strict=True)
            ]
        finally:
            self._free.put(lane)

    def _nothing(self, length: int) -> list[Array]:
        """The outputs of no rows."""
        slot = self._lanes[0].slots[self._bucket(1, length)]
        return [
            taken_out(view[:0], one.dtype, 0, axis, length)
            for view, one, axis in zip(slot.outputs.views, self.spec.outputs, self._cut, strict=True)
        ]

    def keep_rows(self) -> None:
        """Add no rows from now on: the rows of the model depend on each other, so that an added one would change the
        answer. A number of rows that is no bucket runs in a shape of its own, without a graph."""
        self.pads_rows = False
        self.graphless = "the rows of the model depend on each other"
        self._drop_graphs()

    def close(self) -> None:
        """Free all device memory. A device that was lost frees nothing."""
        self._open = False
        ends = [*(lane.close for lane in self._lanes), *(program.close for program in self._programs)]
        for end in ends:
            with suppress(CudaError):
                end()
        self._lanes, self._programs = [], []

    @property
    def joins(self) -> bool:
        """Whether :meth:`join` may be used: not for bfloat16 inputs, whose arrays differ from what the device reads."""
        return self.spec.batchable and all(one.dtype is not BF16 for one in self.spec.inputs)

    @property
    def closed_rows(self) -> tuple[int, ...]:
        """The only numbers of rows that run; empty where any number does, and for a model without a batch axis."""
        return self.shapes.rows if self.pads_rows and self.spec.batchable else ()

    def counters(self) -> DeviceCounters:
        """The counters of all lanes together."""
        return DeviceCounters(**summed(lane.counters for lane in self._lanes))

    def _checked(self, batch: Sequence[Array]) -> tuple[int, int]:
        """The rows of a batch (0: no batch axis) and its length (0: nothing is padded). Raises UnprocessableInput."""
        rows = len(batch[0]) if self.spec.batchable else 0
        length = next((array.shape[axis] for array, (axis, _) in zip(batch, self._padded, strict=True) if axis), 0)
        for array, one, (axis, _) in zip(batch, self.spec.inputs, self._padded, strict=True):
            fits = array.dtype == one.dtype.numpy and one.accepts(array.shape)
            if not fits or (axis and array.shape[axis] != length) or (rows and len(array) != rows):
                raise UnprocessableInput(
                    f"the input {one.name!r} must be {one.dtype.name} {describe_shape(one.shape)}, it is "
                    f"{array.dtype} {describe_shape(array.shape)}"
                )
        return rows, length

    def _bucket(self, rows: int, length: int) -> Bucket:
        """The bucket of so many rows and this length. Raises UnprocessableInput where none is large enough."""
        shapes = self.shapes
        bucket = shapes.rows_for(rows) if rows else 0, shapes.length_for(length) if length else 0
        if rows and not bucket[0] and self.pads_rows:
            raise UnprocessableInput(f"{rows} rows are more than the {shapes.rows[-1]} that the model takes at once")
        if length and not bucket[1]:
            raise UnprocessableInput(f"the length {length} exceeds the largest of this model, {shapes.lengths[-1]}")
        return bucket

    def _fill(self, slot: Slot, parts: Sequence[Sequence[Array]]) -> None:
        for at, (view, one, padded) in enumerate(zip(slot.inputs.views, self.spec.inputs, self._padded, strict=True)):
            fill(view, [part[at] for part in parts], one.dtype, *padded)

    def _prepare(self, program: Program, lanes: int, graphs: bool) -> None:
        """Open the lanes of a program and warm every bucket in each."""
        program.device.use()
        planned = self._planned(program)
        enqueue = Lock()
        opened = [Lane(program, enqueue) for _ in range(lanes)]
        self._lanes += opened
        with faults_of(program.device):
            for lane in opened:
                lane.allocate(*_largest(self.spec, planned))
                for bucket, (inputs, outputs) in planned.items():
                    self._warm(lane, lane.add(bucket, inputs, outputs), graphs)
            for lane in opened:
                for slot in lane.slots.values():
                    self._without_graph(confirm(lane, slot))
                lane.counters = DeviceCounters()
        if self.graphless:
            self._drop_graphs()

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
        fill_evenly(slot, 0)
        for _ in range(WARM_RUNS):
            lane.run(slot)
        if graphs:
            self._without_graph(capture(lane, slot))

    def _without_graph(self, reason: str) -> None:
        """A bucket has no graph, if there is a reason."""
        if reason and reason != self.graphless:
            self.graphless = reason
            log.warning("no CUDA graphs reason=%r; kernels are launched one by one", reason)

    def _drop_graphs(self) -> None:
        """Give up all graphs: launches between replays may overwrite host memory that the graphs read again."""
        for lane in self._lanes:
            lane.drop_graphs()


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
