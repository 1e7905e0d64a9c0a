"""Interference: the CPU time that other programs used on the cores of a load.

It changes all figures of the load, and confidence intervals over rounds do not show it.
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
    """CPU seconds: of all programs on some cores since boot, and of the server that runs on them."""

    cores_s: float
    server_s: float


def busy_s(cores: Sequence[int], root: Path = proc.ROOT) -> float:
    """CPU seconds of all programs on these cores since boot. Time of other virtual machines (``steal``) is included.

    Interrupts are left out: most of them handle the packets of the load, and no program is charged for them.
    """
    ticks_by_core = proc.core_ticks(root)
    ticks = 0
    for core in cores:
        user, nice, system, _idle, _iowait, _irq, _softirq, steal = ticks_by_core[f"cpu{core}"]
        ticks += user + nice + system + steal
    return ticks / os.sysconf("SC_CLK_TCK")


def problems(before: CpuTime, after: CpuTime, seconds: float, cores: Sequence[int], owner: str) -> Iterable[str]:
    """The reason why a figure is invalid, if other programs used more than ``MAX_OTHERS`` of the cores.

    ``owner``: whose cores they are, for the text.
    """
    others_s = (after.cores_s - before.cores_s) - (after.server_s - before.server_s)
    share = others_s / (seconds * len(cores))
    if share > MAX_OTHERS:
        yield f"other programs used {share:.0%} of the {owner}'s core{'s' * (len(cores) > 1)}, limit {MAX_OTHERS:.0%}"
