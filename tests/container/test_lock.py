"""The lock files: in step with the extras and the constraints, and a hash for every distribution."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from tests.container.locks import BUILD, CONSTRAINTS, CPU, GPU, GPU_CUDA12, ROOT, versions

SPEC = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?==([^\s;]+)(?:;.*)?$")
FILES = pytest.mark.parametrize("path", [CPU, GPU, GPU_CUDA12, BUILD], ids=lambda path: path.name)


def required(path: Path) -> list[str]:
    """The requirements of the extras that a lock file resolves."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    if path == BUILD:
        return list(extras["grpc-build"])
    serve: list[str] = extras["serve"] + extras["grpc"]
    if path == CPU:
        return serve
    runtime = "gpu" if path == GPU else "gpu-cuda12"
    return [*extras[runtime], *(one for one in serve if not one.startswith("onnxruntime=="))]


@FILES
def test_a_lock_holds_the_requirements_of_its_extras(path: Path) -> None:
    locked = versions(path)
    for wanted in required(path):
        match = SPEC.match(wanted)
        assert match is not None, wanted
        assert locked.get(match[1].lower()) == match[2], f"{wanted} is not in {path.name}: make lock"


@FILES
def test_a_lock_agrees_with_the_constraints(path: Path) -> None:
    constraints = versions(CONSTRAINTS)
    differing = {
        name: (version, constraints[name])
        for name, version in versions(path).items()
        if constraints.get(name, version) != version
    }
    assert differing == {}, "make lock"
    unknown = set(versions(path)) - set(constraints)
    assert all(name.startswith(("nvidia-", "onnxruntime-gpu", "setuptools")) for name in unknown)


@FILES
def test_every_distribution_has_a_hash_and_no_address(path: Path) -> None:
    text = path.read_text("utf-8")
    entries = [entry for entry in re.split(r"\n(?=\S)", text.strip()) if not entry.startswith("#")]
    assert len(entries) >= 5
    for entry in entries:
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", entry), entry
    assert "://" not in text


@pytest.mark.parametrize("path", [GPU, GPU_CUDA12], ids=lambda path: path.name)
def test_a_gpu_lock_differs_by_the_runtime_and_its_libraries(path: Path) -> None:
    cpu, gpu = set(versions(CPU)), set(versions(path))
    assert cpu - gpu == {"onnxruntime"}
    assert "onnxruntime-gpu" in gpu - cpu
    # The libraries of the wheels carry CUDA 12 in their names, those of CUDA 13 nothing, except cuDNN's.
    major = "cu12" if path == GPU_CUDA12 else "cu13"
    assert f"nvidia-cudnn-{major}" in gpu
    assert all(name.endswith("-cu12") == (major == "cu12") for name in gpu if name.startswith("nvidia-c"))


def test_the_libraries_are_of_the_cuda_version_that_the_newest_sagemaker_host_has() -> None:
    locked = versions(GPU)
    assert {locked[name].rpartition(".")[0] for name in ("nvidia-cuda-runtime", "nvidia-cuda-nvrtc")} == {"13.0"}
