"""The monitor as a scheduled container: the command of docs/monitor.md, run as it stands, finds a planted drift."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from container.monitor.__main__ import VIOLATED, main
from server.observe.capture.record import Encoder

pytestmark = pytest.mark.container

ROOT = Path(__file__).parents[2]
PARTS = ("pyproject.toml", "README.md", "server", "optimize", "bench", "container")
JSON = b"application/json"


def captured(folder: Path, mean: float) -> None:
    """Two hundred requests of one row of two columns, as the server records them."""
    random, encoder = np.random.default_rng(0), Encoder()
    folder.mkdir(parents=True)
    rows = random.normal([mean, 0.0], 1.0, (200, 2)).tolist()
    bodies = [json.dumps({"instances": [row]}).encode() for row in rows]
    asked = [(b"content-type", JSON)]
    lines = [encoder.line((0, "digits", "1", asked, body, JSON, b'{"predictions":[1]}', [])) for body in bodies]
    (folder / "one.jsonl").write_bytes(b"".join(lines))


def test_the_command_of_the_page_finds_drift(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = (ROOT / "docs" / "monitor.md").read_text("utf-8")
    found = re.search(r"^```sh\n(docker run .*?)^```", page, re.MULTILINE | re.DOTALL)
    assert found is not None
    for part in PARTS:
        ignored = shutil.ignore_patterns("__pycache__")
        source = ROOT / part
        shutil.copytree(source, tmp_path / part, ignore=ignored) if source.is_dir() else shutil.copy(source, tmp_path)
    captured(tmp_path / "good", 0.0)
    captured(tmp_path / "captured" / "digits" / "AllTraffic" / "2026" / "01" / "31" / "12", 2.0)
    assert main(["baseline", str(tmp_path / "good"), "--out", str(tmp_path / "baseline")]) == 0
    done = subprocess.run(["sh", "-c", found[1]], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == VIOLATED, done.stderr
    assert "violation: _c0: baseline_drift_check" in done.stdout
    assert "_c1" not in done.stdout
    assert (tmp_path / "checked" / "report.html").stat().st_size > 1_000
    assert json.loads((tmp_path / "checked" / "constraint_violations.json").read_text())["violations"]
