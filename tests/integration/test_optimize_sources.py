"""Other sources than a torch factory through the whole command line: a text model of any length, a classical one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from optimize.package import verify
from server import artifact
from server.artifact import Manifest, VariableAxis
from server.backends import BackendOptions, loader

ROOT = Path(__file__).parents[2]
QUICK = ("--batch-sizes", "1,4", "--threads", "1", "--rounds", "3", "--candidates", "dynamic_int8")

TEXT_MODEL = """
import sys, transformers
config = transformers.BertConfig(
    vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, num_labels=3
)
transformers.BertForSequenceClassification(config).save_pretrained(sys.argv[1])
"""

CLASSICAL_MODEL = """
import sys, joblib, numpy as np
from sklearn.linear_model import LogisticRegression
with np.load(sys.argv[2]) as data:
    joblib.dump(LogisticRegression(max_iter=500).fit(data["x"], data["labels"]), sys.argv[1])
"""


def run(*arguments: str) -> None:
    result = subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def optimized(source: Path, data: Path, *more: str) -> Manifest:
    output = data.parent / "artifact"
    run("-m", "optimize", str(source), "--eval", str(data), *QUICK, *more, "--max-drop", "5%", "--output", str(output))
    verify.verify(output)
    return artifact.read(output).manifest


@pytest.mark.slow
def test_a_text_model_is_served_at_any_length_and_may_be_padded(tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="the extra 'huggingface' is not installed")
    rng = np.random.default_rng(0)
    ids = rng.integers(1, 50, (64, 24))
    data = tmp_path / "eval.npz"
    np.savez(data, input_ids=ids, attention_mask=np.ones_like(ids))
    run("-W", "ignore", "-c", TEXT_MODEL, str(tmp_path / "model"))

    manifest = optimized(tmp_path / "model", data, "--metric", "cosine")
    assert [spec.shape for spec in manifest.spec.inputs] == [(-1, -1), (-1, -1)]
    assert manifest.spec.outputs[0].shape == (-1, 3)
    assert manifest.padding == VariableAxis({"input_ids": (1, 0), "attention_mask": (1, 0)}, {}, (16, 24))
    assert manifest.evidence["proof_lengths"] == {"tokens": [6, 12, 24]}

    session = loader(manifest.backend)(tmp_path / "artifact" / manifest.model, BackendOptions(threads=1))
    short = ids[:3, :7]
    filled, mask = (np.pad(array, [(0, 0), (0, 9)]) for array in (short, np.ones_like(short)))
    (plain,), (padded,) = session.run([short, np.ones_like(short)]), session.run([filled, mask])
    session.close()
    assert np.allclose(plain, padded, atol=0.02)


@pytest.mark.slow
def test_a_classical_model_becomes_an_artifact(tmp_path: Path) -> None:
    pytest.importorskip("skl2onnx", reason="the extra 'classic' is not installed")
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(120, 6)).astype(np.float32)
    data = tmp_path / "eval.npz"
    np.savez(data, x=rows, labels=(rows[:, 0] > 0).astype(np.int64) + (rows[:, 1] > 0))
    run("-c", CLASSICAL_MODEL, str(tmp_path / "model.joblib"), str(data))

    manifest = optimized(tmp_path / "model.joblib", data, "--allow-pickle", "--metric", "accuracy")
    assert [spec.name for spec in manifest.spec.outputs] == ["probabilities", "label"]
    assert manifest.padding is None
    assert manifest.evidence["chosen"] in ("float32", "dynamic_int8")
    assert manifest.task == "classification"


TABULAR_MODEL = """
import sys, joblib, numpy as np, pandas
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
with np.load(sys.argv[2]) as data:
    table = pandas.DataFrame({name: data[name] for name in ("age", "city")})
    prepare = make_column_transformer((StandardScaler(), ["age"]), (OneHotEncoder(), ["city"]))
    joblib.dump(make_pipeline(prepare, LogisticRegression()).fit(table, data["labels"]), sys.argv[1])
"""


@pytest.mark.slow
def test_a_pipeline_over_named_columns_keeps_its_inputs(tmp_path: Path) -> None:
    pytest.importorskip("skl2onnx", reason="the extra 'classic' is not installed")
    pytest.importorskip("pandas")
    rng = np.random.default_rng(0)
    age, city = rng.integers(18, 70, 120), np.array(["Rome", "Oslo"])[rng.integers(0, 2, 120)]
    data = tmp_path / "eval.npz"
    np.savez(data, age=age, city=city, labels=((age > 40) & (city == "Rome")).astype(np.int64))
    run("-c", TABULAR_MODEL, str(tmp_path / "model.joblib"), str(data))

    manifest = optimized(tmp_path / "model.joblib", data, "--allow-pickle", "--metric", "accuracy")
    assert {spec.name: spec.dtype.name for spec in manifest.spec.inputs} == {"age": "INT64", "city": "BYTES"}

    session = loader(manifest.backend)(tmp_path / "artifact" / manifest.model, BackendOptions(threads=1))
    rows = {"age": np.array([60, 20]), "city": np.array(["Rome", "Oslo"], object)}
    answers = session.run([rows[spec.name] for spec in session.spec.inputs])
    labels = dict(zip((spec.name for spec in session.spec.outputs), answers, strict=True))["label"]
    session.close()
    assert labels.tolist() == [1, 0]
