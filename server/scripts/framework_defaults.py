"""The defaults of the framework containers: inputs of a request, and predictions without a ``predict_fn``.

A script that leaves the container of PyTorch, Hugging Face, XGBoost or scikit-learn relies on them. The model's class
decides; no framework is imported here.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from ..errors import BrokenArtifact, UnsupportedMedia
from . import default_input
from .media_types import CSV, JSON, TEXT

HUGGING_FACE = frozenset(("transformers", "sentence_transformers", "diffusers"))


@dataclass(frozen=True, slots=True)
class Defaults:
    """The default ``input_fn`` and ``predict_fn``. ``predict`` is None for a model that cannot predict by itself."""

    decode: Callable[[str | bytes, str | None], Any]
    predict: Callable[[Any, Any], Any] | None


def defaults_of(model: Any, module: ModuleType | None = None) -> Defaults:
    """The defaults for a loaded model, by its class; ``module`` is the script's, whose imports count too."""
    if _is_hugging_face(model):
        return Defaults(_decode_document, _predict_pipeline if callable(model) else None)
    if module is not None and _imports_hugging_face(module):
        return Defaults(_decode_document, _predict if _predicts(model) else None)
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(model, torch.nn.Module):
        return Defaults(_decode_tensor, _predict_without_gradient)
    if _class_of(model) == ("xgboost", "Booster"):
        return Defaults(_decode_dmatrix, _predict)
    return Defaults(default_input.decode, _predict if _predicts(model) else None)


def require_predict(defaults: Defaults) -> Callable[[Any, Any], Any]:
    """The default ``predict_fn``. Raises BrokenArtifact if the model has none."""
    if defaults.predict is None:
        raise BrokenArtifact("the script defines no predict_fn, and its model has no predict and is not callable")
    return defaults.predict


def prepare(model: Any) -> None:
    """Put a torch model that predicts by default into evaluation mode, on its device."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(model, torch.nn.Module) and not _is_hugging_face(model):
        model.to(_device(torch))
        model.eval()


def _predicts(model: Any) -> bool:
    return callable(getattr(model, "predict", None)) or callable(model)


def _predict(data: Any, model: Any) -> Any:
    """The model's own ``predict``, else the model called. One row for an estimator gets its batch axis."""
    width = getattr(model, "n_features_in_", None)
    if isinstance(data, np.ndarray) and data.ndim == 1 and width is not None and len(data) == width:
        data = data[np.newaxis]
    own = getattr(model, "predict", None)
    return own(data) if callable(own) else model(data)


def _decode_tensor(body: str | bytes, content_type: str | None) -> Any:
    """Arrays as torch tensors on the model's device: float32 from JSON and CSV, the file's dtype from npy."""
    torch = sys.modules["torch"]
    data = default_input.decode(body, content_type)
    if not isinstance(data, np.ndarray) or data.dtype.kind not in "biuf":
        return data
    array = data.astype(np.float32) if content_type in TEXT else data
    return torch.from_numpy(np.require(array, array.dtype.newbyteorder("="), ("C", "W"))).to(_device(torch))


def _predict_without_gradient(data: Any, model: Any) -> Any:
    torch = sys.modules["torch"]
    with torch.no_grad():
        return model(data.to(_device(torch)) if isinstance(data, torch.Tensor) else data)


def _device(torch: Any) -> Any:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _decode_dmatrix(body: str | bytes, content_type: str | None) -> Any:
    """Numbers as XGBoost's own matrix, NaN as missing."""
    data = default_input.decode(body, content_type)
    if not isinstance(data, np.ndarray) or data.dtype.kind not in "biuf":
        return data
    return sys.modules["xgboost"].DMatrix(np.atleast_2d(data))


def _decode_document(body: str | bytes, content_type: str | None) -> Any:
    """JSON as it is, a text, image or sound as ``{"inputs": ...}``, all else as by default."""
    if content_type == JSON:
        return default_input.document_of(body)
    kind = (content_type or "").partition("/")[0]
    if content_type != CSV and kind == "text" and isinstance(body, bytes):
        return {"inputs": body.decode(errors="replace")}
    if kind in ("image", "audio") and isinstance(body, bytes):
        return {"inputs": _image(body) if kind == "image" else body}
    return default_input.decode(body, content_type)


def _image(body: bytes) -> Any:
    try:
        from PIL import Image
    except ImportError as error:
        raise UnsupportedMedia("images need the package pillow, which is not installed") from error
    return Image.open(io.BytesIO(body))


def _predict_pipeline(data: Any, model: Any) -> Any:
    """A pipeline called with ``inputs``, and with ``parameters`` as its arguments."""
    if not isinstance(data, Mapping):
        return model(data)
    rest = dict(data)
    parameters = rest.pop("parameters", None) or {}
    return model(rest.pop("inputs", rest), **parameters)


def _is_hugging_face(model: Any) -> bool:
    """Whether a model, or a part of a tuple, list or dictionary of models, is of one of their libraries."""
    return any(
        base.__module__.partition(".")[0] in HUGGING_FACE for part in _parts(model) for base in type(part).__mro__
    )


def _imports_hugging_face(module: ModuleType) -> bool:
    """Whether a script has imported one of their libraries, or a name of it."""
    return any(
        (value.__name__ if isinstance(value, ModuleType) else str(getattr(value, "__module__", ""))).partition(".")[0]
        in HUGGING_FACE
        for value in vars(module).values()
    )


def _parts(model: Any) -> Iterator[Any]:
    yield model
    if isinstance(model, Mapping):
        yield from model.values()
    elif isinstance(model, (tuple, list)):
        yield from model[:16]


def _class_of(model: Any) -> tuple[str, str]:
    kind = type(model)
    return kind.__module__.partition(".")[0], kind.__name__
