"""The delay of the generator's own thread: the time in which it was ready to run and waited for a core."""

from __future__ import annotations

import threading
from pathlib import Path


def own_run_delay_ns(root: Path = Path("/proc")) -> int | None:
    """The delay of the calling thread since its start; None where the kernel does not count it."""
    try:
        return int((root / "self/task" / str(threading.get_native_id()) / "schedstat").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return None


def delay_since(before_ns: int | None) -> int | None:
    """The growth of the delay since ``before_ns``; None if either is unknown."""
    now_ns = own_run_delay_ns()
    return now_ns - before_ns if now_ns is not None and before_ns is not None else None
