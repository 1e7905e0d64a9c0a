"""Quiet: how much of some cores others used while a load ran, which is in every figure and in no interval."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

MAX_OTHERS = 0.05
"""Share of the cores' time. Above it a figure is as much the others' as the server's."""
STAT = Path("/proc/stat")


@dataclass(frozen=True, slots=True)
class Busy:
    """CPU seconds since the machine started: of the cores, and of the programs that are meant to use them."""

    cores_s: float
    own_s: float


def busy_s(cores: Sequence[int], stat: str | None = None) -> float:
    """Seconds in which programs ran on these cores, those of other machines on the host included (``steal``).

    Not interrupts: most of them are the load's own packets, and no program is charged for them.
    """
    names = {f"cpu{one}" for one in cores}
    ticks = 0
    for line in (STAT.read_text(encoding="ascii") if stat is None else stat).splitlines():
        name, *fields = line.split()
        if name in names:
            user, nice, system, _idle, _iowait, _irq, _softirq, steal = (int(one) for one in fields[:8])
            ticks += user + nice + system + steal
    return ticks / os.sysconf("SC_CLK_TCK")


def problems(before: Busy, after: Busy, seconds: float, cores: Sequence[int], whose: str) -> Iterable[str]:
    """Why a figure must not be used, if others used too much of the cores in these seconds."""
    others = (after.cores_s - before.cores_s) - (after.own_s - before.own_s)
    share = others / (seconds * len(cores))
    if share > MAX_OTHERS:
        yield f"other programs used {share:.0%} of the {whose}'s core{'s' * (len(cores) > 1)}, limit {MAX_OTHERS:.0%}"
