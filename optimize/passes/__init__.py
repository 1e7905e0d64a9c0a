"""The passes: a table of them, and the job and record that all share. Each pass is one module of this folder."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import BadInput, PassFailed
from ..evaluation.dataset import Dataset
from ..hardware import Hardware

if TYPE_CHECKING:
    from ..sandbox.parent import SandboxLimits


@dataclass(frozen=True, slots=True)
class PassJob:
    """The input of a pass: the graph, an empty directory to write into, and the options of the candidate.

    ``keep_float``: layers that stay in float, each named by its output tensor, because libraries rename nodes but not
    tensors. ``limits`` are for the pass that starts its own process.
    """

    reference: Path
    workdir: Path
    options: Mapping[str, str | int | bool]
    calibration: Dataset
    hardware: Hardware
    seed: int
    keep_float: tuple[str, ...] = ()
    limits: SandboxLimits | None = None


@dataclass(frozen=True, slots=True)
class PassRecord:
    """The result of a pass: the file, the options that took effect, and the messages of its libraries.

    ``float_graph``: the float file with the same nodes, for the sensitivity of layers; None when layers cannot be kept
    in float one by one. ``base``: the float32 graph of the retrained network that this comes from. Noise is measured
    against ``base`` and not against the reference; only the metric compares with the reference. ``files``: other files
    that the pass read, such as training data, with their SHA-256. ``twin``: a float32 graph that gives, on a processor,
    the answers that ``path`` gives on an accelerator. For a file that runs on a GPU, ``graph`` is the ONNX file that it
    was made from, and ``forecast`` the twin of that.
    """

    path: Path
    applied: Mapping[str, str | int | bool]
    said: tuple[str, ...] = ()
    float_graph: Path | None = None
    base: Path | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    twin: Path | None = None
    graph: Path | None = None
    forecast: Path | None = None

    @property
    def judged(self) -> Path:
        """The file whose answers are judged."""
        return self.twin or self.path

    @property
    def on_processor(self) -> Path:
        """The file that gives the same answers on a processor, as far as there is one, in any shape."""
        return self.forecast or self.graph or self.judged


Apply = Callable[[PassJob], PassRecord]


@dataclass(frozen=True, slots=True)
class PassSpec:
    """One row of the table: a pass, which is the function ``apply`` of the module ``name`` in this folder.

    ``options``: the options of a candidate that the pass reads; candidates that agree on them share its result.
    ``suffix`` and ``backend``: the file that it writes and the server's backend that runs it. ``own_process``: the pass
    runs the user's code and starts a sandboxed process for it; the others run in a child of the builder.
    ``keeps_float``: it lowers the precision, and leaves the layers of ``PassJob.keep_float`` out.
    """

    name: str
    options: frozenset[str] = frozenset()
    suffix: str = ".onnx"
    backend: str = "onnxruntime"
    own_process: bool = False
    keeps_float: bool = False

    def load(self) -> Apply:
        """Import the pass and its libraries, and return its function."""
        apply: Apply = importlib.import_module(f"{__name__}.{self.name}").apply
        return apply


PASSES: dict[str, PassSpec] = {
    spec.name: spec
    for spec in (
        PassSpec(
            "aoti_from_torch",
            frozenset({"factory", "factory_sha256", "weights", "arguments", "rows"}),
            ".pt2",
            "torch_export",
        ),
        PassSpec("cuda_from_onnx", frozenset({"tf32", "rows"})),
        PassSpec("dynamic_int8_from_float32", frozenset({"per_channel"}), keeps_float=True),
        PassSpec("engine_from_onnx", frozenset({"engine", "module", "rows", "refittable"}), ".plan", "tensorrt"),
        PassSpec("fp8_from_symmetric"),
        PassSpec("fused_from_float32"),
        PassSpec("half_from_float32", frozenset({"to"}), keeps_float=True),
        PassSpec("leveled_from_float32", frozenset({"level"})),
        PassSpec("nbits_from_float32", frozenset({"bits", "block"}), keeps_float=True),
        PassSpec("openvino_from_onnx", frozenset({"precision"}), ".xml", "openvino"),
        PassSpec(
            "pruned_from_torch",
            frozenset({"prune", "share", "train", "train_sha256", "factory", "weights", "outputs", "axes"}),
            own_process=True,
        ),
        PassSpec("row_scales_from_dynamic"),
        PassSpec("static_qdq_from_float32", frozenset({"calibrate", "activations", "per_channel"}), keeps_float=True),
        PassSpec("symmetric_qdq_from_float32", frozenset({"calibrate"}), keeps_float=True),
    )
}

_BACKENDS = {spec.suffix: spec.backend for spec in PASSES.values()}


def backend_of(path: Path) -> str:
    """The server's backend for a file that a pass wrote, by the suffix of its name."""
    return _BACKENDS[path.suffix]


def failed(error: Exception, library: str = "the quantizer") -> PassFailed:
    """The error of a library in one line; the libraries write paragraphs."""
    lines = str(error).strip().splitlines() or ["no reason given"]
    return PassFailed(f"{library} failed with {type(error).__name__}: {lines[0]}")


def contains(path: Path, operators: frozenset[str]) -> bool:
    """Whether the graph in this file has a node of one of these types."""
    import onnx

    return any(node.op_type in operators for node in onnx.load(path, load_external_data=False).graph.node)


def tensors_of(path: Path, names: Collection[str]) -> tuple[str, ...]:
    """The output tensors of the nodes of this graph with these names; a name may also be that of an output tensor.

    Raises BadInput for a name that is neither.
    """
    import onnx

    if not names:
        return ()
    nodes = onnx.load(path, load_external_data=False).graph.node
    by_node = {node.name: tuple(node.output) for node in nodes if node.name}
    tensors = {name for node in nodes for name in node.output}
    for name in names:
        if name not in by_node and name not in tensors:
            near = get_close_matches(name, [*by_node, *tensors], 3, 0.4)
            hint = f"; similar names are {', '.join(near)}" if near else ""
            raise BadInput(f"--keep-float {name!r} names no node and no tensor of the graph{hint}")
    return tuple(dict.fromkeys(tensor for name in names for tensor in by_node.get(name, (name,)) if tensor))


def nodes_that_make(path: Path, tensors: Collection[str]) -> list[str]:
    """The names of the nodes of this graph that make one of ``tensors``.

    Raises PassFailed for a node without a name, because the quantizers exclude nodes by name.
    """
    import onnx

    if not tensors:
        return []
    names = []
    for node in onnx.load(path, load_external_data=False).graph.node:
        if set(node.output) & set(tensors):
            if not node.name:
                raise PassFailed(f"the node that makes {node.output[0]!r} has no name and cannot be left out")
            names.append(node.name)
    return names
