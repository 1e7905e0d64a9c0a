"""What an import of the server's small modules brings along: ``--help`` and a wrong setting must answer at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
LEAVES = [
    "server.errors",
    "server.fatal",
    "server.tensors",
    "server.request",
    "server.settings.options",
    "server.artifact",
    "server.system.cores",
    "server.lifecycle",
    "server.backends",
    "server.backends.fake",
    "server.scheduling.cost",
    "server.scheduling.queue",
    "server.observe.metrics",
]
HEAVY = ["torch", "onnx", "onnxruntime", "sagemaker", "locust", "fastapi", "uvicorn", "optimize", "bench", "container"]


def modules_after(statement: str) -> set[str]:
    """The names in ``sys.modules`` of a fresh interpreter after a statement."""
    program = f"import sys\n{statement}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, check=True, text=True)
    return set(done.stdout.split())


def test_importing_the_leaves_imports_nothing_heavy() -> None:
    loaded = modules_after("\n".join(f"import {leaf}" for leaf in LEAVES))
    assert set(LEAVES) <= loaded
    assert loaded.isdisjoint(HEAVY)


def test_help_and_a_bad_setting_need_nothing_but_the_standard_library() -> None:
    loaded = modules_after("import serve\nimport server.settings.reader")
    assert loaded.isdisjoint([*HEAVY, "numpy", "orjson", "prometheus_client"])


def test_a_server_without_capture_imports_nothing_of_it() -> None:
    loaded = modules_after("import server.launch")
    assert not any("capture" in name for name in loaded if name.startswith("server.") and "backends" not in name)
