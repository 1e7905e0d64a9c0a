"""An artifact for another GPU, driver or library is refused before the server is ready, over NVML and CUDA as faked."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from server.artifact import Manifest, write
from server.errors import BrokenArtifact
from server.models.load.placement import require_device
from server.settings.options import Settings
from server.target import BucketBytes, ClosedShapes, DeviceTarget
from server.tensors import BY_NAME, ModelSpec, TensorSpec

from . import counters
from .figures import Figures

ROOT = Path(__file__).parents[3]
FP32 = BY_NAME["FP32"]
SPEC = ModelSpec((TensorSpec("x", FP32, (-1, 4)),), (TensorSpec("y", FP32, (-1, 4)),))
ENGINE = Manifest(
    "m",
    "1",
    "torch_export",
    "model.pt2",
    SPEC,
    device=DeviceTarget("cuda", sm=89, least_driver=580),
    shapes=ClosedShapes((1, 8), bytes=(BucketBytes(8, 0, 1 << 30),)),
)
"""Bound to SM 8.9, as an engine of TensorRT is, in a format whose package is not asked for."""


@pytest.fixture
def _restored() -> Iterator[None]:
    yield
    counters.configure("sm=89")


@pytest.mark.usefixtures("_restored")
@pytest.mark.parametrize("sm", [75, 80, 86, 90, 120])
def test_an_engine_of_another_compute_capability_is_refused(figures: Figures, sm: int) -> None:
    counters.configure(f"sm={sm}")
    with pytest.raises(BrokenArtifact, match=f"built for GPUs of SM 89, and this one has SM {sm}"):
        require_device(ENGINE, Settings())
    figures.add("artifacts refused on the wrong SM before READY", 1)


@pytest.mark.usefixtures("_restored")
def test_an_engine_is_accepted_where_it_was_built() -> None:
    counters.configure("sm=89")
    require_device(ENGINE, Settings())


@pytest.mark.usefixtures("_restored")
@pytest.mark.parametrize(
    ("devices", "reason"),
    [
        ("sm=89,driver=535.183.01", r"needs an NVIDIA driver of 580 or newer, and 535 is installed; .*gpu-4-1"),
        ("sm=89,memory_mib=1024,used_mib=512", r"needs 1\.07 GB of device memory, and 0\.54 GB are free"),
    ],
)
def test_an_older_driver_and_too_little_memory_are_refused(devices: str, reason: str) -> None:
    counters.configure(devices)
    with pytest.raises(BrokenArtifact, match=reason):
        require_device(ENGINE, Settings())


@pytest.mark.usefixtures("_restored")
def test_a_library_that_differs_is_refused() -> None:
    versions = {"tensorrt_that_is_not_there": "10.16.1.11"}
    needing = replace(ENGINE, device=replace(ENGINE.device, versions=versions))
    with pytest.raises(BrokenArtifact, match=r"needs the package tensorrt_that_is_not_there 10\.16\.1\.11"):
        require_device(needing, Settings())


def test_the_server_ends_with_the_reason(tmp_path: Path, figures: Figures) -> None:
    (tmp_path / "model.pt2").write_bytes(b"an engine")
    write(tmp_path, ENGINE)
    done = subprocess.run(
        [sys.executable, "serve.py", "--model", str(tmp_path), "--port", "0"],
        cwd=ROOT,
        env={**os.environ, "FAKE_GPUS": "sm=75,name=Tesla T4"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode != 0
    assert "built for GPUs of SM 89, and this one has SM 75" in done.stderr + done.stdout
    assert "READY" not in done.stderr + done.stdout
    figures.add("artifacts refused on the wrong SM before READY", 1)
