"""Memory of this process: the budget, the estimate of a load, and which models are evicted for it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

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
