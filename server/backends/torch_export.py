"""AOTInductor packages (.pt2) on a GPU: the one module of the server that imports torch.

A package holds compiled kernels and weights. Names and shapes of its tensors are the manifest's. Everything that a run
allocates comes from a pool of its own, so that a captured graph keeps its memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import BrokenArtifact, UnprocessableInput
from ..tensors import BF16, Array, ModelSpec
from . import BackendOptions, Session
from .cuda import CudaDevice
from .device_session import DeviceSession
from .lanes import Device, DeviceTensor, Launch, Shape
from .options import Options

MODEL = "model"
"""The name of the model inside a package, as torch writes it."""


class DeviceMemory:
    """Device memory as the CUDA array interface describes it, which torch takes without a copy."""

    def __init__(self, one: DeviceTensor) -> None:
        kind = "<i2" if one.dtype is BF16 else one.dtype.numpy.str
        self.__cuda_array_interface__ = {
            "shape": one.shape,
            "typestr": kind,
            "data": (one.address, False),
            "version": 3,
            "strides": None,
        }


class PackageProgram:
    """One package on one GPU."""

    def __init__(self, torch: Any, path: Path, spec: ModelSpec, device: Device) -> None:
        """Raises BrokenArtifact for a package that torch cannot load."""
        device.use()
        self.device = device
        self.spec = spec
        self.stream = device.stream()
        self._torch = torch
        self._place = torch.device("cuda", device.ordinal)
        self._pool = torch.cuda.MemPool()
        self._stream = torch.cuda.ExternalStream(self.stream, self._place)
        try:
            # A single runner without locks: only this allows a run to be captured.
            self._loader = torch._C._aoti.AOTIModelPackageLoader(str(path), MODEL, True, 1, device.ordinal)
        except RuntimeError as error:
            device.end_stream(self.stream)
            raise BrokenArtifact(
                f"torch {torch.__version__} cannot load {path.name}: {str(error).splitlines()[0]}; a package fits one "
                "version of torch and one kind of GPU: run optimize here"
            ) from error

    def output_shapes(self, inputs: Sequence[DeviceTensor]) -> list[Shape]:
        return [tuple(one.shape) for one in self._run([self._tensor(one) for one in inputs])]

    def bind(self, inputs: Sequence[DeviceTensor], outputs: Sequence[DeviceTensor]) -> Launch:
        taken, given = [self._tensor(one) for one in inputs], [self._tensor(one) for one in outputs]

        def launch() -> None:
            with self._torch.cuda.stream(self._stream):
                for to, result in zip(given, self._run(taken), strict=True):
                    to.copy_(result, non_blocking=True)

        return launch

    def compute(self, batch: Sequence[Array]) -> list[Array]:
        raise UnprocessableInput(
            f"the rows of this model depend on each other, and its package was not compiled for {len(batch[0])} of them"
        )

    def close(self) -> None:
        self._loader = None
        self._pool = None
        self.device.use()
        self.device.end_stream(self.stream)

    def _run(self, inputs: list[Any]) -> list[Any]:
        torch = self._torch
        with torch.cuda.use_mem_pool(self._pool, self._place), torch.cuda.stream(self._stream), torch.inference_mode():
            outputs: list[Any] = self._loader.run(inputs)
        return outputs

    def _tensor(self, one: DeviceTensor) -> Any:
        tensor = self._torch.as_tensor(DeviceMemory(one), device=self._place)
        return tensor.view(self._torch.bfloat16) if one.dtype is BF16 else tensor


def load(path: Path, options: BackendOptions) -> Session:
    """Open a package on the GPUs of the options. ``options.spec`` names its tensors.

    Raises BrokenArtifact with the reason, also where torch is not installed.
    """
    if options.shapes is None or options.spec is None:
        raise BrokenArtifact("a package of AOTInductor needs the manifest that optimize wrote for it")
    given = Options(options.target.options, "torch_export")
    graphs = given.flag("graphs", True)
    given.finish()
    import torch

    programs: list[PackageProgram] = []
    try:
        programs.extend(PackageProgram(torch, path, options.spec, CudaDevice(one)) for one in options.ordinals)
        return DeviceSession(programs, options.shapes, options.padding, lanes=options.lanes, graphs=graphs)
    except BaseException:
        for one in programs:
            one.close()
        raise
