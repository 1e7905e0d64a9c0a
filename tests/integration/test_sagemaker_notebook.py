"""The notebook of examples/sagemaker runs from its first cell to its last, and leaves nothing, however it ends."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.integration import sample_models
from tests.integration.server_process import ROOT, eventually

NOTEBOOK = ROOT / "examples" / "sagemaker" / "slipway.ipynb"
REASON = 'an extra is not installed: pip install -c constraints.txt -e ".[notebook,tracking]"'
ABANDONED = """
import sys
from examples.sagemaker.rehearsal import Rehearsal

here = Rehearsal.begin()
here.run(f"container.deploy up {sys.argv[1]} --engine local --name digits --state state --port 0")
print(here.folder, flush=True)
sys.stdin.read()
"""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where rehearsals are made, with a short name: it has sockets, whose addresses take about a hundred characters."""
    with tempfile.TemporaryDirectory(prefix="nb-") as made:
        monkeypatch.setenv("TMPDIR", made)
        monkeypatch.setattr(tempfile, "tempdir", made)
        yield Path(made)


def processes(place: Path) -> list[str]:
    """The command lines that name the place."""
    lines = []
    for one in psutil.process_iter():
        try:
            lines.append(" ".join(one.cmdline()))
        except psutil.Error:
            continue  # it has ended meanwhile, or belongs to somebody else
    return [line for line in lines if str(place) in line]


@pytest.mark.filterwarnings("ignore")  # of the notebook's own machinery
def test_the_notebook_runs_and_leaves_nothing(folder: Path) -> None:
    nbclient = pytest.importorskip("nbclient", reason=REASON)
    nbformat = pytest.importorskip("nbformat", reason=REASON)
    for needed in ("ipykernel", "pandas", "matplotlib", "mlflow", "flask_cors"):
        pytest.importorskip(needed, reason=REASON)
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(NOTEBOOK.parent)}}).execute()
    asserting = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    assert all("assert" in source or "imshow" in source for source in asserting)
    assert list(folder.iterdir()) == []
    assert processes(folder) == []


def test_a_kernel_that_is_killed_leaves_nothing(folder: Path, tmp_path: Path) -> None:
    artifact = sample_models.fake(tmp_path / "digits", name="digits")
    kernel = subprocess.Popen(
        [sys.executable, "-c", ABANDONED, str(artifact)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert kernel.stdout is not None
    with kernel:
        place = Path(next(line.strip() for line in kernel.stdout if line.startswith(str(folder))))
        assert processes(place)
        kernel.send_signal(signal.SIGKILL)
    eventually(lambda: not place.exists(), "the folder of the rehearsal is removed")
    eventually(lambda: processes(place) == [], "no process of the rehearsal is left")


def test_a_command_that_fails_stops_the_notebook(folder: Path) -> None:
    from examples.sagemaker.rehearsal import CommandFailed, Rehearsal

    here = Rehearsal.begin()
    try:
        with pytest.raises(CommandFailed, match="ended with 2"):
            here.run("container.deploy up no-such-model --engine local")
        buckets: Any = here.client("s3").list_buckets()["Buckets"]
        assert buckets == []
    finally:
        here.end()
    assert list(folder.iterdir()) == []
