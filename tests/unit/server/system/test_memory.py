"""The memory of the process: limits of control groups, the estimate, and what is freed for what."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from server.artifact import Artifact, Manifest
from server.system.memory import FILES_TO_MEMORY, HEADROOM, SMALLEST_BYTES, Budget, file_bytes, limit_bytes, to_free
from server.system.memory import resident_bytes as resident
from server.tensors import ModelSpec

MB = 1_000_000


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({}, None),
        ({"sys/fs/cgroup/memory.max": "max\n"}, None),
        ({"sys/fs/cgroup/memory.max": "5000\n"}, 5000),
        (
            {
                "proc/self/cgroup": "0::/a/b\n",
                "sys/fs/cgroup/a/b/memory.max": "max",
                "sys/fs/cgroup/a/memory.max": "700",
            },
            700,
        ),
        (
            {"proc/self/cgroup": "4:memory:/a\n", "sys/fs/cgroup/memory/a/memory.limit_in_bytes": "600"},
            600,
        ),
        ({"sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712"}, None),
    ],
)
def test_the_limit_is_the_smallest_of_all_groups(tmp_path: Path, files: dict[str, str], limit: int | None) -> None:
    assert limit_bytes(write(tmp_path, files)) == limit


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
