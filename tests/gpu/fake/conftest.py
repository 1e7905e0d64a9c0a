"""Tests of the real onnxruntime-gpu over fake CUDA libraries; they run in their own environment (environment.py)."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

import pytest

from . import counters

L4 = "sm=89"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip at collection where the interpreter is not that of the environment."""
    if importlib.util.find_spec("fake_gpu_driver") is None:
        for item in items:
            if "tests/gpu/fake/" in item.nodeid:
                item.add_marker(pytest.mark.skip(reason="runs over fake GPUs with: make test-gpu-fake (docs/gpu.md)"))


@pytest.fixture(autouse=True)
def _one_sound_l4(request: pytest.FixtureRequest) -> Iterator[None]:
    """Every test starts with counters at 0 and no planned fault, and leaves the default devices."""
    counters.reset()
    yield
    counters.fail(0)
