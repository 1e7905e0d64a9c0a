"""The real command lines on really trained digits: train, optimize, show, verify, and an interruption."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from server import artifact
from server.backends import BackendOptions, loader
from tests.integration import sample_models

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("trained")
    result = run("examples.digits.train", "--output", str(directory), "--epochs", "4")
    assert result.returncode == 0, result.stderr
    return directory


def arguments(trained: Path, output: Path) -> list[str]:
    data = ["--eval", str(trained / "eval.npz"), "--calibration", str(trained / "calibration.npz")]
    fast = [
        "--budget",
        "90",
        "--batch-sizes",
        "1,8",
        "--threads",
        "1",
        "--rounds",
        "3",
        "--candidates",
        "dynamic_int8,static_int8",
    ]
    model = ["examples.digits.model:build", "--weights", str(trained / "weights.safetensors")]
    return ["optimize", *model, *data, *fast, "--metric", "accuracy", "--max-drop", "1%", "--output", str(output)]


@pytest.fixture(scope="module")
def optimized(trained: Path) -> Path:
    output = trained / "artifact"
    result = run(*arguments(trained, output))
    assert result.returncode == 0, result.stderr
    assert result.stderr == "", "the libraries' chatter belongs into the record"
    for words in ("float32", "dynamic_int8", "static_int8", "Report:", "Building, evaluating and measuring"):
        assert words in result.stdout
    return output


def evidence(output: Path) -> dict[str, Any]:
    return artifact.read(output).manifest.evidence


def test_the_artifact_is_whole_and_answers_like_the_reference(trained: Path, optimized: Path) -> None:
    found = artifact.read(optimized)
    artifact.verify(found)
    assert found.manifest.spec.batchable
    assert found.manifest.batching is not None
    assert [point.batch_size for point in found.manifest.cost] == [1, 8]
    session = loader(found.manifest.backend)(found.model_path, BackendOptions(threads=1))
    with np.load(trained / "eval.npz") as data:
        (answers,) = session.run([data["image"]])
        accuracy = float((answers.argmax(axis=1) == data["labels"]).mean())
    session.close()
    chosen = next(row for row in evidence(optimized)["candidates"] if row["chosen"])
    assert abs(accuracy - chosen["accuracy"]["score"]["value"]) < 0.005
    assert chosen["accuracy"]["drop"]["high"] <= evidence(optimized)["max_drop"]["limit"]


def test_every_candidate_has_its_reason_and_its_record(optimized: Path) -> None:
    rows = {row["name"]: row for row in evidence(optimized)["candidates"]}
    assert {"float32", "dynamic_int8", "static_int8"} <= set(rows)
    assert all(row["reason"] for row in rows.values())
    assert sum(row["chosen"] for row in rows.values()) == 1
    assert rows["static_int8"]["applied"]["calibration_rows"] == 192
    assert rows["static_int8"]["sqnr_db"] > 20


def test_the_reference_was_proven(optimized: Path) -> None:
    proof = evidence(optimized)["proof"]
    assert [row["batch_size"] for row in proof] == [1, 2, 8]
    assert all(row["max_abs_difference"] < 1e-5 for row in proof)


def test_the_provenance_allows_to_do_it_again(optimized: Path) -> None:
    provenance = artifact.read(optimized).manifest.provenance
    assert provenance["command"].startswith("python -m optimize examples.digits.model:build")
    assert set(provenance["source"]["sha256"]) == {"factory", "weights"}
    assert {"torch", "onnxruntime"} <= set(provenance["versions"])
    assert json.dumps(provenance)


def test_verify_and_show(optimized: Path) -> None:
    verified = run("optimize", "verify", str(optimized))
    assert (verified.returncode, verified.stderr) == (0, "")
    shown = run("optimize", "show", str(optimized))
    assert "static_int8" in shown.stdout


def test_a_second_run_needs_force(trained: Path, optimized: Path) -> None:
    result = run(*arguments(trained, optimized))
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert "--force" in result.stderr


def test_an_interrupted_search_leaves_nothing(tmp_path: Path) -> None:
    # An ONNX file reaches the search without the export of torch; many rounds keep the search going until the signal.
    model = sample_models.mlp(tmp_path / "mlp.onnx")
    data, output = tmp_path / "eval.npz", tmp_path / "artifacts" / "mlp"
    np.savez(data, x=np.random.default_rng(0).normal(size=(200, sample_models.MLP_FEATURES)).astype(np.float32))
    output.parent.mkdir()
    given = ["optimize", str(model), "--eval", str(data), "--metric", "cosine", "--output", str(output)]
    command = [sys.executable, "-m", *given, "--candidates", "dynamic_int8,static_int8", "--rounds", "200"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        while "Building" not in process.stdout.readline():
            assert process.poll() is None, "ended before the search began"
        process.send_signal(signal.SIGINT)
        error = process.stderr.read()
    assert process.returncode == 130
    assert error == "interrupted: nothing was written\n"
    assert list(output.parent.iterdir()) == []
