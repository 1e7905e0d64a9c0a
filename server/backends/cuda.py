"""The CUDA runtime: memory, streams, events and graphs of one GPU, through ctypes.

About twenty calls are needed. The package cuda-bindings would add 30 MB for them and needs the driver at import.
Calls that only enqueue keep the GIL: each takes microseconds, and to take the GIL back would cost more.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterable
from ctypes import byref, c_char_p, c_float, c_int, c_size_t, c_uint, c_void_p
from pathlib import Path

import numpy as np

from ..errors import BadSetting, DeviceLost, ModelFailed, OutOfMemory, SlipwayError
from ..tensors import Array

LIBRARIES = ("libcudart.so.13", "libcudart.so.12")

MEMORY_ALLOCATION = 2
STICKY = frozenset((214, 220, 226, 700, 702, 710, 714, 715, 716, 717, 718, 719, 721, 810, 911))
"""Error codes after which every later call of the process fails: uncorrectable memory errors, illegal addresses and
instructions, failed launches. Only a new process helps. Values of cudaError_t in driver_types.h of CUDA 13."""

TO_DEVICE, TO_HOST = 1, 2
NON_BLOCKING = 1
TIMED, UNTIMED = 0, 2
THREAD_LOCAL = 1
"""Capture mode in which other threads may allocate meanwhile, such as those of another model that is loaded."""


class CudaError(Exception):
    """A call of the CUDA runtime failed with ``code``, a cudaError_t."""

    def __init__(self, call: str, code: int, name: str) -> None:
        super().__init__(f"{call} failed with {code} ({name})")
        self.code = code


class CudaDevice:
    """One GPU by its ordinal among the visible ones. Sizes are in bytes; pointers, streams, events and graphs are
    integers. Every method raises CudaError."""

    def __init__(self, ordinal: int = 0, libraries: Iterable[str] = LIBRARIES) -> None:
        """Raises BadSetting if the CUDA runtime is not installed, or has no such device."""
        self.ordinal = ordinal
        name = _installed(libraries)
        self._waiting = ctypes.CDLL(name)
        self._brief = ctypes.PyDLL(name)
        self._brief.cudaGetErrorName.restype = c_char_p
        try:
            self.use()
        except CudaError as error:
            raise BadSetting(f"GPU {ordinal} cannot be used: {error}; serve.py doctor says what is missing") from error

    def use(self) -> None:
        """Make this the device of the calling thread."""
        self._call("cudaSetDevice", self.ordinal)

    def capability(self) -> int:
        """The compute capability, 90 for 9.0."""
        major, minor = c_int(), c_int()
        self._call("cudaDeviceGetAttribute", byref(major), 75, self.ordinal)
        self._call("cudaDeviceGetAttribute", byref(minor), 76, self.ordinal)
        return 10 * major.value + minor.value

    def driver(self) -> int:
        """The newest CUDA that the driver supports, 13000 for 13.0; 0 without a driver."""
        version = c_int()
        self._call("cudaDriverGetVersion", byref(version))
        return version.value

    def memory(self) -> tuple[int, int]:
        """Free and total bytes."""
        free, total = c_size_t(), c_size_t()
        self._call("cudaMemGetInfo", byref(free), byref(total))
        return free.value, total.value

    def allocate(self, size: int) -> int:
        """A block of device memory."""
        return self._made("cudaMalloc", c_size_t(max(size, 1)))

    def free(self, address: int) -> None:
        self._call("cudaFree", c_void_p(address))

    def pin(self, size: int) -> Array:
        """A block of page-locked host memory, uint8 [size]: the device copies from and to it without a detour."""
        size = max(size, 1)
        address = self._made("cudaHostAlloc", c_size_t(size), c_uint(0))
        block: Array = np.ctypeslib.as_array((ctypes.c_ubyte * size).from_address(address))
        return block

    def unpin(self, block: Array) -> None:
        """Free such a block; no array may use it any more."""
        self._call("cudaFreeHost", c_void_p(block.ctypes.data))

    def stream(self) -> int:
        return self._made("cudaStreamCreateWithFlags", c_uint(NON_BLOCKING))

    def end_stream(self, stream: int) -> None:
        self._call("cudaStreamDestroy", c_void_p(stream))

    def event(self) -> int:
        """An event whose time is recorded."""
        return self._made("cudaEventCreateWithFlags", c_uint(TIMED))

    def end_event(self, event: int) -> None:
        self._call("cudaEventDestroy", c_void_p(event))

    def record(self, event: int, stream: int) -> None:
        self._call("cudaEventRecord", c_void_p(event), c_void_p(stream))

    def follow(self, stream: int, event: int) -> None:
        """Later work of the stream waits for the event."""
        self._call("cudaStreamWaitEvent", c_void_p(stream), c_void_p(event), c_uint(0))

    def elapsed_ns(self, first: int, second: int) -> int:
        """Nanoseconds between two events that have happened."""
        milliseconds = c_float()
        self._call("cudaEventElapsedTime", byref(milliseconds), c_void_p(first), c_void_p(second))
        return int(milliseconds.value * 1e6)

    def copy_in(self, to: int, source: int, size: int, stream: int) -> None:
        """Copy from pinned memory to the device, in the order of the stream."""
        self._call("cudaMemcpyAsync", c_void_p(to), c_void_p(source), c_size_t(size), TO_DEVICE, c_void_p(stream))

    def copy_out(self, to: int, source: int, size: int, stream: int) -> None:
        """Copy from the device to pinned memory, in the order of the stream."""
        self._call("cudaMemcpyAsync", c_void_p(to), c_void_p(source), c_size_t(size), TO_HOST, c_void_p(stream))

    def finish(self, stream: int) -> None:
        """Block until all work of the stream is done, without the GIL."""
        code: int = self._waiting.cudaStreamSynchronize(c_void_p(stream))
        self._raise("cudaStreamSynchronize", code)

    def begin_capture(self, stream: int) -> None:
        self._call("cudaStreamBeginCapture", c_void_p(stream), THREAD_LOCAL)

    def end_capture(self, stream: int) -> int:
        """The graph of what was enqueued since :meth:`begin_capture`, ready to be replayed."""
        graph = self._made_last("cudaStreamEndCapture", c_void_p(stream))
        try:
            return self._made("cudaGraphInstantiate", c_void_p(graph), ctypes.c_ulonglong(0))
        finally:
            self._call("cudaGraphDestroy", c_void_p(graph))

    def replay(self, graph: int, stream: int) -> None:
        self._call("cudaGraphLaunch", c_void_p(graph), c_void_p(stream))

    def end_graph(self, graph: int) -> None:
        self._call("cudaGraphExecDestroy", c_void_p(graph))

    def failure(self) -> int:
        """The error code of the last failed call of this thread, by any library in the process; 0 for none. It is
        cleared, but for a sticky one."""
        code: int = self._brief.cudaGetLastError()
        return code

    def _made(self, call: str, *args: object) -> int:
        handle = c_void_p()
        self._call(call, byref(handle), *args)
        return handle.value or 0

    def _made_last(self, call: str, *args: object) -> int:
        handle = c_void_p()
        self._call(call, *args, byref(handle))
        return handle.value or 0

    def _call(self, call: str, *args: object) -> None:
        self._raise(call, getattr(self._brief, call)(*args))

    def _raise(self, call: str, code: int) -> None:
        if code:
            self._brief.cudaGetLastError()
            raise CudaError(call, code, (self._brief.cudaGetErrorName(code) or b"unknown").decode())


def visible_devices(libraries: Iterable[str] = LIBRARIES) -> int:
    """GPUs that this process can use. Raises BadSetting if the CUDA runtime is not installed."""
    count = c_int()
    code: int = ctypes.CDLL(_installed(libraries)).cudaGetDeviceCount(byref(count))
    return 0 if code else count.value


def lost(ordinal: int, libraries: Iterable[str] = LIBRARIES) -> bool:
    """Whether this process can never use the GPU again, whatever broke it. False without the CUDA runtime."""
    try:
        CudaDevice(ordinal, libraries).finish(0)
    except CudaError as error:
        return error.code in STICKY
    except BadSetting as error:
        return isinstance(error.__cause__, CudaError) and error.__cause__.code in STICKY
    return False


def runtime_major(libraries: Iterable[str] = LIBRARIES) -> int:
    """Major version of the CUDA runtime that is installed; 0 for none."""
    try:
        return int(_installed(libraries).rpartition(".")[2])
    except BadSetting:
        return 0


def _installed(libraries: Iterable[str]) -> str:
    """The name or path of the first library that can be loaded: one that is in use, from a wheel, from the system."""
    for name in libraries:
        wheels = [str(path) for folder in sys.path for path in Path(folder, "nvidia").glob(f"*/lib/{name}")]
        for one, mode in ((name, os.RTLD_NOLOAD), *((path, 0) for path in wheels), (name, 0)):
            try:
                ctypes.CDLL(one, mode=mode)
            except OSError:
                continue
            return one
    raise BadSetting("the CUDA runtime (libcudart) is not installed; use the GPU image, or --device cpu")


MEMORY_SIGNS = (
    *("out of memory", "failed to allocate", "cublas_status_alloc_failed", "cudnn_status_alloc_failed"),
    *("cuda failure 2:", "cudaerrormemoryallocation", "bfc_arena", "cudnn_status_internal_error_device_allocation"),
)
"""Lower-case parts of the messages by which libraries report that the device has no memory left."""


def classified(error: Exception, code: int) -> SlipwayError:
    """A failure of a run as one of our errors: DeviceLost, OutOfMemory or ModelFailed.

    ``code``: what :meth:`CudaDevice.failure` gave after it. A lost device may show as an error of cuDNN or cuBLAS.
    """
    own = error.code if isinstance(error, CudaError) else 0
    for one in (own, code):
        if one in STICKY:
            return DeviceLost(f"the GPU was lost (CUDA error {one}); the server ends, so that it is started anew")
    text = str(error).lower()
    if MEMORY_ALLOCATION in (own, code) or isinstance(error, MemoryError) or any(one in text for one in MEMORY_SIGNS):
        return OutOfMemory("the GPU has not enough memory to run the model on this batch")
    if any(f"cuda failure {one}" in text for one in STICKY):
        return DeviceLost("the GPU was lost; the server ends, so that it is started anew")
    return ModelFailed("the model failed while computing; the server's log has the details")
