"""The GPUs of several processes: which of them each process sees, and with how many others.

A GPU is not shared as cores are: every process has a context there, and its kernels and those of others take turns. So
processes get GPUs of their own as far as there are enough.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .gpu import Gpu, Gpus

VISIBLE = "CUDA_VISIBLE_DEVICES"

HEADROOM = 0.9
"""The share of a GPU's memory that the processes on it may take together, unless told."""


@dataclass(frozen=True, slots=True)
class OwnGpus:
    """The GPUs of one process. ``names``: as CUDA takes them, for ``CUDA_VISIBLE_DEVICES``; empty: those that the
    process would see anyway. ``sharers``: how many processes use each. ``bytes``: memory of the smallest; 0: not known.
    """

    names: tuple[str, ...] = ()
    sharers: int = 1
    bytes: int = 0

    def memory_mb(self, told_mb: float) -> float:
        """The memory for one copy of a model, of ``told_mb`` for all sharers (0: not told); 0: what is free."""
        if not told_mb and self.sharers > 1:
            told_mb = HEADROOM * self.bytes / 1e6
        return told_mb / self.sharers


def divide(count: int, gpus: int, host: Gpus, visible: str | None) -> list[OwnGpus]:
    """The GPUs of each of ``count`` processes. ``gpus``: the first ones that they use together; 0: all.

    ``visible``: the CUDA_VISIBLE_DEVICES that holds for all of them; None: not set. With as many GPUs as processes or
    more, each process gets its own; else several processes share one, evenly. Nothing is divided where fewer GPUs are
    there than wanted (a process that needs one then says so), and where slices (MIG) are counted and not GPUs.
    """
    names = [one.strip() for one in visible.split(",")] if visible is not None else [one.uuid for one in host.devices]
    used = names[:gpus] if gpus else names
    sliced = visible is None and any(one.mig for one in host.devices)
    if not host.devices or sliced or not all(used) or len(used) < max(gpus, 1):
        return [OwnGpus()] * count
    if count <= len(used):
        return [_own(used[number::count], 1, host.devices) for number in range(count)]
    places = [number % len(used) for number in range(count)]
    return [_own([used[place]], places.count(place), host.devices) for place in places]


def _own(names: Sequence[str], sharers: int, devices: Sequence[Gpu]) -> OwnGpus:
    found = [next((one for one in devices if name in (one.uuid, str(one.index))), None) for name in names]
    known = [one.total_bytes for one in found if one is not None and not one.mig]
    return OwnGpus(tuple(names), sharers, min(known) if len(known) == len(names) else 0)
