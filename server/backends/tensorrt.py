"""TensorRT engines, by one code path for TensorRT 10, TensorRT 11 and TensorRT-RTX.

A context belongs to one bucket and one set of buffers, because a captured graph is valid only while its context is not
changed. All contexts of a program share one block of scratch memory: the session never enqueues two runs at once.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..errors import BrokenArtifact, OutOfMemory, UnprocessableInput
from ..tensors import BY_NAME, Array, ModelSpec, TensorSpec
from . import BackendOptions, Session
from .cuda import CudaDevice, CudaError
from .device_session import DeviceSession
from .lanes import Device, DeviceTensor, Launch, Shape
from .options import Options

log = logging.getLogger("slipway.tensorrt")

MODULES = {"tensorrt": ("tensorrt", "tensorrt_bindings"), "tensorrt_rtx": ("tensorrt_rtx", "tensorrt_rtx_bindings")}
"""Modules by kind of device, the first that is there."""

DTYPES = {
    "FLOAT": "FP32",
    "HALF": "FP16",
    "BF16": "BF16",
    "INT8": "INT8",
    "UINT8": "UINT8",
    "INT32": "INT32",
    "INT64": "INT64",
    "BOOL": "BOOL",
}
"""Names of TensorRT's data types, and ours. Their numbers differ between versions."""


class EngineProgram:
    """One engine on one GPU."""

    def __init__(self, library: Any, plan: bytes, name: str, device: Device) -> None:
        """``library``: the module of TensorRT. Raises BrokenArtifact for an engine that cannot be loaded here."""
        device.use()
        self.device = device
        self._library = library
        self._runtime = library.Runtime(_logger(library))
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            raise BrokenArtifact(
                f"TensorRT {library.__version__} cannot load {name}: the lines above say why; an engine fits one "
                "version and one kind of GPU: run optimize here, or rebuild the artifact"
            )
        self.spec = spec_of(library, self._engine)
        self.stream = device.stream()
        self._scratch = 0
        self._scratch_bytes = max(
            int(self._engine.get_device_memory_size_for_profile_v2(index))
            for index in range(self._engine.num_optimization_profiles)
        )
        if self._scratch_bytes:
            self._scratch = device.allocate(self._scratch_bytes)

    def output_shapes(self, inputs: Sequence[DeviceTensor]) -> list[Shape]:
        return self._shapes(self._context(inputs))

    def bind(self, inputs: Sequence[DeviceTensor], outputs: Sequence[DeviceTensor]) -> Launch:
        context, stream = self._context(inputs), self.stream
        for one in (*inputs, *outputs):
            if not context.set_tensor_address(one.name, one.address):
                raise RuntimeError(f"TensorRT refuses the address of {one.name!r}")

        def launch() -> None:
            if not context.execute_async_v3(stream):
                raise RuntimeError("TensorRT could not enqueue the engine; the lines above say why")

        return launch

    def compute(self, batch: Sequence[Array]) -> list[Array]:
        raise UnprocessableInput(
            f"the rows of this model depend on each other, and its engine was not built for {len(batch[0])} of them"
        )

    def close(self) -> None:
        self._engine = self._runtime = None
        self.device.use()
        if self._scratch:
            self.device.free(self._scratch)
        self.device.end_stream(self.stream)

    def _context(self, inputs: Sequence[DeviceTensor]) -> Any:
        """A context for inputs of these shapes, in the first profile that takes them."""
        strategy = self._library.ExecutionContextAllocationStrategy.USER_MANAGED
        context = self._engine.create_execution_context(strategy)
        if context is None:
            raise OutOfMemory("TensorRT could not create a context: too little device memory")
        profile = fitting_profile(self._engine, inputs)
        if not context.set_optimization_profile_async(profile, self.stream):
            raise RuntimeError(f"TensorRT refuses the profile {profile}")
        if self._scratch:
            context.set_device_memory(self._scratch, self._scratch_bytes)
        for one in inputs:
            if not context.set_input_shape(one.name, one.shape):
                raise BrokenArtifact(f"the engine does not take the shape {list(one.shape)} of {one.name!r}")
        return context

    def _shapes(self, context: Any) -> list[Shape]:
        missing = context.infer_shapes()
        shapes = [tuple(context.get_tensor_shape(one.name)) for one in self.spec.outputs]
        if missing or any(size < 0 for shape in shapes for size in shape):
            raise BrokenArtifact("the sizes of the engine's outputs depend on the values of its inputs")
        return shapes


