"""The package: complete or not there at all, and what is in it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from optimize.errors import BadInput
from optimize.evaluation.dataset import Dataset
from optimize.evaluation.neighbours import Influence
from optimize.package import artifact as package
from optimize.package.artifact import Findings, Identity
from server import artifact
from server.artifact import Manifest
from server.backends.independence import Independence

IDENTITY = Identity("small", "3", "classification", ("a", "b", "c", "d"))


def test_the_directory_appears_when_it_is_complete(tmp_path: Path) -> None:
    output = tmp_path / "deep" / "out"
    with package.staged(output, force=False) as root:
        (root / "file").write_text("text")
        assert not output.exists()
    assert [path.name for path in output.parent.iterdir()] == ["out"]
    assert (output / "file").read_text() == "text"


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, ValueError])
def test_an_interrupted_run_leaves_what_was_there_and_nothing_else(
    tmp_path: Path, interruption: type[BaseException]
) -> None:
    output = tmp_path / "out"
    output.mkdir()
    (output / "old").write_text("kept")

    def interrupted() -> None:
        with package.staged(output, force=True) as root:
            (root / "half").write_text("half")
            raise interruption

    with pytest.raises(interruption):
        interrupted()
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")) == ["out", "out/old"]


def test_force_replaces_everything(tmp_path: Path) -> None:
    output = tmp_path / "out"
    output.mkdir()
    (output / "old").write_text("gone")
    with package.staged(output, force=True) as root:
        (root / "new").write_text("new")
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")) == ["out", "out/new"]


def test_without_force_only_an_empty_place_is_taken(tmp_path: Path) -> None:
    output = tmp_path / "out"
    output.mkdir()
    with package.staged(output, force=False):
        pass
    (output / "old").write_text("")
    with pytest.raises(BadInput, match="--force"), package.staged(output, force=False):
        raise AssertionError("not reached")
    with pytest.raises(BadInput, match="is a file"), package.staged(output / "old", force=True):
        raise AssertionError("not reached")


def test_the_artifact_is_what_the_server_reads(tmp_path: Path, findings: Findings, rows: Dataset) -> None:
    root = tmp_path / "out"
    root.mkdir()
    package.write(root, IDENTITY, findings, rows)
    found = artifact.read(root)
    artifact.verify(found)
    manifest = found.manifest
    assert (manifest.name, manifest.version, manifest.backend) == ("small", "3", "onnxruntime")
    assert manifest.spec.batchable
    assert manifest.batching is not None
    assert (manifest.batching.batch_sizes, manifest.batching.instances, manifest.batching.threads) == ((1, 8), 2, 1)
    assert [(point.batch_size, point.p50_us, point.p95_us) for point in manifest.cost] == [(1, 10, 11), (8, 80, 88)]
    assert {row.path for row in manifest.files} == {"model.onnx", "report.html", "samples.npz"}


def test_samples_are_real_rows_with_the_answers_of_the_reference(
    tmp_path: Path, findings: Findings, rows: Dataset
) -> None:
    root = tmp_path / "out"
    root.mkdir()
    package.write(root, IDENTITY, findings, rows)
    with np.load(root / "samples.npz") as samples:
        assert set(samples.files) == {"input:image", "output:score"}
        assert np.array_equal(samples["input:image"], rows.inputs["image"][:8])
        assert np.array_equal(samples["output:score"], findings.search.reference_outputs["score"][:8])


def test_the_manifest_is_json_and_has_every_candidate(tmp_path: Path, findings: Findings, rows: Dataset) -> None:
    root = tmp_path / "out"
    root.mkdir()
    package.write(root, IDENTITY, findings, rows)

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    body = json.loads((root / "manifest.json").read_text(), parse_constant=refuse)
    assert [row["name"] for row in body["evidence"]["candidates"]] == ["float32", "fast", "broken"]
    assert body["evidence"]["chosen"] == "fast"
    assert body["provenance"]["command"].startswith("python -m optimize")


def test_differences_of_answers() -> None:
    one, two = np.array([1.0, 2.0]), np.array([1.0, 2.5])
    assert package.largest_difference([one], [two]) == 0.5
    assert package.largest_difference([one], [two[:1]]) == float("inf")
    assert package.largest_difference([one * np.nan], [two]) == float("inf")


def test_samples_are_bounded_in_bytes_and_never_none() -> None:
    def data(width: int) -> Dataset:
        return Dataset({"x": np.zeros((20, width), np.float32)}, None, "0")

    small, large, huge = (package.sample_rows(data(width), {}) for width in (10, 100_000, 10_000_000))
    assert (small, large, huge) == (package.SAMPLE_ROWS, 2, 1)
    outputs = {"y": np.zeros((20, 200_000), np.float32)}
    assert package.sample_rows(data(10), outputs) == 1


def test_the_manifest_says_whether_rows_are_independent_and_why_not(
    findings: Findings, rows: Dataset, tmp_path: Path
) -> None:
    found = replace(findings, independence=Independence(False, "output 'y' of a row alone differs"))
    written = package.write(tmp_path, Identity("small", "1", "", ()), found, rows)
    batching = Manifest.from_json(written.manifest.to_json()).batching
    assert batching is not None
    assert (batching.independent, batching.reason) == (False, "output 'y' of a row alone differs")


def test_an_influence_of_neighbours_within_the_limit_is_said(findings: Findings, rows: Dataset, tmp_path: Path) -> None:
    chosen = replace(findings.search.outcomes[1], influence=Influence(32, 4, 0.01))
    search = replace(findings.search, outcomes=(findings.search.outcomes[0], chosen, findings.search.outcomes[2]))
    written = package.write(tmp_path, Identity("small", "1", "", ()), replace(findings, search=search), rows)
    batching = written.manifest.batching
    assert batching is not None
    assert batching.independent
    assert "4 of 32 rows" in batching.reason


def test_missing_values_in_the_data_are_declared(findings: Findings, rows: Dataset, tmp_path: Path) -> None:
    written = package.write(tmp_path, Identity("small", "1", "", ()), replace(findings, missing=("image",)), rows)
    assert written.manifest.to_json()["inputs"][0]["missing"] is True
    assert package.largest_difference([np.array([np.nan, 1.0])], [np.array([np.nan, 1.0])]) == 0.0
