"""Nothing is written outside of what was asked for, and nothing calls home."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("first", ["server.backends.onnxruntime", "optimize, onnxruntime"])
def test_importing_the_runtime_leaves_no_trace_in_the_home_folder(first: str, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    subprocess.run(
        [sys.executable, "-c", f"import {first}"], cwd=ROOT, env={**environment, "HOME": str(tmp_path)}, check=True
    )
    assert list(tmp_path.rglob("*")) == []
