"""The lock files: in step with the extras and the constraints, and a hash for every distribution."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from tests.container.locks import CONSTRAINTS, CPU, GPU, ROOT, versions

SPEC = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?==(\S+)$")
FILES = pytest.mark.parametrize("path", [CPU, GPU], ids=lambda path: path.name)


def required(path: Path) -> list[str]:
    """The requirements of the extras that a lock file resolves."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    serve: list[str] = extras["serve"]
    if path == CPU:
        return serve
    return [*extras["gpu"], *(one for one in serve if not one.startswith("onnxruntime=="))]


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
    assert all(name.startswith(("nvidia-", "onnxruntime-gpu")) for name in unknown)


@FILES
def test_every_distribution_has_a_hash_and_no_address(path: Path) -> None:
    text = path.read_text("utf-8")
    entries = [entry for entry in re.split(r"\n(?=\S)", text.strip()) if not entry.startswith("#")]
    assert len(entries) > 10
    for entry in entries:
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", entry), entry
    assert "://" not in text


def test_the_gpu_lock_differs_by_the_runtime_and_its_libraries() -> None:
    cpu, gpu = set(versions(CPU)), set(versions(GPU))
    assert cpu - gpu == {"onnxruntime"}
    assert {"onnxruntime-gpu", "nvidia-cudnn-cu13", "nvidia-cublas"} <= gpu - cpu
