"""Memory of this process: what it uses, its budget for models, what a model needs, and how memory is given back."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterable, Sequence
from glob import escape
from pathlib import Path
from typing import Protocol, TypeVar

from ..artifact import SCRIPT, Artifact
from . import cgroup

FILES_TO_MEMORY = 1.5
"""Peak memory of loading a model, over the size of its files. Chains of matrices take 1.1 (ONNX Runtime 1.31, peak of
VmHWM over a 200 MB file); the rest is for weights that other kernels pack, and for activations."""

SMALLEST_BYTES = 8_000_000
"""The least that a model is counted with: a session has thread pools and arenas of its own."""

HEADROOM = 0.9
"""The share of the control group's limit that models may fill; requests and the kernel need the rest."""

M_MXFAST, M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = 1, -1, -3  # malloc.h
LARGE_BYTES = 4 << 20
"""Blocks of this size and above are mapped alone and returned to the kernel when they are freed. Most batches of
requests are smaller, and NumPy asks for huge pages from this size on, which makes their first touch cheap."""


class Weighed(Protocol):
    """A model that can be evicted: ``bytes`` that it would free, ``used_ns`` of its last request."""

    @property
    def bytes(self) -> int: ...

    @property
    def used_ns(self) -> int: ...


Kind = TypeVar("Kind", bound=Weighed)


def resident_bytes(root: Path = cgroup.ROOT) -> int:
    """Resident memory of this process and its direct children; 0 on systems without ``/proc``."""
    proc = root / "proc"
    children = [child for file in proc.glob("self/task/*/children") for child in _words(file)]
    statms = [_words(proc / process / "statm") for process in ("self", *children)]
    return sum(int(words[1]) for words in statms if words) * os.sysconf("SC_PAGE_SIZE")


def _words(file: Path) -> list[str]:
    """The words of one of the kernel's files; none where the thread or process has ended."""
    try:
        return file.read_text(encoding="ascii").split()
    except OSError:
        return []


def file_bytes(artifact: Artifact) -> int:
    """The size of a model on disk in bytes, external weights included.

    For a pipeline: the files and folders of its steps. For a script, which chooses its own files: all of the folder.
    """
    pipeline = artifact.manifest.pipeline
    if artifact.manifest.backend == SCRIPT:
        return sum(path.stat().st_size for path in artifact.root.rglob("*") if path.is_file())
    names = {artifact.manifest.model, *(row.path for row in artifact.manifest.files)}
    heads = {artifact.manifest.model}  # external weights have names that begin with that of the model
    if pipeline is not None:
        named = {one.file or one.artifact for one in pipeline.steps} - {""}
        within = (path for name in named for path in (artifact.root / name).rglob("*"))
        names |= {path.relative_to(artifact.root).as_posix() for path in within} | named
        heads |= named
    paths = {artifact.root / name for name in names}
    paths |= {path for name in heads for path in artifact.root.glob(escape(name) + "*")}
    return sum(path.stat().st_size for path in paths if path.is_file())


class Budget:
    """How many bytes the process may use while models are loaded; ``budget_bytes`` None: no limit."""

    def __init__(self, budget_bytes: int | None, resident: Callable[[], int] = resident_bytes) -> None:
        self.budget_bytes = budget_bytes
        self.resident = resident

    @classmethod
    def of(cls, budget_mb: float) -> Budget:
        """``budget_mb`` (10^6 bytes) if it is set, else ``HEADROOM`` of the control group's limit, else no limit."""
        if budget_mb:
            return cls(int(budget_mb * 1e6))
        limit = cgroup.of().memory_limit_bytes()
        return cls(None if limit is None else int(HEADROOM * limit))

    @staticmethod
    def needed_bytes(weight_bytes: int) -> int:
        """Peak memory in bytes of loading files of that size."""
        return max(int(FILES_TO_MEMORY * weight_bytes), SMALLEST_BYTES)

    def missing_bytes(self, needed_bytes: int) -> int:
        """Bytes to free before ``needed_bytes`` more fit; 0 or less: they fit now."""
        return 0 if self.budget_bytes is None else self.resident() + needed_bytes - self.budget_bytes


def to_free(missing_bytes: int, candidates: Iterable[Kind]) -> Sequence[Kind] | None:
    """The candidates to evict for ``missing_bytes``, least recently used first; None when all are not enough."""
    chosen: list[Kind] = []
    for one in sorted(candidates, key=lambda candidate: candidate.used_ns):
        if missing_bytes <= 0:
            break
        chosen.append(one)
        missing_bytes -= one.bytes
    return chosen if missing_bytes <= 0 else None


def bound_heaps() -> None:
    """Fix glibc's thresholds so that freed weights return to the kernel. Call it before the first thread allocates.

    With its default, glibc raises the threshold to the largest block freed so far, up to 32 MB. It then serves such
    blocks from the heaps of threads and keeps up to twice that size at the end of each, where ``malloc_trim`` does not
    look. Small blocks that were freed and not merged yet (``M_MXFAST``) keep a free heap from that end; ``malloc_trim``
    merges them, and with them all of it. Other C libraries have no ``mallopt``; nothing happens there.
    """
    adjust = getattr(ctypes.CDLL(None), "mallopt", None)
    if adjust is not None:
        adjust(M_MMAP_THRESHOLD, LARGE_BYTES)
        adjust(M_TRIM_THRESHOLD, LARGE_BYTES)
        adjust(M_MXFAST, 0)


def trim() -> None:
    """Return freed memory to the kernel: glibc keeps it for reuse otherwise. Nothing happens on other C libraries."""
    give_back = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if give_back is not None:
        give_back(0)
