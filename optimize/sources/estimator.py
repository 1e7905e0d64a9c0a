"""Source: an estimator with the scikit-learn interface, converted by skl2onnx."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from server.tensors import Array

from ..errors import BadInput, ExportFailed
from ..evaluation.dataset import Dataset
from ..sandbox.captured_output import captured
from . import Exported, SourceModel, SourceSpec
from .axes import BATCH
from .torch_module import brief

OPSETS = {"": 18, "ai.onnx.ml": 3}
"""The opset versions that the converters write: every converter supports them."""

PROBABILITIES, SCORES, LABEL, VALUE = "probabilities", "scores", "label", "value"

Write = Callable[[int], Any]
"""Takes the number of features and returns the ONNX model that a converter writes."""


def reference_model(request: SourceSpec, model: Any, data: Dataset, digests: Mapping[str, str]) -> SourceModel:
    """Describe a scikit-learn estimator or pipeline. Raises BadInput if it fails on the rows."""

    def write(features: int) -> Any:
        try:
            from skl2onnx import to_onnx
            from skl2onnx.common.data_types import FloatTensorType
        except ModuleNotFoundError as error:
            raise BadInput("scikit-learn models need the extra 'classic': pip install -e '.[classic]'") from error
        # ZipMap would turn the probabilities into one dictionary per row.
        options = {id(model): {"zipmap": False}} if hasattr(model, "classes_") else None
        types = [("input", FloatTensorType([None, features]))]
        return to_onnx(model, initial_types=types, options=options, target_opset=OPSETS)

    return described(request, model, data, digests, write)


def described(request: SourceSpec, model: Any, data: Dataset, digests: Mapping[str, str], write: Write) -> SourceModel:
    """Describe a model that takes one feature matrix and returns probabilities and a label, or a value.

    Metrics read the first output, so it holds the probabilities or scores. If the classes are words, the label output
    is dropped: ``classes`` names the index of the largest probability.
    """
    name = matrix(data)
    if request.axes:
        raise BadInput("--dynamic: the model takes a fixed number of features")
    classes = [] if getattr(model, "classes_", None) is None else list(model.classes_)
    first, judge = _judge(model, classes)
    words = bool(classes) and not all(isinstance(value, int | np.integer) for value in classes)
    outputs: tuple[str, ...] = ((first,) if words else (first, LABEL)) if classes else (VALUE,)
    if request.outputs:
        if len(request.outputs) != len(outputs):
            raise BadInput(f"{request.reference} has {len(outputs)} output(s), --outputs names {len(request.outputs)}")
        outputs = request.outputs
    if name in outputs:
        raise BadInput(f"{name!r} would name an input and an output: choose names with --outputs")

    def run(batch: Mapping[str, Array]) -> list[Array]:
        return _run(judge, batch[name], words=words)

    def export(_: Mapping[str, Array], path: Path) -> Exported:
        return _export(write, data.inputs[name].shape[1], name, outputs, path)

    run(data.batch(2))
    names = tuple(str(value) for value in classes) if words else ()
    return SourceModel(request.reference, (name,), outputs, run, export, digests, (), names)


def matrix(data: Dataset) -> str:
    """Return the name of the only input, float32 ``[rows, features]``. Raises BadInput for other data."""
    if len(data.inputs) != 1:
        raise BadInput(f"the model takes one matrix of features, the data holds {', '.join(data.inputs)}")
    ((name, array),) = data.inputs.items()
    if array.ndim != 2 or array.dtype != np.float32:
        raise BadInput(
            f"{name!r} is {array.dtype}{list(array.shape)}: the model takes float32 [rows, features]; "
            "write it with .astype('float32')"
        )
    return name


def _judge(model: Any, classes: list[Any]) -> tuple[str, Callable[[Array], list[Any]]]:
    """Return the name of the first output, and a function that computes all outputs."""
    if not classes:
        return VALUE, lambda rows: [model.predict(rows)]
    if hasattr(model, "predict_proba"):
        return PROBABILITIES, lambda rows: [model.predict_proba(rows), model.predict(rows)]
    if len(classes) == 2:
        raise BadInput(
            "the model has two classes and no predict_proba, so it returns one score instead of two. "
            "Wrap it in sklearn.calibration.CalibratedClassifierCV"
        )
    return SCORES, lambda rows: [model.decision_function(rows), model.predict(rows)]


def _run(judge: Callable[[Array], list[Any]], rows: Array, *, words: bool) -> list[Array]:
    try:
        with captured():
            found = judge(rows)
    except Exception as error:
        raise BadInput(
            f"the model fails on rows of the data ({rows.dtype}{list(rows.shape)}): {brief(error)}"
        ) from error
    answer = np.asarray(found[0], dtype=np.float32)
    if len(found) == 1:
        return [answer.reshape(len(rows), -1)]
    return [answer] if words else [answer, np.asarray(found[1], dtype=np.int64)]


def _export(write: Write, features: int, name: str, outputs: tuple[str, ...], path: Path) -> Exported:
    import onnx

    with captured() as messages:
        try:
            model = write(features)
        except BadInput:
            raise
        except Exception as error:
            raise ExportFailed(f"the model cannot be written as ONNX: {brief(error)}") from error
    rename_interface(model, name, outputs)
    onnx.save(model, path)
    return Exported("onnxmltools" if "onnxmltools" in str(model.producer_name).lower() else "skl2onnx", tuple(messages))


def rename_interface(model: Any, name: str, outputs: tuple[str, ...]) -> None:
    """Rename the input and the outputs in place. Converters choose their own names and write the label first."""
    graph = model.graph
    found = list(graph.output)
    if len(found) == 2:
        found.reverse()
    if len(found) < len(outputs):
        raise ExportFailed(f"the graph only has the outputs {', '.join(value.name for value in found)}")
    del graph.output[len(found[: len(outputs)]) :]
    kept = [_with_free_rows(value) for value in found[: len(outputs)]]
    renamed = {graph.input[0].name: name} | {value.name: new for value, new in zip(kept, outputs, strict=True)}
    inner = {result for node in graph.node for result in node.output} - set(renamed)
    renamed |= {taken: f"{taken}_inner" for taken in inner & set(renamed.values())}
    del graph.output[:]
    graph.output.extend(kept)
    for node in graph.node:
        node.input[:] = [renamed.get(value, value) for value in node.input]
        node.output[:] = [renamed.get(value, value) for value in node.output]
    for value in (*graph.input, *graph.output):
        value.name = renamed.get(value.name, value.name)


def _with_free_rows(value: Any) -> Any:
    """Copy ``value`` with a free batch axis. One converter declares that a label always has one row."""
    import onnx

    copy = onnx.ValueInfoProto()
    copy.CopyFrom(value)
    if copy.type.tensor_type.shape.dim:
        copy.type.tensor_type.shape.dim[0].dim_param = BATCH
    return copy
