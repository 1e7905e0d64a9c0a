"""Zoo models of scikit-learn, XGBoost and LightGBM, converted to ONNX; their right answers come from the estimator."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from .model import Answer, MakeInputs, Tensors, ZooModel

FEATURES = 4
ROWS = 160
OPSETS = {"": 17, "ai.onnx.ml": 3}


@dataclass(frozen=True, slots=True)
class Training:
    """Seeded training data: ``x`` float32 [160, 4], and targets by kind."""

    x: NDArray[np.float32]
    target: NDArray[Any]


def features(random: np.random.Generator, rows: int) -> dict[str, NDArray[Any]]:
    """One request: float32 ``x`` [rows, 4]."""
    return {"x": random.standard_normal((rows, FEATURES)).astype(np.float32)}


def positive(random: np.random.Generator, rows: int) -> dict[str, NDArray[Any]]:
    """One request of values from 0 to 3."""
    return {"x": (3 * random.random((rows, FEATURES))).astype(np.float32)}


def with_missing(random: np.random.Generator, rows: int) -> dict[str, NDArray[Any]]:
    """One request in which three of ten values are NaN."""
    made = features(random, rows)
    made["x"][random.random((rows, FEATURES)) < 0.3] = np.nan
    return made


@cache
def training(kind: str) -> Training:
    """Training data whose target is of ``kind``."""
    random = np.random.default_rng(11)
    source = {"missing": with_missing, "counts": positive}.get(kind, features)
    x = source(random, ROWS)["x"]
    known = np.nan_to_num(x)
    score = known @ np.array([1.0, -2.0, 0.5, 0.0]) + 0.3 * random.standard_normal(ROWS)
    classes = np.digitize(score, [-1, 1])
    targets: dict[str, Callable[[], Any]] = {
        "real": lambda: score,
        "counts": lambda: random.poisson(np.exp(np.clip(score / 4, -2, 2))),
        "two": lambda: (score > 0).astype(np.int64),
        "signs": lambda: np.where(score > 0, 1, -1),
        "three": lambda: classes,
        "missing": lambda: (score > 0).astype(np.int64),
        "words": lambda: np.array(["bird", "cat", "Hündchen"])[classes],
    }
    return Training(x, targets[kind]())


def _types(inputs: Tensors) -> list[tuple[str, Any]]:
    from skl2onnx.common.data_types import FloatTensorType, Int64TensorType, StringTensorType

    kinds = {"f": FloatTensorType, "i": Int64TensorType, "O": StringTensorType}
    return [(name, kinds[array.dtype.kind]([None, array.shape[1]])) for name, array in inputs.items()]


def register() -> None:
    """Let skl2onnx convert XGBoost's and LightGBM's estimators."""
    from lightgbm import LGBMClassifier, LGBMRegressor
    from onnxmltools.convert.lightgbm.operator_converters.LightGbm import convert_lightgbm
    from onnxmltools.convert.xgboost.operator_converters.XGBoost import convert_xgboost
    from skl2onnx import update_registered_converter
    from skl2onnx.common import shape_calculator
    from xgboost import XGBClassifier, XGBRegressor

    of_classes = shape_calculator.calculate_linear_classifier_output_shapes
    of_numbers = shape_calculator.calculate_linear_regressor_output_shapes
    options = {"zipmap": [True, False, "columns"], "nocl": [True, False], "output_class_labels": [False, True]}
    for model, name, shapes, converter, own in (
        (XGBClassifier, "ZooXGBClassifier", of_classes, convert_xgboost, options),
        (XGBRegressor, "ZooXGBRegressor", of_numbers, convert_xgboost, None),
        (LGBMClassifier, "ZooLGBMClassifier", of_classes, convert_lightgbm, options),
        (LGBMRegressor, "ZooLGBMRegressor", of_numbers, convert_lightgbm, {"split": None}),
    ):
        update_registered_converter(model, name, shapes, converter, options=own, overwrite=True)


def _converter(fit: Callable[[], Any], inputs: MakeInputs) -> Callable[[Path], Path]:
    def build(folder: Path) -> Path:
        from skl2onnx import to_onnx
        from sklearn.base import is_classifier

        register()
        model = fit()
        final = model.steps[-1][1] if hasattr(model, "steps") else model
        options: dict[int, dict[str, Any]] = {id(final): {"zipmap": False}} if is_classifier(final) else {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = to_onnx(
                model,
                initial_types=_types(inputs(np.random.default_rng(0), 2)),
                options=options or None,
                target_opset=OPSETS,
            )
        path = folder / "model.onnx"
        path.write_bytes(made.SerializeToString())
        return path

    return build


def _answers(fit: Callable[[], Any], methods: Sequence[str], as_model_input: Callable[[Tensors], Any]) -> Any:
    """A source that calls ``methods`` of the estimator, for the outputs of the file in their order."""

    def source(path: Path) -> Answer:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        outputs = session.get_outputs()
        model = fit()

        def answer(inputs: Tensors) -> dict[str, Any]:
            x = as_model_input(inputs)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = [np.asarray(getattr(model, method)(x)) for method in methods]
            return {node.name: _shaped(array, node) for node, array in zip(outputs, found, strict=True)}

        return answer

    return source


def _shaped(array: NDArray[Any], node: Any) -> NDArray[Any]:
    """The estimator's array in the rank and dtype that the converter declares."""
    if len(node.shape) == 2 and array.ndim == 1:
        array = array.reshape(-1, 1)
    dtypes = {"tensor(float)": np.float32, "tensor(int64)": np.int64, "tensor(double)": np.float64}
    return array.astype(dtypes.get(node.type, object))


def _matrix(inputs: Tensors) -> Any:
    return inputs["x"]


def estimator(
    name: str,
    make: Callable[[], Any],
    target: str,
    methods: Sequence[str],
    why: str = "a classical model",
    inputs: MakeInputs = features,
    **fields: Any,
) -> ZooModel:
    """A zoo model of one fitted estimator over float32 ``x`` [rows, 4]."""

    @cache
    def fit() -> Any:
        data = training(target)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return make().fit(data.x, data.target)

    return ZooModel(
        name,
        _converter(fit, inputs),
        inputs,
        _answers(fit, methods, _matrix),
        why,
        slow_source=True,
        **fields,
    )


def table(
    name: str,
    make: Callable[[], Any],
    inputs: MakeInputs,
    target: Callable[[Tensors], Any],
    methods: Sequence[str],
    as_model_input: Callable[[Tensors], Any],
    why: str,
    **fields: Any,
) -> ZooModel:
    """A zoo model of an estimator over named columns or texts."""

    @cache
    def fit() -> Any:
        data = inputs(np.random.default_rng(11), ROWS)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return make().fit(as_model_input(data), target(data))

    return ZooModel(
        name,
        _converter(fit, inputs),
        inputs,
        _answers(fit, methods, as_model_input),
        why,
        slow_source=True,
        **fields,
    )
