"""Conversion of scikit-learn estimators by skl2onnx, with XGBoost and LightGBM steps, and reasons of failures."""

from __future__ import annotations

import contextlib
import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from ..errors import BadInput, ExportFailed
from ..evaluation.dataset import Dataset
from . import SourceModel, SourceSpec, tree_ensembles
from .estimator import Attempt, described
from .estimator_inputs import MATRIX, NAMED_MATRIX, TEXTS, EstimatorInputs
from .torch_module import brief

OPSETS = {"": 18, "ai.onnx.ml": 3}
"""The opset versions that the converters write: every converter supports them."""

LOCALE = "C.UTF-8"
"""The locale of the lower case: unlike en_US.UTF-8, every image has it."""

TOKEN_PATTERN, TOKENS = r"(?u)\b\w\w+\b", r"[\p{L}\p{N}_][\p{L}\p{N}_]+"
"""The default pattern of scikit-learn's tokenizers, and the same in the syntax of ONNX Runtime's Tokenizer."""

REMEDY = (
    "Serve the original model with a script instead: code/inference.py with model_fn and predict_fn (docs/scripts.md)"
)


def reference_model(request: SourceSpec, model: Any, data: Dataset, digests: Mapping[str, str]) -> SourceModel:
    """Describe a scikit-learn estimator or pipeline. Raises BadInput if it fails on the rows."""
    register_boosters()
    fitted = unwrapped(model)
    try:
        readable = prepared(fitted)
    except ExportFailed as error:
        raise BadInput(f"{error}. {REMEDY}") from error
    attempts = [
        Attempt("with default types", partial(_write, readable)),
        Attempt("with raw scores", partial(_write, readable, raw=True)),
        Attempt("with float columns", partial(_write, readable, floats=True)),
        Attempt("in float64", partial(_write, readable, double=True)),
        Attempt("in float64 with raw scores", partial(_write, readable, double=True, raw=True)),
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


def prepared(model: Any) -> Any:
    """Return a copy of ``model`` without the forms that the converters cannot read; its predictions are the same.

    Raises ExportFailed for a form that has no equivalent in ONNX.
    """
    copied = copy.deepcopy(model)
    for path, step in [("", copied), *_paths(copied, "")]:
        if type(step).__name__ == "VotingClassifier":
            # It only affects transform(), and the converter refuses the default.
            step.flatten_transform = False
        if type(step).__module__.startswith("lightgbm") and hasattr(step, "booster_"):
            tree_ensembles.floored_dump(step.booster_)
        for predictors in getattr(step, "_predictors", ()):
            for predictor in predictors:
                if predictor.nodes["is_categorical"].any():
                    where = f"step {path} " if path else ""
                    raise ExportFailed(
                        f"the model cannot be written as ONNX: {where}({type(step).__name__}): no converter for "
                        "splits on categories exists; encode the categories with OneHotEncoder"
                    )
                predictor.nodes = [_plain(node) for node in predictor.nodes]
    return copied


def _plain(node: Any) -> dict[str, Any]:
    """Return a node of a histogram tree as Python values, which onnx needs, with an exact float32 threshold."""
    values = {name: node[name].item() for name in node.dtype.names if node[name].ndim == 0}
    threshold = float(tree_ensembles.floor32(values["num_threshold"]))
    return {**values, "threshold": threshold, "value": node["value"]}


def _write(
    model: Any, inputs: EstimatorInputs, *, raw: bool = False, double: bool = False, floats: bool = False
) -> Any:
    """Convert ``model``. ``raw``: decision scores instead of probabilities. ``double``: compute in float64."""
    try:
        from skl2onnx import to_onnx
    except ModuleNotFoundError as error:
        raise BadInput("scikit-learn models need the extra 'classic': pip install -e '.[classic]'") from error
    types = _types(inputs, double=double, floats=floats)
    options = _step_options(model)
    written = None
    for choice in _choices(model, raw=raw):
        try:
            with _integer_flags():
                written = to_onnx(model, initial_types=types, options={**options, **choice}, target_opset=OPSETS)
            break
        except NameError as error:
            # The converter does not know this option.
            if not choice:
                raise ExportFailed(f"the options of the converter are unknown: {error}") from error
    tree_ensembles.repair(written, model)
    boosters = [step.get_booster() for _, step in [("", model), *_paths(model, "")] if hasattr(step, "get_booster")]
    if len(boosters) == 1:
        tree_ensembles.assign_trees(written, boosters[0])
    return written


@contextlib.contextmanager
def _integer_flags() -> Iterator[None]:
    """Let skl2onnx write the flags of missing values as integers: onnx refuses the booleans that it writes."""
    from skl2onnx.common import tree_ensemble

    original = tree_ensemble.add_node

    def add_node(*arguments: Any, nodes_missing_value_tracks_true: Any = 0, **options: Any) -> None:
        original(*arguments, nodes_missing_value_tracks_true=int(nodes_missing_value_tracks_true), **options)

    tree_ensemble.add_node = add_node
    try:
        yield
    finally:
        tree_ensemble.add_node = original


def _step_options(model: Any) -> dict[Any, dict[str, Any]]:
    """Return the options of tokenizers and scalers by the id of the step."""
    options: dict[Any, dict[str, Any]] = {}
    for _, step in [("", model), *_paths(model, "")]:
        if hasattr(step, "build_analyzer") and hasattr(step, "vocabulary_"):
            usual = step.token_pattern == TOKEN_PATTERN and step.analyzer == "word" and step.tokenizer is None
            options[id(step)] = {"locale": LOCALE} | ({"tokenexp": TOKENS} if usual else {})
        elif type(step).__name__ == "StandardScaler":
            # A multiplication by the reciprocal gives other last bits, and other branches of trees.
            options[id(step)] = {"div": "div"}
    return options


def _choices(model: Any, *, raw: bool) -> Iterator[dict[Any, Any]]:
    """Yield options of the last step. Without ZipMap, probabilities stay a tensor instead of dictionaries."""
    last = model.steps[-1][1] if hasattr(model, "steps") else model
    if raw:
        yield {id(last): {"zipmap": False, "raw_scores": True}}
        yield {id(last): {"raw_scores": True}}
    yield {id(last): {"zipmap": False}}
    yield {}


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
    from skl2onnx.common.shape_calculator import calculate_linear_classifier_output_shapes as classifier_shapes
    from skl2onnx.common.shape_calculator import calculate_linear_regressor_output_shapes as regressor_shapes

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
    failing = next((inner for path, inner in _paths(model, "") if path == step), model)
    return f"the model cannot be written as ONNX: {where}({named or type(failing).__name__}): {reason}. {REMEDY}"


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
