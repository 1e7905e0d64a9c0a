"""Memory of this process: the budget, the estimate of a load, and which models are evicted for it."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from server.artifact import Artifact, Manifest
from server.system.memory import FILES_TO_MEMORY, HEADROOM, SMALLEST_BYTES, Budget, file_bytes, to_free
from server.system.memory import resident_bytes as resident
from server.tensors import ModelSpec

MB = 1_000_000


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_what_this_process_takes_is_what_the_kernel_says(tmp_path: Path) -> None:
    assert resident() > 10 * MB
    assert resident(tmp_path) == 0


def test_a_budget_that_is_set_wins_and_none_never_misses_anything() -> None:
    assert Budget.of(12.5).budget_bytes == 12_500_000
    assert Budget(None).missing_bytes(1 << 50) == 0
    assert Budget(100 * MB, lambda: 60 * MB).missing_bytes(50 * MB) == 10 * MB
    assert 0 < HEADROOM < 1


def test_the_estimate_is_of_all_files_and_never_nothing(tmp_path: Path) -> None:
    write(tmp_path, {"model.onnx": "12345", "model.onnx.data": "1234567890", "other.txt": "1"})
    artifact = Artifact(tmp_path, Manifest("m", "1", "fake", "model.onnx", ModelSpec((), ())), declared=False)
    assert file_bytes(artifact) == 15
    assert Budget.needed_bytes(15) == SMALLEST_BYTES
    assert Budget.needed_bytes(100 * MB) == FILES_TO_MEMORY * 100 * MB


@dataclass(frozen=True)
class Item:
    bytes: int
    used_ns: int


def test_the_least_recently_used_go_first_and_no_more_than_needed() -> None:
    old, middle, new = Item(10, 1), Item(10, 2), Item(10, 3)
    assert to_free(0, [old, new]) == []
    assert to_free(10, [new, old, middle]) == [old]
    assert to_free(11, [new, old, middle]) == [old, middle]
    assert to_free(31, [new, old, middle]) is None


HEAP_OF_A_THREAD = """
import ctypes, threading
from server.system.memory import bound_heaps, resident_bytes, trim

libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
SMALL, CACHED, MB = 56, 7, 1_000_000  # glibc caches so many small blocks of each size for a thread
bound_heaps()
before = resident_bytes()

def fill_and_free():
    addresses = ctypes.c_void_p * 100
    large, small, cached = addresses(), addresses(), addresses()
    for at in range(CACHED):
        cached[at] = libc.malloc(SMALL)
    for at in range(28):
        large[at] = libc.malloc(2 * MB)
        ctypes.memset(large[at], 1, 2 * MB)
    for at in range(40):  # at the end of the heap
        small[at] = libc.malloc(SMALL)
    for blocks, count in ((cached, CACHED), (large, 28), (small, 40)):
        for at in range(count):
            libc.free(blocks[at])

thread = threading.Thread(target=fill_and_free)
thread.start()
thread.join()
trim()
print((resident_bytes() - before) / MB)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="another C library than glibc")
def test_small_blocks_at_the_end_of_a_heap_keep_none_of_it() -> None:
    done = subprocess.run([sys.executable, "-c", HEAP_OF_A_THREAD], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 10
