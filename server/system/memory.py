"""The memory of the process: how much it has, how much it may have, what a model will need, and giving it back."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Protocol, TypeVar

from ..artifact import SCRIPT, Artifact

ROOT = Path("/")

FILES_TO_MEMORY = 1.5
"""What a model takes at the peak of its load, over the size of its files. Chains of matrices take 1.1 (ONNX Runtime
1.31, peak of VmHWM over a 200 MB file); the rest is for what other kernels pack for themselves, and for activations."""

SMALLEST_BYTES = 8_000_000
"""No model takes less: a session has thread pools and arenas of its own."""

HEADROOM = 0.9
"""The part of a control group's limit that models may fill; requests and the kernel need the rest."""

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h
LARGE_BYTES = 4 << 20
"""From here on a block is the kernel's own, and given back when it is freed. Batches of requests are mostly smaller,
and NumPy asks for large pages from here on, so that their first touch is cheap."""

UNLIMITED_BYTES = 1 << 60
"""Version 1 of control groups has no word for 'no limit', only a number that no machine has."""


class Weighed(Protocol):
    """Something that can be freed to make room."""

    @property
    def bytes(self) -> int: ...

    @property
    def used_ns(self) -> int: ...


Kind = TypeVar("Kind", bound=Weighed)


def resident_bytes(root: Path = ROOT) -> int:
    """What the kernel counts as the memory of this process and its children; 0 where it does not say."""
    proc = root / "proc"
    children = [child for file in proc.glob("self/task/*/children") for child in _read(file).split()]
    return sum(_pages(proc / process / "statm") for process in ("self", *children)) * os.sysconf("SC_PAGE_SIZE")


def _pages(statm: Path) -> int:
    try:
        return int(_read(statm).split()[1])
    except (ValueError, IndexError):
        return 0


def limit_bytes(root: Path = ROOT) -> int | None:
    """The smallest memory limit of this process's control group and of all above it, or None."""
    return min(_limits(root), default=None)


def file_bytes(artifact: Artifact) -> int:
    """The size of a model on disk, external weights included; all files of a pipeline, and where a script decides
    which it reads."""
    if artifact.manifest.pipeline is not None or artifact.manifest.backend == SCRIPT:
        return sum(path.stat().st_size for path in artifact.root.rglob("*") if path.is_file())
    names = {artifact.manifest.model, *(row.path for row in artifact.manifest.files)}
    paths = {artifact.root / name for name in names} | set(artifact.root.glob(f"{artifact.manifest.model}*"))
    return sum(path.stat().st_size for path in paths if path.is_file())


class Budget:
    """How much memory the process may have while models are loaded; None: as much as there is."""

    def __init__(self, budget_bytes: int | None, resident: Callable[[], int] = resident_bytes) -> None:
        self.budget_bytes = budget_bytes
        self.resident = resident

    @classmethod
    def of(cls, budget_mb: float) -> Budget:
        """The given one, else what the control group allows, else none."""
        if budget_mb:
            return cls(int(budget_mb * 1e6))
        limit = limit_bytes()
        return cls(None if limit is None else int(HEADROOM * limit))

    @staticmethod
    def needed_bytes(weight_bytes: int) -> int:
        """What loading files of that size will take at its peak."""
        return max(int(FILES_TO_MEMORY * weight_bytes), SMALLEST_BYTES)

    def missing_bytes(self, needed_bytes: int) -> int:
        """What has to be freed before ``needed_bytes`` more may be taken; 0 or less: nothing."""
        return 0 if self.budget_bytes is None else self.resident() + needed_bytes - self.budget_bytes


def to_free(missing_bytes: int, candidates: Iterable[Kind]) -> Sequence[Kind] | None:
    """What to free so that ``missing_bytes`` come together, least recently used first; None when all is not enough."""
    chosen: list[Kind] = []
    for one in sorted(candidates, key=lambda candidate: candidate.used_ns):
        if missing_bytes <= 0:
            break
        chosen.append(one)
        missing_bytes -= one.bytes
    return chosen if missing_bytes <= 0 else None


def bound_heaps() -> None:
    """Keep glibc from holding on to weights: to be called before the first thread allocates.

    By itself it takes ever larger blocks, up to 32 MB, from the heaps of its threads once such a block was freed, and
    then keeps as much as twice that at the end of each heap, where ``malloc_trim`` does not look.
    """
    adjust = getattr(ctypes.CDLL(None), "mallopt", None)
    if adjust is not None:
        adjust(M_MMAP_THRESHOLD, LARGE_BYTES)
        adjust(M_TRIM_THRESHOLD, LARGE_BYTES)


def trim() -> None:
    """Give freed memory back to the system: glibc keeps it for later use of its own, weights and copies of them."""
    give_back = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if give_back is not None:
        give_back(0)


def _limits(root: Path) -> Iterator[int]:
    mount = root / "sys/fs/cgroup"
    unified, version_1 = {"."}, {"."}
    for line in _read(root / "proc/self/cgroup").splitlines():
        controllers, _, path = line.partition(":")[2].partition(":")
        pure = PurePosixPath(path.lstrip("/"))
        groups = {group.as_posix() for group in (pure, *pure.parents) if ".." not in group.parts}
        if not controllers:
            unified |= groups
        elif "memory" in controllers.split(","):
            version_1 |= groups
    files = [mount / group / "memory.max" for group in unified]
    files += [mount / "memory" / group / "memory.limit_in_bytes" for group in version_1]
    for file in files:
        text = _read(file)
        if text.isdigit() and int(text) < UNLIMITED_BYTES:
            yield int(text)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""
