"""Conversion of scikit-learn estimators by skl2onnx, with XGBoost and LightGBM steps, and reasons of failures."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from ..errors import BadInput
from ..evaluation.dataset import Dataset
from . import SourceModel, SourceSpec, tree_thresholds
from .estimator import Attempt, described
from .estimator_inputs import MATRIX, NAMED_MATRIX, TEXTS, EstimatorInputs
from .torch_module import brief

OPSETS = {"": 18, "ai.onnx.ml": 3}
"""The opset versions that the converters write: every converter supports them."""

TOKEN_PATTERN, TOKENS = r"(?u)\b\w\w+\b", r"[\p{L}\p{N}_][\p{L}\p{N}_]+"
"""The default pattern of scikit-learn's tokenizers, and the same in the syntax of ONNX Runtime's Tokenizer."""

REMEDY = (
    "Serve the original model with a script instead: code/inference.py with model_fn and predict_fn (docs/handlers.md)"
)


def reference_model(request: SourceSpec, model: Any, data: Dataset, digests: Mapping[str, str]) -> SourceModel:
    """Describe a scikit-learn estimator or pipeline. Raises BadInput if it fails on the rows."""
    register_boosters()
    fitted = unwrapped(model)
    attempts = [
        Attempt("with default types", partial(_write, fitted)),
        Attempt("with raw scores", partial(_write, fitted, raw=True)),
        Attempt("in float64", partial(_write, fitted, double=True)),
        Attempt("in float64 with raw scores", partial(_write, fitted, double=True, raw=True)),
        Attempt("with float columns", partial(_write, fitted, floats=True)),
    ]
    return described(request, fitted, data, digests, attempts, partial(explain, fitted))


def unwrapped(model: Any) -> Any:
    """Return the estimator that a parameter search found, or the model itself."""
    name = type(model).__name__
    if name.endswith("SearchCV") and hasattr(model, "best_estimator_"):
        return unwrapped(model.best_estimator_)
    if name == "SelfTrainingClassifier":
        return unwrapped(model.estimator_)
    return unwrapped(model.estimator) if name == "FrozenEstimator" else model


def _write(
    model: Any, inputs: EstimatorInputs, *, raw: bool = False, double: bool = False, floats: bool = False
) -> Any:
    """Convert ``model``. ``raw``: decision scores instead of probabilities. ``double``: compute in float64."""
    try:
        from skl2onnx import to_onnx
    except ModuleNotFoundError as error:
        raise BadInput("scikit-learn models need the extra 'classic': pip install -e '.[classic]'") from error
    types = _types(inputs, double=double, floats=floats)
    options: dict[Any, Any] = {id(step): {"tokenexp": _tokens(step)} for step in _steps(model) if _tokens(step)}
    for choice in _choices(model, raw=raw):
        try:
            written = to_onnx(model, initial_types=types, options={**options, **choice} or None, target_opset=OPSETS)
        except NameError:
            # The converter does not know this option.
            continue
        tree_thresholds.repair(written, model)
        return written
    return to_onnx(model, initial_types=types, options=options or None, target_opset=OPSETS)


def _choices(model: Any, *, raw: bool) -> Iterator[dict[Any, Any]]:
    """Yield options of the last step. Without ZipMap, probabilities stay a tensor instead of dictionaries."""
    last = model.steps[-1][1] if hasattr(model, "steps") else model
    if raw:
        yield {id(last): {"zipmap": False, "raw_scores": True}}
        yield {id(last): {"raw_scores": True}}
    yield {id(last): {"zipmap": False}}
    yield {}


def _steps(value: Any) -> Iterator[Any]:
    """Yield the estimators inside of pipelines, column transformers and unions, and ``value`` itself."""
    yield value
    for name in ("steps", "transformers_", "transformer_list", "estimators"):
        for row in getattr(value, name, None) or ():
            if isinstance(row, tuple) and len(row) > 1 and not isinstance(row[1], str):
                yield from _steps(row[1])


def _tokens(step: Any) -> str:
    """Return the tokenizer's pattern in the syntax of ONNX Runtime, or nothing if the converter knows it."""
    usual = getattr(step, "token_pattern", None) == TOKEN_PATTERN
    return TOKENS if usual and getattr(step, "analyzer", "") == "word" and step.tokenizer is None else ""


