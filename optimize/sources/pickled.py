"""Source: a scikit-learn, XGBoost or LightGBM model in a pickle, joblib or skops file."""

from __future__ import annotations

import pickle
from typing import Any

from server.artifact import digest

from ..errors import BadInput
from ..evaluation.dataset import Dataset
from ..sandbox.captured_output import captured
from . import SourceModel, SourceSpec, boosted_trees, sklearn_onnx
from .detection import THROUGH_ONNX
from .torch_module import brief, kind

BOOSTED = {"xgboost": boosted_trees.from_xgboost, "lightgbm": boosted_trees.from_lightgbm}


def load(request: SourceSpec, data: Dataset) -> SourceModel:
    """Unpickle the file, which runs the code in it, and describe the estimator. Raises BadInput."""
    if not request.allow_pickle:
        raise BadInput(
            f"{request.path} is a pickle, which can run any code when it is opened: give --allow-pickle if you trust "
            "its author, or save the model with skops.io.dump or in the booster's own format"
        )
    with captured():
        model = _unpickle(request)
    return described(request, model, data)


def load_skops(request: SourceSpec, data: Dataset) -> SourceModel:
    """Load a skops file. Types outside the known libraries need --allow-pickle. Raises BadInput."""
    try:
        from skops import io
    except ModuleNotFoundError as error:
        raise BadInput("skops files need the extra 'classic': pip install -e '.[classic]'") from error
    try:
        unknown = io.get_untrusted_types(file=request.path)
        if unknown and not request.allow_pickle:
            raise BadInput(
                f"{request.path} holds {', '.join(sorted(unknown)[:3])}, which skops does not list as harmless: "
                "give --allow-pickle if you trust its author"
            )
        model = io.load(request.path, trusted=unknown)
    except BadInput:
        raise
    except Exception as error:
        raise BadInput(f"{request.path} cannot be read as a skops file: {brief(error)}") from error
    return described(request, model, data)


def described(request: SourceSpec, model: Any, data: Dataset) -> SourceModel:
    """Describe an unpickled model with the converter of its library. Raises BadInput."""
    digests = {"model": digest(request.path)}
    library = type(model).__module__.partition(".")[0]
    if library in BOOSTED:
        return BOOSTED[library](request, model, data, digests)
    if not any(callable(getattr(model, name, None)) for name in ("predict", "transform")):
        raise BadInput(f"{request.path} holds {kind(model)}, which is not an estimator: it has no predict()")
    return sklearn_onnx.reference_model(request, model, data, digests)


def _unpickle(request: SourceSpec) -> Any:
    try:
        # Joblib reads its own files and plain pickles.
        import joblib

        return joblib.load(request.path)
    except ModuleNotFoundError as error:
        missing = str(error.name).partition(".")[0]
        if missing == "theano":
            raise BadInput(f"{request.path}: {THROUGH_ONNX['theano']}") from error
        raise BadInput(f"{request.path} needs the package {missing!r}, which is not installed") from error
    except (pickle.UnpicklingError, EOFError, ValueError, AttributeError, ImportError, KeyError, IndexError) as error:
        raise BadInput(f"{request.path} cannot be unpickled: {brief(error)}") from error
