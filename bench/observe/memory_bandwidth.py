"""Memory bandwidth: the rate at which this machine copies arrays larger than its caches; size of its last cache."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

COPY_BYTES = 128_000_000
"""Bytes of source and of target over all threads: larger than most last-level caches, copied in milliseconds."""
SECONDS = 0.2
UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


@dataclass(frozen=True, slots=True)
class MemoryBandwidth:
    """``bytes_per_s``: bytes read plus bytes written by a copy on all cores, the best of several copies.

    ``cache_bytes``: the last-level cache of the first core; None where the kernel does not list it.
    """

    bytes_per_s: float
    cache_bytes: int | None


def measure(seconds: float = SECONDS, copy_bytes: int = COPY_BYTES, root: Path = Path("/")) -> MemoryBandwidth:
    """Copy for ``seconds``. The server must be idle, because other use of memory lowers the result."""
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    # Filled with non-zero values, because the kernel maps a page to memory at its first write.
    arrays = [tuple(np.full(copy_bytes // threads // 8, value) for value in (1.0, 2.0)) for _ in range(threads)]
    moved_bytes = sum(2 * source.nbytes for source, _ in arrays)
    best_per_s = 0.0
    with ThreadPoolExecutor(threads) as pool:
        deadline_s = time.perf_counter() + seconds
        while True:
            start_s = time.perf_counter()
            list(pool.map(lambda pair: np.copyto(pair[1], pair[0]), arrays))
            stop_s = time.perf_counter()
            best_per_s = max(best_per_s, moved_bytes / (stop_s - start_s))
            if stop_s >= deadline_s:
                break
    return MemoryBandwidth(best_per_s, last_cache_bytes(root))


def last_cache_bytes(root: Path = Path("/")) -> int | None:
    """The largest cache that the kernel lists for the first core; None where it lists none."""
    sizes = []
    for path in (root / "sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        try:
            text = path.read_text().strip()
            sizes.append(int(text[:-1]) * UNITS[text[-1]] if text[-1:] in UNITS else int(text))
        except (OSError, ValueError):
            continue
    return max(sizes, default=None)
