"""An estimator with scikit-learn's interface: what it answers, and its way to ONNX through skl2onnx."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from server.tensors import Array

from ..errors import BadInput, ExportFailed
from ..evaluation.dataset import Dataset
from ..sandbox import captured_output as quiet
from . import Exported, ReferenceModel, Request
from .axes import BATCH
from .torch_module import brief

OPSETS = {"": 18, "ai.onnx.ml": 3}
"""Old enough for every converter and new enough for every operator that they write."""

PROBABILITIES, SCORES, LABEL, VALUE = "probabilities", "scores", "label", "value"

Write = Callable[[int], Any]
"""Number of features to the ONNX model that a converter writes for them."""


def reference_model(request: Request, model: Any, data: Dataset, digests: Mapping[str, str]) -> ReferenceModel:
    """Describe a scikit-learn estimator or pipeline. Raises BadInput when it does not run on the rows."""

    def write(features: int) -> Any:
        try:
            from skl2onnx import to_onnx
            from skl2onnx.common.data_types import FloatTensorType
        except ModuleNotFoundError as error:
            raise BadInput("scikit-learn models need the extra 'classic': pip install -e '.[classic]'") from error
        # Without ZipMap the probabilities stay a tensor; with it they are one dictionary per row.
        options = {id(model): {"zipmap": False}} if hasattr(model, "classes_") else None
        types = [("input", FloatTensorType([None, features]))]
        return to_onnx(model, initial_types=types, options=options, target_opset=OPSETS)

    return described(request, model, data, digests, write)


def described(request: Request, model: Any, data: Dataset, digests: Mapping[str, str], write: Write) -> ReferenceModel:
    """A model with ``predict`` and maybe ``predict_proba``: one matrix in; probabilities and label, or a value, out.

    The first output is what metrics look at, so it is the probabilities (or scores) and not the label. Classes that are
    words are left to ``classes``: the label output is dropped, the largest probability is at its index.
    """
    name = matrix(data)
    if request.axes:
        raise BadInput("--dynamic: a model of features takes a fixed number of them")
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
    return ReferenceModel(request.reference, (name,), outputs, run, export, digests, (), names)


def matrix(data: Dataset) -> str:
    """The name of the only input: float32 rows of features. Raises BadInput for anything else."""
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
    """The name of what is larger for the better class, and how the model says it, with its label."""
    if not classes:
        return VALUE, lambda rows: [model.predict(rows)]
    if hasattr(model, "predict_proba"):
        return PROBABILITIES, lambda rows: [model.predict_proba(rows), model.predict(rows)]
    if len(classes) == 2:
        raise BadInput(
            "the model has two classes and no predict_proba: its one score cannot be compared with a table of two. "
            "Calibrate it once with sklearn.calibration.CalibratedClassifierCV"
        )
    return SCORES, lambda rows: [model.decision_function(rows), model.predict(rows)]


def _run(judge: Callable[[Array], list[Any]], rows: Array, *, words: bool) -> list[Array]:
    try:
        with quiet.captured():
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

    with quiet.captured() as said:
        try:
            model = write(features)
        except BadInput:
            raise
        except Exception as error:
            raise ExportFailed(f"the model cannot be written as ONNX: {brief(error)}") from error
    faces(model, name, outputs)
    onnx.save(model, path)
    return Exported("onnxmltools" if "onnxmltools" in str(model.producer_name).lower() else "skl2onnx", tuple(said))


def faces(model: Any, name: str, outputs: tuple[str, ...]) -> None:
    """Name the input and the outputs: converters write the label first and choose names of their own."""
    graph = model.graph
    found = list(graph.output)
    if len(found) == 2:
        found.reverse()
    if len(found) < len(outputs):
        raise ExportFailed(f"the graph has the outputs {', '.join(value.name for value in found)} only")
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
    """A copy that says nothing wrong of its rows: one converter declares the label to be of one row always."""
    import onnx

    copy = onnx.ValueInfoProto()
    copy.CopyFrom(value)
    if copy.type.tensor_type.shape.dim:
        copy.type.tensor_type.shape.dim[0].dim_param = BATCH
    return copy
