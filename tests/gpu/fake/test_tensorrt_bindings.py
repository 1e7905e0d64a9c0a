"""The bindings of TensorRT 10.16, 11.4 and RTX are what ``tests/tensorrt`` says they are."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.tensorrt import api, steps
from tests.tensorrt.fake import tensorrt

ROOT = Path(__file__).parents[3]
STUBBED = Path(sys.prefix) / "fake-gpu"
REAL = {
    "10.16": ["tensorrt_bindings", str(STUBBED / "tensorrt-10")],
    "11.4": ["tensorrt_bindings", str(STUBBED / "tensorrt-11")],
    "rtx-1.7": ["tensorrt_rtx_bindings"],
}
"""Module, and the folder of bindings that are imported over stub libraries."""


def installed(version: str) -> bool:
    module, *folder = REAL[version]
    return Path(folder[0]).is_dir() if folder else importlib.util.find_spec(module) is not None


@pytest.fixture(scope="module")
def rtx() -> Any:
    if not installed("rtx-1.7"):
        pytest.skip("TensorRT-RTX cannot be had here")
    return importlib.import_module("tensorrt_rtx_bindings")


@pytest.mark.parametrize("version", api.VERSIONS)
def test_the_golden_interface_is_that_of_the_bindings(version: str) -> None:
    if not installed(version):
        pytest.skip(f"the bindings of TensorRT {version} cannot be had here")
    # Two versions of one module do not fit into one process.
    command = [sys.executable, "-m", "tests.tensorrt.api", *REAL[version]]
    read = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert read == (ROOT / "tests" / "tensorrt" / f"{version}.json").read_text("utf-8")


@pytest.mark.parametrize("name", steps.STEPS)
def test_the_fake_does_what_the_real_parser_and_builder_do(rtx: Any, name: str) -> None:
    assert steps.STEPS[name](tensorrt("rtx-1.7").module) == steps.STEPS[name](rtx)
