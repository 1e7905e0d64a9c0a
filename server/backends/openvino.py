"""OpenVINO on the CPU, through its own runtime."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov

from ..errors import BadSetting, BrokenArtifact, ModelFailed
from ..tensors import BY_NUMPY, Array, ModelSpec, TensorSpec
from . import BackendOptions

CORE = ov.Core()
"""The one core of the process. It is never freed: its CPU plugin replaces the alternate signal stack of the thread that
compiles the first model, and frees that stack at its own end. The next signal would end the process."""

PRECISION = ("slipway", "precision")
"""Path of the model file's property that holds its evaluated precision: ``f32`` or ``bf16``."""


class OpenVinoSession:
    """One compiled model. Each call uses an idle inference request or creates one, so calls may overlap."""

    __slots__ = ("_idle", "_model", "spec")

    def __init__(self, model: Any) -> None:
        self.spec = ModelSpec(tuple(_spec(port) for port in model.inputs), tuple(_spec(port) for port in model.outputs))
        self._model: Any = model
        self._idle: deque[Any] = deque()

    def run(self, batch: Sequence[Array]) -> list[Array]:
        if self._model is None:
            raise ModelFailed("this model has been unloaded")
        try:
            # OpenVINO would silently convert another dtype.
            for array, one in zip(batch, self.spec.inputs, strict=True):
                if array.dtype != one.dtype.numpy:
                    raise TypeError(f"{one.name!r} is {array.dtype}, not {one.dtype.numpy}")
            request = self._take()
            request.infer(list(batch), share_inputs=True)
            # Copies: the next call overwrites the request's own buffers.
            outputs = [np.array(request.get_output_tensor(at).data) for at in range(len(self.spec.outputs))]
        except Exception as error:
            raise ModelFailed("the model failed while computing; the server's log has the details") from error
        self._idle.append(request)
        return outputs

    def _take(self) -> Any:
        try:
            return self._idle.pop()
        except IndexError:
            return self._model.create_infer_request()

    def close(self) -> None:
        self._model = None
        self._idle.clear()


def load(path: Path, options: BackendOptions) -> OpenVinoSession:
    """Open an OpenVINO (``.xml``) or ONNX file with ``options.threads`` threads.

    The precision is always set. By default OpenVINO computes in bf16 on processors that can, so that accuracy would
    depend on the host. Raises BrokenArtifact with the reason if OpenVINO cannot load the file, and BadSetting for any
    device but the CPU.
    """
    if options.device != "cpu":
        raise BadSetting(f"the openvino backend runs on the CPU, not on {options.device!r}; use --device cpu")
    try:
        model = CORE.read_model(path)
        settings = {
            "INFERENCE_PRECISION_HINT": _precision(model),
            "INFERENCE_NUM_THREADS": options.threads,
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,
        }
        return OpenVinoSession(CORE.compile_model(model, "CPU", settings))
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1].replace(f"{path.parent}/", "")
        raise BrokenArtifact(f"OpenVINO {ov.__version__} cannot load {path.name}: {reason}") from error


def _precision(model: Any) -> str:
    path = list(PRECISION)
    return str(model.get_rt_info(path).astype(str)) if model.has_rt_info(path) else "f32"


def _spec(port: Any) -> TensorSpec:
    name = port.get_any_name()
    try:
        dtype = BY_NUMPY[np.dtype(port.get_element_type().to_dtype())]
    except KeyError as error:
        raise BrokenArtifact(f"{name!r} has type {port.get_element_type()}, which cannot be served") from error
    shape = tuple(-1 if size.is_dynamic else int(size.get_length()) for size in port.get_partial_shape())
    return TensorSpec(name, dtype, shape)
