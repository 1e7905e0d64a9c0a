"""Tests of the real onnxruntime-gpu over fake CUDA libraries; they run in their own environment (environment.py)."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from typing import Any

import pytest

from . import counters
from .figures import Figures

FIGURES = Figures()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip at collection where the interpreter is not that of the environment."""
    if importlib.util.find_spec("fake_gpu_driver") is None:
        skip = pytest.mark.skip(reason="needs onnxruntime-gpu over fake CUDA: make test-gpu-fake (docs/gpu.md)")
        for item in items:
            if "tests/gpu/fake/" in item.nodeid:
                item.add_marker(skip)


@pytest.fixture(autouse=True)
def _one_sound_l4(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Every test starts with counters at 0 and no planned fault, and leaves the default devices."""
    monkeypatch.chdir(tmp_path_factory.getbasetemp())  # quantization leaves files in the working folder
    counters.reset()
    yield
    counters.fail(0)


@pytest.fixture(scope="session")
def figures() -> Figures:
    """What the run's last lines show."""
    return FIGURES


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Any:
    # Imported here: torch takes seconds, and other tests of this folder need none.
    from .candidates import Workshop

    return Workshop(tmp_path_factory.mktemp("candidates"))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    for line in FIGURES.lines():
        terminalreporter.write_line(line)