def load(path: Path, options: BackendOptions) -> Session:
    """Open an engine of TensorRT, or of TensorRT-RTX, on the GPUs of the options.

    Raises BrokenArtifact with the reason for an engine that cannot be loaded here or whose shapes are open.
    """
    if options.shapes is None:
        raise BrokenArtifact("an engine runs closed shapes only; the manifest names none: run optimize again")
    given = Options(options.target.options, options.target.kind)
    graphs = given.flag("graphs", True)
    given.finish()
    library = imported(options.target.kind)
    plan = path.read_bytes()
    programs: list[EngineProgram] = []
    try:
        programs.extend(EngineProgram(library, plan, path.name, CudaDevice(one)) for one in options.ordinals)
        return DeviceSession(programs, options.shapes, options.padding, lanes=options.lanes, graphs=graphs)
    except CudaError as error:
        _close(programs)
        raise BrokenArtifact(f"{path.name} cannot be opened on the GPU: {error}") from error
    except BaseException:
        _close(programs)
        raise


def _close(programs: Sequence[EngineProgram]) -> None:
    for one in programs:
        one.close()


def imported(kind: str, find: Callable[[str], Any] = importlib.import_module) -> Any:
    """The module of TensorRT for this kind of device. Raises BrokenArtifact if it is not installed."""
    for name in MODULES[kind]:
        try:
            return find(name)
        except ModuleNotFoundError:
            continue
    raise BrokenArtifact(f"the device {kind!r} needs the package {MODULES[kind][0]}, which is not installed")


def spec_of(library: Any, engine: Any) -> ModelSpec:
    """Inputs and outputs of an engine. Raises BrokenArtifact for a data type that cannot be served."""
    inputs: list[TensorSpec] = []
    outputs: list[TensorSpec] = []
    for index in range(engine.num_io_tensors):
        name = engine.get_tensor_name(index)
        kind = engine.get_tensor_dtype(name).name
        if kind not in DTYPES:
            raise BrokenArtifact(f"{name!r} has the type {kind}, which cannot be served: cast it to float")
        if engine.is_shape_inference_io(name):
            raise BrokenArtifact(f"the values of {name!r} decide about shapes, which a closed engine cannot have")
        spec = TensorSpec(name, BY_NAME[DTYPES[kind]], tuple(engine.get_tensor_shape(name)))
        (inputs if engine.get_tensor_mode(name) == library.TensorIOMode.INPUT else outputs).append(spec)
    return ModelSpec(tuple(inputs), tuple(outputs))


def fitting_profile(engine: Any, inputs: Sequence[DeviceTensor]) -> int:
    """The first optimization profile whose bounds hold for all inputs. Raises BrokenArtifact if there is none."""
    for index in range(engine.num_optimization_profiles):
        bounds = [engine.get_tensor_profile_shape(one.name, index) for one in inputs]
        if all(
            low <= size <= high
            for one, (least, _, most) in zip(inputs, bounds, strict=True)
            for low, size, high in zip(least, one.shape, most, strict=True)
        ):
            return index
    raise BrokenArtifact(
        f"the engine has no profile for {', '.join(f'{one.name} {list(one.shape)}' for one in inputs)}: build it for "
        "the shapes of the manifest"
    )


def _logger(library: Any) -> Any:
    """A logger of TensorRT that writes to ours."""
    severity = library.ILogger.Severity
    levels = {
        severity.INTERNAL_ERROR: logging.ERROR,
        severity.ERROR: logging.ERROR,
        severity.WARNING: logging.WARNING,
        severity.INFO: logging.DEBUG,
        severity.VERBOSE: logging.DEBUG,
    }

    class Logger(library.ILogger):  # type: ignore[misc]  # the class is the library's
        """Passes messages on."""

        def __init__(self) -> None:
            library.ILogger.__init__(self)

        def log(self, level: Any, message: str) -> None:
            log.log(levels.get(level, logging.ERROR), "%s", message)

    return Logger()
