"""Memory: how fast this machine moves bytes that no cache holds, and how large its last cache is."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

COPY_BYTES = 128_000_000
"""Of each side, shared out to all threads: beyond most last-level caches, and a moment's work."""
SECONDS = 0.2
UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


@dataclass(frozen=True, slots=True)
class MemoryBandwidth:
    """``bytes_per_s``: read and written by a copy on all cores, the best of several. ``cache_bytes``: the last-level
    cache of the first core, None where the kernel does not say."""

    bytes_per_s: float
    cache_bytes: int | None


def measure(seconds: float = SECONDS, copy_bytes: int = COPY_BYTES, root: Path = Path("/")) -> MemoryBandwidth:
    """Copy for so long. While the server that will be loaded idles: what else needs memory then makes it look slow."""
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    # Filled, because the first touch of a page is the kernel's work, and zeros are pages that nobody has touched.
    pieces = [tuple(np.full(copy_bytes // threads // 8, value) for value in (1.0, 2.0)) for _ in range(threads)]
    moved = sum(2 * source.nbytes for source, _ in pieces)
    best = 0.0
    with ThreadPoolExecutor(threads) as pool:
        end_s = time.perf_counter() + seconds
        while True:
            begun_s = time.perf_counter()
            list(pool.map(lambda piece: np.copyto(piece[1], piece[0]), pieces))
            ended_s = time.perf_counter()
            best = max(best, moved / (ended_s - begun_s))
            if ended_s >= end_s:
                break
    return MemoryBandwidth(best, last_cache_bytes(root))


def last_cache_bytes(root: Path = Path("/")) -> int | None:
    """The largest cache that the kernel names for the first core."""
    sizes = []
    for path in (root / "sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        try:
            text = path.read_text().strip()
            sizes.append(int(text[:-1]) * UNITS[text[-1]] if text[-1:] in UNITS else int(text))
        except (OSError, ValueError):
            continue
    return max(sizes, default=None)
