"""A fake GPU: device memory, streams and graphs as the CUDA runtime has them, and a program that computes there.

Everything is in order on one thread: enqueued work runs at once, except during a capture, which records it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from server.backends.cuda import CudaError
from server.backends.lanes import DeviceTensor, Launch, Shape
from server.errors import UnprocessableInput
from server.tensors import Array, ModelSpec

ILLEGAL_ADDRESS, MEMORY = 700, 2


class FakeDevice:
    """``total``: bytes of its memory. ``lose()``: every later call fails with 700."""

    def __init__(self, total: int = 1 << 30, ordinal: int = 0) -> None:
        self.ordinal = ordinal
        self.total = total
        self.blocks: dict[int, Array] = {}
        self.pinned: dict[int, Array] = {}
        self.graphs: dict[int, list[Callable[[], None]]] = {}
        self.streams: set[int] = set()
        self.events: set[int] = set()
        self.launches = self.replays = self.copies = 0
        self.capturing: list[Callable[[], None]] | None = None
        self.lost = False
        self._next = 4096

    def lose(self) -> None:
        self.lost = True

    def use(self) -> None:
        self._check("cudaSetDevice")

    def memory(self) -> tuple[int, int]:
        return self.total - sum(len(block) for block in self.blocks.values()), self.total

    def allocate(self, size: int) -> int:
        self._check("cudaMalloc")
        assert self.capturing is None, "cudaMalloc is not allowed during a capture"
        if size > self.memory()[0]:
            raise CudaError("cudaMalloc", MEMORY, "cudaErrorMemoryAllocation")
        address = self._handle(size)
        self.blocks[address] = np.full(size, 0xAA, np.uint8)
        return address

    def free(self, address: int) -> None:
        self._check("cudaFree")
        del self.blocks[address]

    def pin(self, size: int) -> Array:
        self._check("cudaHostAlloc")
        block: Array = np.full(size, 0xBB, np.uint8)
        self.pinned[block.ctypes.data] = block
        return block

    def unpin(self, block: Array) -> None:
        del self.pinned[block.ctypes.data]

    def stream(self) -> int:
        stream = self._handle(1)
        self.streams.add(stream)
        return stream

    def end_stream(self, stream: int) -> None:
        self.streams.remove(stream)

    def event(self) -> int:
        event = self._handle(1)
        self.events.add(event)
        return event

    def end_event(self, event: int) -> None:
        self.events.remove(event)

    def record(self, event: int, stream: int) -> None:
        assert event in self.events
        assert stream in self.streams
        self._check("cudaEventRecord")

    def follow(self, stream: int, event: int) -> None:
        assert event in self.events
        assert stream in self.streams

    def elapsed_ns(self, first: int, second: int) -> int:
        return 1_000

    def copy_in(self, to: int, source: int, size: int, stream: int) -> None:
        self._check("cudaMemcpyAsync")
        self.copies += 1
        self.view(to, size)[:] = next(block for at, block in self.pinned.items() if at == source)[:size]

    def copy_out(self, to: int, source: int, size: int, stream: int) -> None:
        self._check("cudaMemcpyAsync")
        self.copies += 1
        self.pinned[to][:size] = self.view(source, size)

    def finish(self, stream: int) -> None:
        assert stream in self.streams
        self._check("cudaStreamSynchronize")

    def begin_capture(self, stream: int) -> None:
        self.capturing = []

    def end_capture(self, stream: int) -> int:
        assert self.capturing is not None
        graph = self._handle(1)
        self.graphs[graph], self.capturing = self.capturing, None
        return graph

    def replay(self, graph: int, stream: int) -> None:
        self._check("cudaGraphLaunch")
        self.replays += 1
        for kernel in self.graphs[graph]:
            kernel()

    def end_graph(self, graph: int) -> None:
        del self.graphs[graph]

    def failure(self) -> int:
        return ILLEGAL_ADDRESS if self.lost else 0

    def launch(self, kernel: Callable[[], None]) -> None:
        """Run a kernel, or record it."""
        self._check("cudaLaunchKernel")
        if self.capturing is not None:
            self.capturing.append(kernel)
            return
        self.launches += 1
        kernel()

    def view(self, address: int, size: int) -> Array:
        """Bytes of device memory; an address outside of every block is a fault of the test's subject."""
        start = max(at for at in self.blocks if at <= address)
        block = self.blocks[start][address - start : address - start + size]
        assert len(block) == size, "an access beyond the block"
        return block

    @property
    def empty(self) -> bool:
        """Whether everything has been freed."""
        return not (self.blocks or self.pinned or self.graphs or self.streams or self.events)

    def _handle(self, size: int) -> int:
        handle, self._next = self._next, self._next + -(-size // 256) * 256 + 4096
        return handle

    def _check(self, call: str) -> None:
        if self.lost:
            raise CudaError(call, ILLEGAL_ADDRESS, "cudaErrorIllegalAddress")


class FakeProgram:
    """Every output is ``2 * input`` of the same index, of its own shape. ``scratch`` bytes for each row must be free
    while it runs. ``stale``: the graph computes with the values that were there at its capture. ``table``: every run
    writes its number of rows to one place in host memory, which a graph reads again at every replay."""

    def __init__(
        self,
        spec: ModelSpec,
        device: FakeDevice,
        *,
        scratch: int = 0,
        stale: bool = False,
        host: bool = False,
        table: bool = False,
    ) -> None:
        self.spec = spec
        self.device = device
        self.stream = device.stream()
        self.shapes: list[tuple[Shape, ...]] = []
        self.computed = 0
        self._scratch, self._stale, self._host = scratch, stale, host
        self._table = [0] if table else None

    def output_shapes(self, inputs: Sequence[DeviceTensor]) -> list[Shape]:
        self._need(inputs)
        return [one.shape for one in inputs[: len(self.spec.outputs)]]

    def bind(self, inputs: Sequence[DeviceTensor], outputs: Sequence[DeviceTensor]) -> Launch:
        self.shapes.append(tuple(one.shape for one in inputs))
        pairs = list(zip(inputs, outputs, strict=False))

        def kernel(frozen: list[Array] | None = None) -> None:
            for at, (one, other) in enumerate(pairs):
                self._values(other)[...] = 2 * (frozen[at] if frozen else self._values(one).copy())
                if self._table is not None and self._table[0] != one.shape[0]:
                    self._values(other)[...] = -1

        def launch() -> None:
            self._need(inputs)
            capturing = self.device.capturing is not None
            if self._table is not None:
                self._table[0] = inputs[0].shape[0]
            if capturing and self._host:
                raise RuntimeError("operation not permitted when stream is capturing")
            frozen = [self._values(one).copy() for one, _ in pairs] if capturing and self._stale else None
            self.device.launch(lambda: kernel(frozen))

        return launch

    def compute(self, batch: Sequence[Array]) -> list[Array]:
        if self.device.lost:
            raise RuntimeError("CUDNN failure 5000: CUDNN_STATUS_EXECUTION_FAILED")
        if len(batch[0]) > 1_000:
            raise UnprocessableInput("too many rows")
        self.computed += 1
        return [2 * array for array in batch[: len(self.spec.outputs)]]

    def close(self) -> None:
        self.device.end_stream(self.stream)

    def _values(self, one: DeviceTensor) -> Array:
        size = math.prod(one.shape) * one.dtype.itemsize
        return self.device.view(one.address, size).view(one.dtype.numpy).reshape(one.shape)

    def _need(self, inputs: Sequence[DeviceTensor]) -> None:
        if self._scratch * inputs[0].shape[0] > self.device.memory()[0]:
            raise RuntimeError("BFC_ARENA: Failed to allocate memory for requested buffer")
