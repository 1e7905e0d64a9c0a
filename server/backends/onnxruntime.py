"""ONNX Runtime on the CPU."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from ..errors import BrokenArtifact, ModelFailed, OutOfMemory, SlipwayError, UnprocessableInput
from ..tensors import BF16, BY_ONNX, Array, ModelSpec, TensorSpec, bfloat16_of_float32, float32_of_bfloat16
from . import BackendOptions
from .onnx_file import unranked_inputs

BFLOAT16 = 16
"""The element type in ONNX's numbering."""


class OnnxRuntimeSession:
    """One ``InferenceSession``. It releases the GIL while it computes; several threads may call ``run``."""

    __slots__ = ("_input_names", "_output_names", "_run", "spec")

    def __init__(self, session: ort.InferenceSession) -> None:
        self.spec = spec_of(session)
        self._input_names = [spec.name for spec in self.spec.inputs]
        self._output_names = [spec.name for spec in self.spec.outputs]
        has_bfloat16 = any(spec.dtype is BF16 for spec in (*self.spec.inputs, *self.spec.outputs))
        self._run: Any = partial(run_bfloat16, session, self.spec) if has_bfloat16 else session.run

    def run(self, batch: Sequence[Array]) -> list[Array]:
        try:
            outputs: list[Array] = self._run(self._output_names, dict(zip(self._input_names, batch, strict=True)))
        except SlipwayError:
            raise  # closed
        except ort_errors.InvalidArgument as error:
            raise UnprocessableInput("the model refuses these values, for example an index out of range") from error
        except Exception as error:
            if isinstance(error, MemoryError) or "allocate" in str(error).lower():
                raise OutOfMemory("not enough memory to run the model on this batch") from error
            raise ModelFailed("the model failed while computing; the server's log has the details") from error
        return outputs

    def close(self) -> None:
        self._run = _closed


def load(path: Path, options: BackendOptions) -> OnnxRuntimeSession:
    """Open an ONNX file on the CPU with ``options.threads`` intra-op threads and no spinning.

    Raises BrokenArtifact with the reason if ONNX Runtime cannot load the file.
    """
    session = opened(path, session_options(options), ["CPUExecutionProvider"])
    return OnnxRuntimeSession(session)


def opened(path: Path, settings: ort.SessionOptions, providers: Sequence[Any]) -> ort.InferenceSession:
    """An ``InferenceSession`` whose inputs have declared ranks. Raises BrokenArtifact with the reason."""
    try:
        session = ort.InferenceSession(str(path), settings, providers=providers)
    except Exception as error:
        reason = " ".join(str(error).split()).replace(f"{path.parent}/", "")
        raise BrokenArtifact(f"ONNX Runtime {ort.__version__} cannot load {path.name}: {reason}") from error
    _require_ranks(session, path)
    return session


def session_options(options: BackendOptions) -> ort.SessionOptions:
    """Threads and graph optimization for ONNX Runtime."""
    settings = ort.SessionOptions()
    settings.intra_op_num_threads = options.threads
    settings.inter_op_num_threads = 1
    settings.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    settings.log_severity_level = 3
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if options.optimized:
        # The file holds the optimized graph; a second optimization would only cost time.
        settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return settings


REMEDIES = {
    "seq(map(": "export it with zipmap=False, so that its output is a tensor",
    "map(": "export it with zipmap=False, so that its output is a tensor",
    "seq(": "export it with tensors for outputs, for example with ConcatFromSequence as the last node",
    "optional(": "export it with this input required",
    "sparse_tensor(": "export it with dense tensors",
}
"""By the beginning of a type that cannot be served: what to do about it."""


def spec_of(session: ort.InferenceSession) -> ModelSpec:
    """Inputs and outputs. Raises BrokenArtifact for a type that cannot be served."""
    return ModelSpec(
        tuple(_spec(node) for node in session.get_inputs()),
        tuple(_spec(node) for node in session.get_outputs()),
    )


def _spec(node: Any) -> TensorSpec:
    dtype = BY_ONNX.get(node.type)
    if dtype is None:
        remedy = next((text for start, text in REMEDIES.items() if node.type.startswith(start)), "cast it to float")
        raise BrokenArtifact(f"{node.name!r} has type {node.type}, which cannot be served: {remedy}")
    shape = tuple(size if isinstance(size, int) and size >= 0 else -1 for size in node.shape)
    axes = tuple(size if isinstance(size, str) else "" for size in node.shape)
    return TensorSpec(node.name, dtype, shape, axes)


def _require_ranks(session: ort.InferenceSession, path: Path) -> None:
    """Raises BrokenArtifact for an input without a declared shape, which the runtime shows like a scalar."""
    scalars = {node.name for node in session.get_inputs() if not node.shape}
    unranked = scalars.intersection(unranked_inputs(path)) if scalars else ()
    if unranked:
        raise BrokenArtifact(
            f"{min(unranked)!r} has no declared shape: export it with one, or set it with onnx.tools.update_model_dims"
        )


def run_bfloat16(
    session: ort.InferenceSession, spec: ModelSpec, names: list[str], feed: dict[str, Array], run_options: Any = None
) -> Any:
    """``session.run`` for a model with bfloat16 tensors, which numpy lacks: they are float32 outside of the model."""
    values = {}
    for one in spec.inputs:
        array = feed[one.name]
        if one.dtype is BF16:
            bits = bfloat16_of_float32(array)
            values[one.name] = ort.OrtValue.ortvalue_from_numpy_with_onnx_type(bits, BFLOAT16)
        else:
            values[one.name] = ort.OrtValue.ortvalue_from_numpy(array)
    outputs = session.run_with_ort_values(names, values, run_options)
    return [
        _float32(value) if one.dtype is BF16 else value.numpy()
        for one, value in zip(spec.outputs, outputs, strict=True)
    ]


def _float32(value: ort.OrtValue) -> Array:
    """A bfloat16 value of the runtime as float32."""
    shape = tuple(value.shape())
    bits: Array = np.empty(shape, np.uint16)
    ctypes.memmove(bits.ctypes.data, value.data_ptr(), bits.nbytes)
    return float32_of_bfloat16(bits)


def _closed(*_: Any) -> list[Array]:
    raise ModelFailed("this model has been unloaded")
