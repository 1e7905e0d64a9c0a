"""The notebook in examples/ runs from its first cell to its last."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.result import record
from tests.unit.bench import planted
from tests.unit.bench.planted_record import RATE_PER_S, planted_record

NOTEBOOK = Path(__file__).resolve().parents[4] / "examples" / "bench_result.ipynb"
REASON = 'the notebook extra is not installed: pip install -e ".[notebook]"'


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the notebook's own machinery
def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbclient = pytest.importorskip("nbclient", reason=REASON)
    nbformat = pytest.importorskip("nbformat", reason=REASON)
    for needed in ("ipykernel", "pandas", "matplotlib"):
        pytest.importorskip(needed, reason=REASON)
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    path = tmp_path / "run.json"
    rows = planted.simulate(1, RATE_PER_S, 22, planted.FAULTS[2])
    record.write(path, planted_record(rows), rows)
    monkeypatch.setenv("BENCH_RECORD", str(path))
    nbclient.NotebookClient(notebook, timeout=100, resources={"metadata": {"path": str(NOTEBOOK.parent)}}).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert not any(output.output_type == "error" for output in outputs)
