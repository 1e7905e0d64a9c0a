"""show and verify: what was recorded, and whether it still holds."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from optimize.evaluation.dataset import Dataset
from optimize.package import artifact as package
from optimize.package import verify
from optimize.package.artifact import Findings, Identity
from server import artifact
from server.errors import BrokenArtifact


@pytest.fixture
def root(tmp_path: Path, findings: Findings, rows: Dataset) -> Path:
    root = tmp_path / "out"
    root.mkdir()
    package.write(root, Identity("small", "3", "", ()), findings, rows)
    return root


def test_an_untouched_artifact_verifies(root: Path) -> None:
    result = verify.verify(root)
    assert result.difference <= result.allowed
    assert result.rows == 8
    assert any("cpu is" in warning and "Abacus 3" in warning for warning in result.warnings)


def test_speed_is_compared_with_the_manifest(root: Path) -> None:
    """The recorded medians are 10 us for one row and 80 us for eight."""
    result = verify.verify(root, lambda _, batch: 14.0 if len(batch[0]) == 1 else 160.0)
    assert [(speed.batch_size, speed.here_us, speed.recorded_us) for speed in result.speeds] == [
        (1, 14.0, 10.0),
        (8, 160.0, 80.0),
    ]
    slower = [warning for warning in result.warnings if "takes" in warning]
    assert slower == ["a batch of 8 takes 160 us here and took 80 us where it was measured: a busy or a slower machine"]


def test_a_changed_file_does_not(root: Path) -> None:
    (root / "report.html").write_text("another")
    with pytest.raises(BrokenArtifact, match=r"report\.html"):
        verify.verify(root)


def test_answers_that_moved_away_do_not(root: Path) -> None:
    with np.load(root / "samples.npz") as archive:
        arrays = dict(archive)
    arrays["output:score"] = arrays["output:score"] + 1
    np.savez(root / "samples.npz", **arrays)
    artifact.write(root, artifact.read(root).manifest)
    with pytest.raises(BrokenArtifact, match="differ from the reference by 1"):
        verify.verify(root)


def test_an_artifact_without_samples_cannot_be_verified(root: Path) -> None:
    (root / "samples.npz").unlink()
    artifact.write(root, _manifest(root))
    with pytest.raises(BrokenArtifact, match="nothing to compare"):
        verify.verify(root)


def _manifest(root: Path) -> artifact.Manifest:
    import json

    return artifact.Manifest.from_json(json.loads((root / "manifest.json").read_text()))


def test_the_table_has_every_candidate(root: Path) -> None:
    manifest = artifact.read(root).manifest
    text = io.StringIO()
    Console(file=text, width=160).print(verify.table(manifest))
    for words in ("float32", "fast", "broken", "2.00x", "not accurate enough"):
        assert words in text.getvalue()
    assert verify.has_evidence(manifest)
    assert not verify.has_evidence(replace(manifest, evidence={}))
