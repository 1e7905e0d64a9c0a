"""The notebook in examples/ runs from its first cell to its last."""

from __future__ import annotations

from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).resolve().parents[4] / "examples" / "bench_result.ipynb"
REASON = 'the notebook extra is not installed: pip install -e ".[notebook]"'


@pytest.mark.filterwarnings("ignore")  # of the notebook's own machinery
def test_the_notebook_runs(tmp_path: Path) -> None:
    nbclient = pytest.importorskip("nbclient", reason=REASON)
    nbformat = pytest.importorskip("nbformat", reason=REASON)
    for needed in ("ipykernel", "pandas", "matplotlib"):
        pytest.importorskip(needed, reason=REASON)
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    # The run that it plants lands in the folder of its kernel, and its imports in the checkout.
    notebook.cells.insert(
        0, nbformat.v4.new_code_cell(f"import os\nos.environ['BENCH_RECORD'] = {str(tmp_path / 'r.json')!r}")
    )
    nbclient.NotebookClient(notebook, timeout=100, resources={"metadata": {"path": str(NOTEBOOK.parent)}}).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert not any(output.output_type == "error" for output in outputs)
