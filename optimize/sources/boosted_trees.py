"""Source: XGBoost and LightGBM models from their own formats or from a pickle, converted by onnxmltools."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from server.artifact import digest

from ..errors import BadInput
from ..evaluation.dataset import Dataset
from . import SourceModel, SourceSpec, tree_ensembles
from .estimator import Attempt, described
from .estimator_inputs import EstimatorInputs
from .sklearn_onnx import REMEDY
from .torch_module import brief

OPSET = 15
"""The newest opset that onnxmltools writes."""


class _Booster:
    """A bare booster with the interface of a scikit-learn estimator. ``classes_`` is None without classification."""

    def __init__(self, predict: Any, classes: int) -> None:
        self._predict = predict
        self.classes_ = np.arange(classes) if classes else None

    def predict_proba(self, rows: Any) -> Any:
        answer = np.asarray(self._predict(rows))
        return np.stack([1 - answer, answer], axis=1) if answer.ndim == 1 else answer

    def predict(self, rows: Any) -> Any:
        return self._predict(rows) if self.classes_ is None else self.predict_proba(rows).argmax(axis=1)


def load_xgboost(request: SourceSpec, data: Dataset) -> SourceModel:
    """Load a file of ``save_model`` of a classifier, a regressor or a booster. Raises BadInput."""
    xgboost = _library("xgboost")
    booster = xgboost.Booster()
    try:
        booster.load_model(str(request.path))
    except Exception as error:
        raise BadInput(f"{request.path} cannot be read as an XGBoost model: {brief(error)}") from error
    objective = _objective(booster)
    wrapper = xgboost.XGBClassifier if objective.startswith(("binary:", "multi:")) else xgboost.XGBRegressor
    model = wrapper()
    model.load_model(str(request.path))
    return from_xgboost(request, model, data, {"model": digest(request.path)})


def load_lightgbm(request: SourceSpec, data: Dataset) -> SourceModel:
    """Load a text file of ``Booster.save_model``. Raises BadInput."""
    lightgbm = _library("lightgbm")
    try:
        booster = lightgbm.Booster(model_file=str(request.path))
    except Exception as error:
        raise BadInput(f"{request.path} cannot be read as a LightGBM model: {brief(error)}") from error
    return from_lightgbm(request, booster, data, {"model": digest(request.path)})


def from_xgboost(request: SourceSpec, model: Any, data: Dataset, digests: Mapping[str, str]) -> SourceModel:
    """Describe a model of XGBoost's scikit-learn interface. Raises BadInput for a bare booster."""
    if not hasattr(model, "get_booster"):
        raise BadInput(f"{request.path} holds a bare XGBoost booster: save it with save_model to a .ubj file")
    names = model.get_booster().feature_names
    if names is not None:
        # The converter addresses features by position and only accepts the names f0, f1 and so on.
        model.get_booster().feature_names = None

    def write(inputs: EstimatorInputs) -> Any:
        from onnxmltools import convert_xgboost
        from onnxmltools.convert.common.data_types import FloatTensorType

        types = [("input", FloatTensorType([None, inputs.columns]))]
        booster = model.get_booster()
        written = convert_xgboost(tree_ensembles.plain_trees(model), initial_types=types, target_opset=OPSET)
        tree_ensembles.assign_trees(written, booster)
        return written

    return described(request, model, data, digests, [Attempt("by onnxmltools", write)], _explain)


def from_lightgbm(request: SourceSpec, model: Any, data: Dataset, digests: Mapping[str, str]) -> SourceModel:
    """Describe a model of LightGBM's scikit-learn interface, or a booster. Raises BadInput for other objectives."""
    booster = tree_ensembles.floored_dump(getattr(model, "booster_", model))
    wrapped = model if hasattr(model, "booster_") else _Booster(booster.predict, _classes(booster))

    def write(inputs: EstimatorInputs) -> Any:
        from onnxmltools import convert_lightgbm
        from onnxmltools.convert.common.data_types import FloatTensorType

        types = [("input", FloatTensorType([None, inputs.columns]))]
        return convert_lightgbm(model, initial_types=types, target_opset=OPSET, zipmap=False)

    return described(request, wrapped, data, digests, [Attempt("by onnxmltools", write)], _explain)


def _explain(_: EstimatorInputs, error: Exception) -> str:
    return f"the model cannot be written as ONNX: {brief(error)}. {REMEDY}"


def _classes(booster: Any) -> int:
    objective = str(booster.dump_model(num_iteration=1).get("objective", ""))
    if objective.startswith("binary"):
        return 2
    return int(booster.num_model_per_iteration()) if objective.startswith("multiclass") else 0


def _objective(booster: Any) -> str:
    return str(json.loads(booster.save_config())["learner"]["objective"]["name"])


def _library(name: str) -> Any:
    import importlib

    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise BadInput(f"{name} models need the extra 'trees': pip install -e '.[trees]'") from error
