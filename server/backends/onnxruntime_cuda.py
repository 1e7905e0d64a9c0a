"""ONNX Runtime on NVIDIA GPUs: every node is checked to be there, and every bucket runs in buffers of the server."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnxruntime as ort

from ..errors import BadSetting, BrokenArtifact
from ..tensors import BF16, Array, ModelSpec
from . import BackendOptions, Session, tensorrt_provider
from .cuda import CudaDevice
from .device_session import DeviceSession, open_axes
from .lanes import DeviceTensor, Launch, Shape
from .onnx_file import shape_nodes
from .onnxruntime import BFLOAT16, opened, run_bfloat16, session_options, spec_of
from .open_shapes import OpenShapes
from .options import Options

log = logging.getLogger("slipway.device")

CUDA, TENSORRT, HOST = "CUDAExecutionProvider", "TensorrtExecutionProvider", "CPUExecutionProvider"
PROVIDERS = {"cuda": (CUDA, HOST), "tensorrt": (TENSORRT, CUDA, HOST)}
"""Execution providers by kind of device, the required one first. The last one computes shapes, and nothing else."""

SEARCHES = ("HEURISTIC", "EXHAUSTIVE", "DEFAULT")
"""How cuDNN's algorithm for a convolution is chosen: by rule, by measuring all, or one fixed."""

NO_CAPTURE = "-1"
"""The graph id of a run that ONNX Runtime shall not capture: it would capture one graph for each thread, and the
session captures one for each bucket."""

SHAPE_OPERATORS = frozenset(
    (
        *(
            "Shape",
            "Size",
            "Constant",
            "ConstantOfShape",
            "Gather",
            "Unsqueeze",
            "Squeeze",
            "Concat",
            "Slice",
            "Reshape",
        ),
        *("Add", "Sub", "Mul", "Div", "Mod", "Neg", "Min", "Max", "Floor", "Ceil", "ReduceProd", "Cast", "Range"),
        *("Equal", "Greater", "Less", "Not", "And", "Or", "Where", "Expand", "Identity", "MemcpyToHost"),
        "MemcpyFromHost",
    )
)
"""Operators that compute shapes. A node that the runtime made itself counts as one only if its operator is here."""


HEADROOM = 0.9
"""The share of free device memory that a model may take unless told."""


@dataclass(frozen=True, slots=True)
class Tuning:
    """Whether TF32 is used, the search of convolutions, whether graphs are captured, and whether TensorRT may compute
    in half precision where the graph says float32."""

    tf32: bool = False
    search: str = SEARCHES[0]
    graphs: bool = True
    fp16: bool = False


class OrtProgram:
    """One ``InferenceSession`` on one GPU, whose work goes to a stream of the server."""

    def __init__(self, path: Path, options: BackendOptions, device: CudaDevice) -> None:
        """Raises BrokenArtifact, also for a graph of which the CPU would compute a part, or BadSetting."""
        device.use()
        self.device = device
        self.stream = device.stream()
        self._session: Any = on_device(path, options, device.ordinal, self.stream, _memory_limit(device, options))
        self.spec: ModelSpec = spec_of(self._session)
        self._open_options = ort.RunOptions()
        self._open_options.add_run_config_entry("gpu_graph_id", NO_CAPTURE)
        self._run_options = ort.RunOptions()
        self._run_options.add_run_config_entry("gpu_graph_id", NO_CAPTURE)
        self._run_options.add_run_config_entry("disable_synchronize_execution_providers", "1")

    def output_shapes(self, inputs: Sequence[DeviceTensor]) -> list[Shape]:
        binding = self._bound(inputs)
        for one in self.spec.outputs:
            binding.bind_output(one.name, "cuda", self.device.ordinal)
        self._session.run_with_iobinding(binding, self._run_options)
        return [tuple(value.shape()) for value in binding.get_outputs()]

    def bind(self, inputs: Sequence[DeviceTensor], outputs: Sequence[DeviceTensor]) -> Launch:
        binding = self._bound(inputs)
        for one in outputs:
            element = BFLOAT16 if one.dtype is BF16 else one.dtype.numpy.type
            binding.bind_output(one.name, "cuda", self.device.ordinal, element, list(one.shape), one.address)
        session, run_options = self._session, self._run_options
        return lambda: session.run_with_iobinding(binding, run_options)

    def compute(self, batch: Sequence[Array]) -> list[Array]:
        """Run once on arrays in host memory, in any shape."""
        names = [one.name for one in self.spec.outputs]
        feed = {one.name: array for one, array in zip(self.spec.inputs, batch, strict=True)}
        if any(one.dtype is BF16 for one in (*self.spec.inputs, *self.spec.outputs)):
            outputs: list[Array] = run_bfloat16(self._session, self.spec, names, feed, self._open_options)
        else:
            outputs = self._session.run(names, feed, self._open_options)
        return outputs

    def close(self) -> None:
        self._session = None
        self.device.use()
        self.device.end_stream(self.stream)

    def _bound(self, inputs: Sequence[DeviceTensor]) -> Any:
        binding = self._session.io_binding()
        for one in inputs:
            element = BFLOAT16 if one.dtype is BF16 else one.dtype.numpy.type
            binding.bind_input(one.name, "cuda", self.device.ordinal, element, list(one.shape), one.address)
        return binding


