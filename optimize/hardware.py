"""The machine that is optimized for: processor model, the instructions that matter for int8, cores."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from server.system import cpu as host
from server.system.cores import available_cores


@dataclass(frozen=True, slots=True)
class Hardware:
    """``flags`` are the noteworthy ones of this processor, in the order of ``server.system.cpu``."""

    cpu: str
    architecture: str
    flags: tuple[str, ...]
    cores: int

    @property
    def has_int8_dot(self) -> bool:
        """Whether 8-bit products are summed in 32 bits at once (VNNI, AMX, Arm's dot product).

        Without it, x86 adds pairs in 16 bits, which saturates for full-range weights: they then get 7 bits.
        """
        return any(flag in self.flags for flag in ("avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm"))

    def to_json(self) -> dict[str, Any]:
        return {"cpu": self.cpu, "architecture": self.architecture, "flags": list(self.flags), "cores": self.cores}


def detect(cpuinfo: Path = host.CPUINFO) -> Hardware:
    """Read this machine. A system without ``/proc/cpuinfo`` has no known flags, hence the careful choices."""
    model, flags = host.processor(cpuinfo)
    return Hardware(model, platform.machine(), flags, available_cores())
