"""A temporary folder with a long path: Unix sockets below it would have paths that the kernel refuses."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.integration import sample_models
from tests.integration.server_process import ROOT, ServerProcess

CHARACTERS = 150
"""Of the folder's path, more than the 107 bytes of a socket's."""

pytestmark = pytest.mark.slow


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    folder = tmp_path / ("t" * max(CHARACTERS - len(str(tmp_path)), 1))
    folder.mkdir(parents=True)
    return {"TMPDIR": str(folder)}


@pytest.fixture
def served(tmp_path: Path, environ: dict[str, str]) -> Iterator[ServerProcess]:
    model = sample_models.mlp(tmp_path / "model.onnx")
    arguments = ["--model", str(model), "--port", "0", "--processes", "2"]
    server = ServerProcess(arguments, environ, tmp_path / "log")
    try:
        yield server.ready()
    finally:
        server.end()


def run(environ: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environ}, capture_output=True, text=True, check=False, timeout=100
    )


def test_the_server_and_the_load_run(served: ServerProcess, environ: dict[str, str]) -> None:
    url = f"http://127.0.0.1:{served.port}"
    done = run(environ, "bench", "run", url, "--rate", "20", "--duration", "1", "--processes", "2")
    # A busy machine makes the run invalid, which is 1 too.
    assert done.returncode in (0, 1), done.stderr
    assert "too long" not in done.stderr
    assert served.get("/ping").status == 200


def test_a_search_runs(tmp_path: Path, environ: dict[str, str]) -> None:
    model, rows = sample_models.mlp(tmp_path / "model.onnx"), tmp_path / "rows.npz"
    np.savez(rows, x=np.random.default_rng(0).random((64, sample_models.MLP_FEATURES), np.float32))
    fast = ["--budget", "60", "--batch-sizes", "1", "--threads", "1", "--rounds", "3", "--candidates", "dynamic_int8"]
    output = tmp_path / "artifact"
    done = run(environ, "optimize", str(model), "--eval", str(rows), *fast, "--output", str(output))
    assert done.returncode == 0, done.stderr
    assert (output / "manifest.json").is_file()
    assert list(Path(environ["TMPDIR"]).iterdir()) == []
