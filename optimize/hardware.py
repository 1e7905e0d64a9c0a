"""The target machine: processor model, instruction sets that affect int8, cores."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from server.system import cpu
from server.system.cores import available_cores


@dataclass(frozen=True, slots=True)
class Hardware:
    """``flags`` are the processor flags that ``server.system.cpu`` lists, in its order."""

    cpu: str
    architecture: str
    flags: tuple[str, ...]
    cores: int

    @property
    def has_int8_dot(self) -> bool:
        """Whether the processor sums 8-bit products in 32 bits (VNNI, AMX, Arm dot product).

        Other x86 processors sum pairs in 16 bits, which saturates with 8-bit weights. Weights then get 7 bits.
        """
        return any(flag in self.flags for flag in ("avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm"))

    def to_json(self) -> dict[str, Any]:
        return {"cpu": self.cpu, "architecture": self.architecture, "flags": list(self.flags), "cores": self.cores}


def detect(cpuinfo: Path = cpu.CPUINFO) -> Hardware:
    """Detect this machine. Without ``/proc/cpuinfo`` no flags are known, and weights get 7 bits."""
    model, flags = cpu.processor(cpuinfo)
    return Hardware(model, platform.machine(), flags, available_cores())