def load(path: Path, options: BackendOptions) -> Session:
    """Open an ONNX file on the GPUs of the options.

    Raises BrokenArtifact if ONNX Runtime cannot load the file, or the CPU would compute a part of it. Raises BadSetting
    if the device is not available: ONNX Runtime itself would use the CPU without saying so.
    """
    if options.optimized:
        raise BrokenArtifact(
            f"{path.name} holds a graph that was optimized for a processor, which a GPU cannot run: run optimize with "
            f"--target {options.device}, or with --portable"
        )
    require_provider(options.device, ort.get_available_providers())
    ort.preload_dlls()
    programs: list[OrtProgram] = []
    try:
        programs.extend(OrtProgram(path, options, CudaDevice(ordinal)) for ordinal in options.ordinals)
        if options.shapes is None:
            return OpenShapes(programs)
        reason = open_axes(programs[0].spec, options.padding)
        if reason:
            log.warning("the shapes of the model are open reason=%r; every new one is slow the first time", reason)
            return OpenShapes(programs)
        graphs = options.device == "cuda" and tuning(options).graphs
        return DeviceSession(programs, options.shapes, options.padding, lanes=options.lanes, graphs=graphs)
    except BaseException:
        for one in programs:
            one.close()
        raise


def on_device(path: Path, options: BackendOptions, ordinal: int, stream: int, limit: int) -> ort.InferenceSession:
    """An ``InferenceSession`` of which only shapes are computed on the CPU."""
    wanted = PROVIDERS[options.device]
    settings = session_options(options)
    settings.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    tuned = tuning(options)
    cuda = {
        "device_id": str(ordinal),
        "use_tf32": str(int(tuned.tf32)),
        "cudnn_conv_algo_search": tuned.search,
        "gpu_mem_limit": str(limit),
        "arena_extend_strategy": "kSameAsRequested",
        "user_compute_stream": str(stream),
        # With graphs enabled the runtime keeps what its kernels read on the host; captures are the session's own.
        "enable_cuda_graph": str(int(tuned.graphs and options.device == "cuda")),
    }
    by_name: dict[str, dict[str, str]] = {CUDA: cuda, HOST: {}}
    if options.device == "tensorrt":
        made_from = {**tensorrt_provider.profile(options), "fp16": str(tuned.fp16), "onnxruntime": ort.__version__}
        folder = tensorrt_provider.engine_folder(path, made_from)
        by_name[TENSORRT] = tensorrt_provider.provider_options(options, ordinal, stream, tuned.fp16, folder)
    providers = [(name, by_name[name]) for name in wanted]
    try:
        session = opened(path, settings, providers)
    except BrokenArtifact:
        if cuda["enable_cuda_graph"] == "1":
            # The runtime refuses graphs for a file of which the CPU would compute a part, but names no node.
            cuda["enable_cuda_graph"] = "0"
            _require_whole(opened(path, settings, providers), path, options)
        raise
    if wanted[0] not in session.get_providers():
        raise BadSetting(
            f"the device {options.device!r} cannot be used: ONNX Runtime could not start {wanted[0]}; the lines above "
            "say which library or driver is missing"
        )
    _require_whole(session, path, options)
    return session


def _require_whole(session: ort.InferenceSession, path: Path, options: BackendOptions) -> None:
    """Raises BrokenArtifact with the nodes that the CPU would compute."""
    on_host = [
        (node.name, node.op_type)
        for part in session.get_provider_graph_assignment_info()
        if part.ep_name == HOST
        for node in part.get_nodes()
    ]
    refused = computing(on_host, shape_nodes(path)) if on_host else []
    if refused:
        raise BrokenArtifact(
            f"{path.name} cannot run on the GPU as a whole: {len(refused)} nodes would be computed on the CPU, such as "
            f"{', '.join(refused[:5])}; run optimize with --target {options.device}, or use --device cpu"
        )


def computing(on_host: Iterable[tuple[str, str]], kinds: Mapping[str, bool]) -> list[str]:
    """Of the nodes on the CPU, as (name, operator): those that compute with values, as ``operator (name)``.

    ``kinds``: by name of a node of the file, whether it depends on sizes only. The runtime makes further nodes.
    """
    return [f"{operator} ({name})" for name, operator in on_host if not kinds.get(name, operator in SHAPE_OPERATORS)]


def require_provider(device: str, built_with: Sequence[str]) -> None:
    """Raises BadSetting if this ONNX Runtime lacks the execution provider of the device."""
    if PROVIDERS[device][0] not in built_with:
        raise BadSetting(
            f"the device {device!r} needs {PROVIDERS[device][0]}, which the installed ONNX Runtime does not have; use "
            "the GPU image, or --device cpu"
        )


def tuning(options: BackendOptions) -> Tuning:
    """The options of the device in the manifest. Raises BrokenArtifact for a wrong one."""
    given = Options(options.target.options, "onnxruntime_cuda")
    search = given.choice("cudnn_conv_algo_search", SEARCHES)
    found = Tuning(given.flag("tf32", False), search, given.flag("graphs", True), given.flag("fp16", False))
    given.finish()
    if found.fp16 and options.device != "tensorrt":
        raise BrokenArtifact("the option 'fp16' is for the device tensorrt; for CUDA, optimize to a float16 graph")
    return found


def _memory_limit(device: CudaDevice, options: BackendOptions) -> int:
    """Most bytes of the runtime's arena."""
    return options.memory_bytes or int(HEADROOM * device.memory()[0])
