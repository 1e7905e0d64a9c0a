"""Rules of the house that hold for every file of the server: who reads the environment, what the leaves import."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
FILES = sorted((ROOT / "server").rglob("*.py"))
ENVIRONMENT = {"environ", "environb", "getenv", "getenvb", "putenv", "unsetenv"}
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


def uses_of_the_environment(source: str) -> Iterator[str]:
    """Whatever reads or changes the environment, as it is written: through ``os``, or imported from it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and node.attr in ENVIRONMENT:
            yield ast.unparse(node)
        elif isinstance(node, ast.ImportFrom) and node.module == "os":
            yield from (alias.name for alias in node.names if alias.name in ENVIRONMENT)


@pytest.mark.parametrize(
    "source",
    ["import os\nos.environ['A']", "import os as o\no.getenv('A')", "from os import environ", "os.putenv('A', 'b')"],
)
def test_the_search_finds_every_spelling(source: str) -> None:
    assert list(uses_of_the_environment(source))


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_only_the_settings_touch_the_environment(file: Path) -> None:
    found = list(uses_of_the_environment(file.read_text(encoding="utf-8")))
    match file.relative_to(ROOT / "server").as_posix():
        case "settings/reader.py":
            assert found == ["os.environ"]
        case "__init__.py":  # the one exception, explained there: it is written, never read
            assert found == ["os.environ"]
            assert 'os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")' in file.read_text(encoding="utf-8")
        case _:
            assert found == []


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


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_every_module_says_in_its_first_line_what_it_owns(file: Path) -> None:
    assert ast.get_docstring(ast.parse(file.read_text(encoding="utf-8")))
