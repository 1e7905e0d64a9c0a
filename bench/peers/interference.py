"""Interference: the CPU time that other programs took from some cores while a load ran on them.

It changes every figure of the load, and no interval over rounds shows it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..observe import proc

MAX_OTHERS = 0.05
"""Share of the cores' time that other programs may use in a valid figure."""


@dataclass(frozen=True, slots=True)
class CpuTime:
    """CPU seconds: of some cores since the machine started, and of the server that is meant to use them."""

    cores_s: float
    server_s: float


def busy_s(cores: Sequence[int], root: Path = proc.ROOT) -> float:
    """Seconds in which programs ran on these cores, those of other machines on the host included (``steal``).

    Interrupts do not count: most of them handle the load's own packets, and no program is charged for them.
    """
    by_core = proc.core_ticks(root)
    ticks = 0
    for core in cores:
        user, nice, system, _idle, _iowait, _irq, _softirq, steal = by_core[f"cpu{core}"]
        ticks += user + nice + system + steal
    return ticks / os.sysconf("SC_CLK_TCK")


def problems(before: CpuTime, after: CpuTime, seconds: float, cores: Sequence[int], whose: str) -> Iterable[str]:
    """The reason why a figure is invalid, if other programs used more than ``MAX_OTHERS`` of the cores."""
    others_s = (after.cores_s - before.cores_s) - (after.server_s - before.server_s)
    share = others_s / (seconds * len(cores))
    if share > MAX_OTHERS:
        yield f"other programs used {share:.0%} of the {whose}'s core{'s' * (len(cores) > 1)}, limit {MAX_OTHERS:.0%}"
