"""A CUDA program whose values are those of the CPU, for a rehearsal of ``optimize --target cuda`` and its artifact.

The real provider opens every file, assigns its nodes and is launched; the fake counts kernels and computes none, so the
outputs are overwritten by a run of the same file on the CPU. ``FAKE_GPU_COMPUTES=1`` puts it into every process of the
environment (environment.py). Graphs are captured, found to give another answer, and given up.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from server.backends import BackendOptions
from server.backends.cuda import CudaDevice
from server.backends.lanes import DeviceTensor, Launch, Shape
from server.backends.onnxruntime_cuda import OrtProgram
from server.tensors import Array


class ComputedProgram(OrtProgram):
    """The provider's program, and a session on the CPU."""

    def __init__(self, path: Path, options: BackendOptions, device: CudaDevice) -> None:
        super().__init__(path, options, device)
        settings = ort.SessionOptions()
        settings.intra_op_num_threads = 1
        self._on_cpu: Any = ort.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])

    def output_shapes(self, inputs: Sequence[DeviceTensor]) -> list[Shape]:
        super().output_shapes(inputs)
        return [array.shape for array in self.compute([_view(one) for one in inputs])]

    def bind(self, inputs: Sequence[DeviceTensor], outputs: Sequence[DeviceTensor]) -> Launch:
        enqueue = super().bind(inputs, outputs)

        def launch() -> None:
            enqueue()
            for one, value in zip(outputs, self.compute([_view(one) for one in inputs]), strict=True):
                _view(one)[...] = value

        return launch

    def compute(self, batch: Sequence[Array]) -> list[Array]:
        feed = {one.name: array for one, array in zip(self.spec.inputs, batch, strict=True)}
        outputs: list[Array] = self._on_cpu.run([one.name for one in self.spec.outputs], feed)
        return outputs


def _view(one: DeviceTensor) -> Array:
    """The values of a tensor: memory of the fake devices is that of the process."""
    size = math.prod(one.shape) * one.dtype.itemsize
    block: Array = np.ctypeslib.as_array((ctypes.c_ubyte * size).from_address(one.address))
    return block.view(one.dtype.numpy).reshape(one.shape)