def _types(inputs: EstimatorInputs, *, double: bool, floats: bool) -> list[tuple[str, Any]]:
    """Return the input types for skl2onnx: one matrix, one text, or one column per feature."""
    from skl2onnx.common import data_types

    number = data_types.DoubleTensorType if double else data_types.FloatTensorType
    if inputs.form == TEXTS:
        return [("input", data_types.StringTensorType([None, 1]))]
    if inputs.form == MATRIX or (inputs.form == NAMED_MATRIX and not double and not floats):
        text = inputs.arrays[inputs.names[0]].dtype.kind == "O"
        return [("input", (data_types.StringTensorType if text else number)([None, inputs.columns]))]
    if inputs.form == NAMED_MATRIX:
        return [(name, number([None, 1])) for name in inputs.features]
    kinds = {"O": data_types.StringTensorType, "b": number if floats else data_types.BooleanTensorType}
    kinds |= dict.fromkeys("iu", number if floats or double else data_types.Int64TensorType)
    return [(name, kinds.get(inputs.arrays[name].dtype.kind, number)([None, 1])) for name in inputs.names]


def register_boosters() -> None:
    """Register the converters of XGBoost and LightGBM for pipelines, if the libraries are installed."""
    import importlib.util

    if not all(importlib.util.find_spec(name) for name in ("skl2onnx", "onnxmltools")):
        return
    from skl2onnx import update_registered_converter
    from skl2onnx.common.shape_calculator import (
        calculate_linear_classifier_output_shapes as classifier_shapes,
    )
    from skl2onnx.common.shape_calculator import (
        calculate_linear_regressor_output_shapes as regressor_shapes,
    )

    options = {"nocl": [True, False], "zipmap": [True, False, "columns"], "raw_scores": [True, False]}
    if importlib.util.find_spec("xgboost"):
        import xgboost
        from onnxmltools.convert.xgboost.operator_converters.XGBoost import convert_xgboost

        for name in ("XGBClassifier", "XGBRFClassifier"):
            update_registered_converter(
                getattr(xgboost, name), f"Slipway{name}", classifier_shapes, convert_xgboost, options=options
            )
        for name in ("XGBRegressor", "XGBRFRegressor", "XGBRanker"):
            update_registered_converter(getattr(xgboost, name), f"Slipway{name}", regressor_shapes, convert_xgboost)
    if importlib.util.find_spec("lightgbm"):
        import lightgbm
        from onnxmltools.convert.lightgbm.operator_converters.LightGbm import convert_lightgbm

        update_registered_converter(
            lightgbm.LGBMClassifier, "SlipwayLGBMClassifier", classifier_shapes, convert_lightgbm, options=options
        )
        for name in ("LGBMRegressor", "LGBMRanker"):
            update_registered_converter(
                getattr(lightgbm, name), f"Slipway{name}", regressor_shapes, convert_lightgbm, options={"split": None}
            )


def explain(model: Any, inputs: EstimatorInputs, error: Exception) -> str:
    """Return the failing step of ``model``, the reason and the remedy, in one line."""
    reason = brief(error)
    unknown = re.search(r"type '<class '([\w.]+)'>'", str(error))
    named = unknown[1].rpartition(".")[2] if unknown else ""
    if unknown:
        reason = f"no converter to ONNX exists for {named}"
    step = next((path for path, inner in _paths(model, "") if type(inner).__name__ == named), "")
    step = step or _failing(model, inputs)
    where = f"step {step} " if step else ""
    return f"the model cannot be written as ONNX: {where}({named or type(model).__name__}): {reason}. {REMEDY}"


def _paths(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yield the nested steps of ``value`` with their paths, such as ``prepare/numbers``."""
    for name in ("steps", "transformers_", "transformer_list", "estimators"):
        for row in getattr(value, name, None) or ():
            if isinstance(row, tuple) and len(row) > 1:
                inner = f"{path}/{row[0]}" if path else repr(str(row[0]))
                yield inner, row[1]
                yield from _paths(row[1], inner)


def _failing(model: Any, inputs: EstimatorInputs) -> str:
    """Return the name of the first step after which a pipeline cannot be converted."""
    steps: Sequence[tuple[str, Any]] = getattr(model, "steps", ())
    for count in range(1, len(steps)):
        part = model[:count]
        try:
            _write(part, inputs)
        except Exception:  # noqa: BLE001 - the question is which step fails; its reason is already known
            return repr(str(steps[count - 1][0]))
    return repr(str(steps[-1][0])) if steps else ""
