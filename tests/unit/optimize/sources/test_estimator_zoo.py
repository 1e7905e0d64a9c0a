"""Estimators of scikit-learn, XGBoost and LightGBM: their ONNX form is equal, or refused with a reason."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from optimize.errors import BadInput, ExportFailed, NotProven, OptimizeError
from optimize.evaluation.dataset import Dataset
from optimize.sources import SourceSpec, baseline, conversion, pickled
from optimize.sources.baseline import Proof
from tests.unit.optimize.sources import estimator_zoo as zoo

pytest.importorskip("skl2onnx", reason="the extra 'classic' is not installed")
pytest.importorskip("onnxmltools", reason="the extra 'trees' is not installed")

CASES = {**zoo.scikit_learn(), **zoo.boosted(), **zoo.tabular()}

REFUSED: dict[str, tuple[type[OptimizeError], str]] = {
    "SGDClassifier modified huber": (NotProven, "'label' of the exported graph differs"),
    "KNeighborsClassifier distance": (NotProven, "'probabilities' of the exported graph differs"),
    "GaussianProcessClassifier": (ExportFailed, "Solve"),
}
"""The converter's result differs from the estimator, or ONNX Runtime lacks an operator."""


def converted(model: Any, inputs: dict[str, Any], directory: Path) -> tuple[conversion.Conversion, Proof]:
    path = directory / "model.pkl"
    path.write_bytes(b"")
    data = Dataset(inputs, None, "")
    source = pickled.described(SourceSpec(str(path), allow_pickle=True), model, data)
    found = conversion.convert(source, data, (1, 2, 32), directory)
    return found, baseline.write(found, directory / "baseline.onnx")


@pytest.mark.filterwarnings("ignore")  # the libraries warn about each other
@pytest.mark.parametrize("name", CASES)
def test_an_estimator_is_equal_in_onnx_or_refused(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    model = case.build(zoo.X, zoo.TARGETS[case.target])
    inputs = dict(case.data()) if case.data else {"x": zoo.FRESH}
    if name in REFUSED:
        error, words = REFUSED[name]
        with pytest.raises(error, match=re.escape(words)):
            converted(model, inputs, tmp_path)
        return
    found, proof = converted(model, inputs, tmp_path)
    assert set(found.inputs) == set(inputs)
    assert proof.worst < 0.01


def test_nine_in_ten_are_right() -> None:
    assert len(CASES) >= 60
    assert len(REFUSED) <= len(CASES) / 10


def unsupported() -> list[tuple[str, Callable[[], Any], str]]:
    from sklearn.kernel_ridge import KernelRidge
    from sklearn.neighbors import NearestCentroid
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import SplineTransformer, StandardScaler

    return [
        ("alone", KernelRidge, "(KernelRidge)"),
        ("last step", lambda: make_pipeline(StandardScaler(), NearestCentroid()), "step 'nearestcentroid'"),
        ("first step", lambda: make_pipeline(SplineTransformer(), KernelRidge()), "step '"),
    ]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("make", "words"), [row[1:] for row in unsupported()], ids=[row[0] for row in unsupported()])
def test_a_step_without_a_converter_is_named_with_the_remedy(
    make: Callable[[], Any], words: str, tmp_path: Path
) -> None:
    model = make().fit(zoo.X, zoo.TARGETS["classes"])
    with pytest.raises(ExportFailed, match="no converter to ONNX exists") as caught:
        converted(model, {"x": zoo.FRESH}, tmp_path)
    assert words in str(caught.value)
    assert "code/inference.py" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore")
def test_splits_on_categories_are_refused_with_the_remedy(tmp_path: Path) -> None:
    from sklearn.ensemble import HistGradientBoostingRegressor

    rows = np.abs(zoo.X).round()
    model = HistGradientBoostingRegressor(max_iter=3, categorical_features=[0]).fit(rows, rows[:, 0] == 1)
    with pytest.raises(BadInput, match="splits on categories"):
        converted(model, {"x": rows}, tmp_path)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("missing", [0.02, 0.3])
@pytest.mark.parametrize("forest", [True, False])
def test_missing_values_take_the_branch_of_the_estimator(missing: float, forest: bool, tmp_path: Path) -> None:
    """Rare missing values are in few nodes, whose branch for them the converter does not write."""
    from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier

    rng = np.random.default_rng(3)
    rows = rng.normal(size=(300, 5)).astype(np.float32)
    labels = (rows[:, 0] + rows[:, 1] > 0).astype(np.int64)
    rows[rng.random(rows.shape) < missing] = np.nan
    kind = RandomForestClassifier if forest else ExtraTreesClassifier
    _, proof = converted(kind(20, random_state=0).fit(rows, labels), {"x": rows[:64]}, tmp_path)
    assert proof.worst < 1e-5


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("library", ["sklearn", "lightgbm"])
def test_a_float32_value_beside_a_threshold_keeps_its_branch(library: str, tmp_path: Path) -> None:
    """The rows are the float32 neighbours of the thresholds themselves."""
    from lightgbm import LGBMRegressor
    from sklearn.tree import DecisionTreeRegressor

    rows = np.random.default_rng(0).random((200, 1)).astype(np.float32)
    target = rows[:, 0] + (rows[:, 0] > 0.5)
    if library == "sklearn":
        model = DecisionTreeRegressor(min_samples_leaf=5).fit(rows, target)
        thresholds = model.tree_.threshold[model.tree_.children_left > 0]
    else:
        model = LGBMRegressor(n_estimators=2, min_child_samples=5, verbose=-1).fit(rows, target)
        table = model.booster_.trees_to_dataframe()
        thresholds = table["threshold"].dropna().to_numpy()
    near = thresholds.astype(np.float32)
    beside = [near, np.nextafter(near, np.float32(np.inf)), np.nextafter(near, np.float32(-np.inf))]
    probes = np.concatenate(beside)[:64].reshape(-1, 1)
    _, proof = converted(model, {"x": probes}, tmp_path)
    assert proof.worst < 1e-4


def test_columns_by_name_need_a_model_that_knows_them(tmp_path: Path) -> None:
    from sklearn.linear_model import LinearRegression

    model = LinearRegression().fit(zoo.X, zoo.TARGETS["value"])
    columns = {name: zoo.X[:, at] for at, name in enumerate("abcde")}
    with pytest.raises(BadInput, match="trained on a DataFrame"):
        converted(model, columns, tmp_path)


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    import pandas
    from sklearn.linear_model import LinearRegression

    model = LinearRegression().fit(pandas.DataFrame(zoo.X, columns=list("abcde")), zoo.TARGETS["value"])
    with pytest.raises(BadInput, match="column 'c' is not in the data"):
        converted(model, {"a": zoo.X[:, 0], "b": zoo.X[:, 1]}, tmp_path)
