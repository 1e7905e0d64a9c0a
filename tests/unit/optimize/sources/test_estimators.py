"""Trained scikit-learn, XGBoost and LightGBM models, proven equal to their ONNX form."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from optimize.errors import BadInput
from optimize.evaluation.dataset import Dataset
from optimize.sources import SourceSpec, boosted_trees, sklearn_onnx
from optimize.sources.baseline import Proof
from optimize.sources.estimator_inputs import EstimatorInputs
from server.tensors import Array

pytest.importorskip("skl2onnx", reason="the extra 'classic' is not installed")
datasets = pytest.importorskip("sklearn.datasets")

Prove = Callable[..., Proof]
REQUEST = SourceSpec("model.joblib")


def rows(name: str) -> tuple[Dataset, Array]:
    """Every second row of a bundled set to train on, the others to prove with."""
    x, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    return Dataset({"x": x[1::2].astype(np.float32)}, None, ""), np.concatenate([x, y[:, None]], axis=1)[::2]


def trained(model: Any, table: Array, words: Array | None = None) -> Any:
    answers = table[:, -1].astype(int)
    return model.fit(table[:, :-1].astype(np.float32), answers if words is None else words[answers])


def classifiers() -> dict[str, tuple[str, Callable[[], Any]]]:
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    return {
        "support vector machine": ("digits", SVC),
        "logistic regression": ("breast_cancer", lambda: make_pipeline(StandardScaler(), LogisticRegression())),
        "random forest": ("digits", lambda: RandomForestClassifier(20, random_state=0)),
        "k nearest neighbours": ("iris", KNeighborsClassifier),
    }


@pytest.mark.parametrize("family", classifiers())
def test_a_classifier_gives_probabilities_and_label(family: str, prove: Prove) -> None:
    name, make = classifiers()[family]
    data, table = rows(name)
    source = sklearn_onnx.reference_model(REQUEST, trained(make(), table), data, {})
    assert source.outputs == (("scores" if family == "support vector machine" else "probabilities"), "label")
    scores, label = source.run(data.batch(8))
    assert (scores.argmax(axis=1) == label).all()
    assert prove(source, data).worst < 1e-4


def test_classes_that_are_words_are_kept_as_names(prove: Prove) -> None:
    from sklearn.linear_model import LogisticRegression

    data, table = rows("iris")
    model = trained(LogisticRegression(max_iter=1000), table, datasets.load_iris().target_names)
    source = sklearn_onnx.reference_model(REQUEST, model, data, {})
    assert source.classes == ("setosa", "versicolor", "virginica")
    assert source.outputs == ("probabilities",)
    assert prove(source, data).worst < 1e-5


def test_a_regressor_gives_a_value(prove: Prove) -> None:
    from sklearn.linear_model import Ridge

    data, table = rows("diabetes")
    source = sklearn_onnx.reference_model(SourceSpec("m", outputs=("price",)), trained(Ridge(), table), data, {})
    assert source.outputs == ("price",)
    assert prove(source, data).cosine > 0.9999


def test_one_score_for_two_classes_becomes_two_columns(prove: Prove) -> None:
    from sklearn.svm import LinearSVC

    data, table = rows("breast_cancer")
    source = sklearn_onnx.reference_model(REQUEST, trained(LinearSVC(), table), data, {})
    scores, label = source.run(data.batch(8))
    assert (scores.argmax(axis=1) == label).all()
    assert prove(source, data).cosine > 0.9999


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"a": np.ones((4, 2), np.float32), "b": np.ones((4, 2), np.float32)}, "one matrix of features"),
        ({"a": np.ones((4, 2))}, r"float64\[2, 2\].*astype"),
    ],
)
def test_data_that_is_no_matrix_is_refused(arrays: dict[str, Array], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        EstimatorInputs.of(object(), Dataset(arrays, None, ""))


def boosted(library: str, kind: str) -> Any:
    package = pytest.importorskip(library, reason="the extra 'trees' is not installed")
    pytest.importorskip("onnxmltools", reason="the extra 'trees' is not installed")
    prefix, quiet = ("XGB", {}) if library == "xgboost" else ("LGBM", {"verbose": -1})
    return getattr(package, prefix + kind)(n_estimators=10, n_jobs=1, **quiet)


@pytest.mark.parametrize("name", ["iris", "breast_cancer"])
@pytest.mark.parametrize("library", ["xgboost", "lightgbm"])
def test_boosted_classifiers(library: str, name: str, prove: Prove) -> None:
    data, table = rows(name)
    model = trained(boosted(library, "Classifier"), table)
    source = getattr(boosted_trees, f"from_{library}")(REQUEST, model, data, {})
    assert source.outputs == ("probabilities", "label")
    assert prove(source, data).worst < 1e-4


@pytest.mark.parametrize("library", ["xgboost", "lightgbm"])
def test_boosted_regressors(library: str, prove: Prove) -> None:
    data, table = rows("diabetes")
    model = trained(boosted(library, "Regressor"), table)
    source = getattr(boosted_trees, f"from_{library}")(REQUEST, model, data, {})
    assert source.outputs == ("value",)
    assert prove(source, data).cosine > 0.9999


@pytest.mark.parametrize(("library", "file"), [("xgboost", "m.ubj"), ("lightgbm", "m.txt")])
def test_boosted_trees_in_their_own_format(library: str, file: str, tmp_path: Path, prove: Prove) -> None:
    data, table = rows("iris")
    model = trained(boosted(library, "Classifier"), table)
    getattr(model, "booster_", model).save_model(str(tmp_path / file))
    source = getattr(boosted_trees, f"load_{library}")(SourceSpec(str(tmp_path / file)), data)
    assert np.allclose(source.run(data.batch(4))[0], model.predict_proba(data.batch(4)["x"]), atol=1e-6)
    assert prove(source, data).worst < 1e-4


def test_names_of_the_graph_never_collide(tmp_path: Path) -> None:
    """The converter calls its input ``input`` and an inner value like the output that is wanted."""
    from sklearn.linear_model import LogisticRegression

    data, table = rows("iris")
    asked = SourceSpec("m", outputs=("logits", "probabilities"))
    source = sklearn_onnx.reference_model(asked, trained(LogisticRegression(max_iter=500), table), data, {})
    source.export(data.batch(2), tmp_path / "m.onnx", ())
    model = onnx.load(tmp_path / "m.onnx")
    onnx.checker.check_model(model)
    assert [value.name for value in model.graph.output] == ["logits", "probabilities"]
