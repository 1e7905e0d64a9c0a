"""The GPUs of this host, as NVIDIA's management library (NVML) shows them.

The library comes with the driver. It is read through ctypes: twelve plain calls do not need a package, and the CPU
image and ``optimize`` read it too.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from ctypes import byref, c_char_p, c_int, c_uint, c_ulonglong, c_void_p
from dataclasses import dataclass

LIBRARY = "libnvidia-ml.so.1"
NEWEST_AMI, NEWEST_AMI_DRIVER = "al2023-ami-sagemaker-inference-gpu-4-1", 580
"""The host image of SageMaker with the newest driver, and its major version. The default images have 470 to 550."""

UNCORRECTED, SINCE_START = 1, 0
TEXT = 96


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU. ``sm``: compute capability, 90 for 9.0. ``ecc_errors``: uncorrected memory errors since the driver was
    loaded. ``busy``: share of the last second in which a kernel ran. None where the GPU does not report it."""

    index: int
    name: str
    uuid: str
    sm: int
    total_bytes: int
    used_bytes: int
    mig: bool
    ecc: bool | None
    ecc_errors: int | None
    busy: float | None

    @property
    def free_bytes(self) -> int:
        return self.total_bytes - self.used_bytes


@dataclass(frozen=True, slots=True)
class Gpus:
    """All GPUs, the driver's version, and the newest CUDA version that it supports (13000 for 13.0).

    ``absent``: why nothing could be read; empty otherwise.
    """

    devices: tuple[Gpu, ...] = ()
    driver: str = ""
    cuda: int = 0
    absent: str = ""

    @property
    def driver_major(self) -> int:
        """580 of 580.95.05; 0 where there is no driver."""
        major = self.driver.partition(".")[0]
        return int(major) if major.isdigit() else 0


class _Memory(ctypes.Structure):
    _fields_ = (("total", c_ulonglong), ("free", c_ulonglong), ("used", c_ulonglong))


class _Utilization(ctypes.Structure):
    _fields_ = (("gpu", c_uint), ("memory", c_uint))


class _Unreadable(Exception):
    """A call failed, or the library lacks it."""


class Nvml:
    """The library, opened."""

    def __init__(self, library: str = LIBRARY) -> None:
        """Raises OSError without a driver."""
        self._library = ctypes.CDLL(library)
        try:
            self._call("nvmlInit_v2")
        except _Unreadable as error:
            raise OSError(str(error)) from error

    def read(self) -> Gpus:
        """The state of all GPUs now."""
        count, cuda = c_uint(), c_int()
        try:
            self._call("nvmlDeviceGetCount_v2", byref(count))
            self._call("nvmlSystemGetCudaDriverVersion_v2", byref(cuda))
            driver = self._text("nvmlSystemGetDriverVersion")
            return Gpus(tuple(self._gpu(index) for index in range(count.value)), driver, cuda.value)
        except _Unreadable as error:
            return Gpus(absent=str(error))

    def _gpu(self, index: int) -> Gpu:
        handle, major, minor, memory = c_void_p(), c_int(), c_int(), _Memory()
        self._call("nvmlDeviceGetHandleByIndex_v2", c_uint(index), byref(handle))
        self._call("nvmlDeviceGetCudaComputeCapability", handle, byref(major), byref(minor))
        self._call("nvmlDeviceGetMemoryInfo", handle, byref(memory))
        ecc = self._number("nvmlDeviceGetEccMode", handle, c_uint(), c_uint())
        errors = self._number(
            "nvmlDeviceGetTotalEccErrors", handle, c_ulonglong(), before=(c_int(UNCORRECTED), c_int(SINCE_START))
        )
        return Gpu(
            index,
            self._text("nvmlDeviceGetName", handle),
            self._text("nvmlDeviceGetUUID", handle),
            10 * major.value + minor.value,
            memory.total,
            memory.used,
            bool(self._number("nvmlDeviceGetMigMode", handle, c_uint(), c_uint())),
            None if ecc is None else bool(ecc),
            errors,
            self._busy(handle),
        )

    def _busy(self, handle: c_void_p) -> float | None:
        rates = _Utilization()
        try:
            self._call("nvmlDeviceGetUtilizationRates", handle, byref(rates))
        except _Unreadable:
            return None
        return float(rates.gpu) / 100

    def _number(
        self, call: str, handle: c_void_p, *results: c_uint | c_ulonglong, before: tuple[c_int, ...] = ()
    ) -> int | None:
        """The first result; None where the GPU does not support the question."""
        try:
            self._call(call, handle, *before, *(byref(one) for one in results))
        except _Unreadable:
            return None
        return results[0].value

    def _text(self, call: str, *args: object) -> str:
        text = ctypes.create_string_buffer(TEXT)
        self._call(call, *args, text, c_uint(TEXT))
        return text.value.decode(errors="replace")

    def _call(self, call: str, *args: object) -> None:
        try:
            code = getattr(self._library, call)(*args)
        except AttributeError as error:
            raise _Unreadable(f"{LIBRARY} has no {call}") from error
        if code:
            self._library.nvmlErrorString.restype = c_char_p
            said = (self._library.nvmlErrorString(code) or b"unknown").decode(errors="replace")
            raise _Unreadable(f"{call} failed with {code} ({said})")


def visible(devices: Sequence[Gpu], names: str | None) -> list[Gpu]:
    """The GPUs that CUDA shows, in its order. ``names``: the value of CUDA_VISIBLE_DEVICES; None: not set.

    As CUDA does, names end at the first that is not there, so that -1 hides all. A slice (MIG) counts as its GPU.
    """
    if names is None:
        return list(devices)
    shown: list[Gpu] = []
    for name in names.split(","):
        found = _named(name.strip(), devices)
        if found is None:
            break
        shown.append(found)
    return shown


def _named(name: str, devices: Sequence[Gpu]) -> Gpu | None:
    """A GPU by its number, by the beginning of its UUID, or by a slice of it."""
    if name.isdigit():
        return next((one for one in devices if one.index == int(name)), None)
    if name.startswith("MIG-"):
        return next((one for one in devices if one.mig), None)
    return next((one for one in devices if name and one.uuid.startswith(name)), None)


def missing(kind: str, host: Gpus) -> str:
    """Why the device ``kind``, which a model wants, is not on this host, and what to do; empty where a GPU is."""
    if host.absent:
        remedy = "install the NVIDIA container toolkit on the host, and run with docker run --gpus all"
        return f"the device {kind} is wanted, and {host.absent}; {remedy}"
    if not host.devices:
        return f"the device {kind} is wanted, and no GPU is visible; docker run --gpus all"
    return ""


def read(library: str = LIBRARY) -> Gpus:
    """The GPUs of this host, or why there are none. Raises nothing."""
    try:
        return Nvml(library).read()
    except OSError as error:
        return Gpus(absent=f"the NVIDIA driver is not visible: {error}")
