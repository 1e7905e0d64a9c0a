"""The target machine: processor model, instruction sets that affect int8, cores, and the GPU of the search."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from server.system import cpu
from server.system.cores import available_cores
from server.system.gpu import Gpus, visible


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU. ``sm``: its compute capability, 90 for 9.0. ``driver``: the version, such as 580.65.06.

    ``mig``: it is a slice of a GPU. ``ecc``: its memory corrects errors; None where that is not known.
    """

    name: str
    uuid: str
    sm: int
    driver: str
    memory_bytes: int
    mig: bool = False
    ecc: bool | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "uuid": self.uuid,
            "sm": self.sm,
            "driver": self.driver,
            "memory_bytes": self.memory_bytes,
            "mig": self.mig,
            "ecc": self.ecc,
        }


@dataclass(frozen=True, slots=True)
class Hardware:
    """``flags`` are the processor flags that ``server.system.cpu`` lists, in its order. ``gpu``: the first visible one,
    if candidates run on it."""

    cpu: str
    architecture: str
    flags: tuple[str, ...]
    cores: int
    gpu: Gpu | None = None

    @property
    def has_int8_dot(self) -> bool:
        """Whether the processor sums 8-bit products in 32 bits (VNNI, AMX, Arm dot product).

        Other x86 processors sum pairs in 16 bits, which saturates with 8-bit weights. Weights then get 7 bits.
        """
        return any(flag in self.flags for flag in ("avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm"))

    def to_json(self) -> dict[str, Any]:
        body = {"cpu": self.cpu, "architecture": self.architecture, "flags": list(self.flags), "cores": self.cores}
        return body if self.gpu is None else {**body, "gpu": self.gpu.to_json()}


def detect(cpuinfo: Path = cpu.CPUINFO, gpu: Gpu | None = None) -> Hardware:
    """Detect this machine. Without ``/proc/cpuinfo`` no flags are known, and weights get 7 bits."""
    model, flags = cpu.processor(cpuinfo)
    return Hardware(model, platform.machine(), flags, available_cores(), gpu)


def gpus(found: Gpus, names: str | None) -> tuple[Gpu, ...]:
    """The GPUs in the order in which CUDA shows them. ``names``: the value of CUDA_VISIBLE_DEVICES; None: not set."""
    return tuple(
        Gpu(one.name, one.uuid, one.sm, found.driver, one.total_bytes, one.mig, one.ecc)
        for one in visible(found.devices, names)
    )
