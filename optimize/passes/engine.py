"""The engine builder: a plan from an ONNX file by TensorRT 10, TensorRT 11 or TensorRT-RTX, in one code path.

The module is an argument: the three differ in integers and in what they have removed, and nothing that differs is used.
Networks are strongly typed, so that the types in the graph decide; version 11 knows no other. Flags are named, because
their integers changed.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import PassFailed
from .profiles import Profile

Progress = Callable[[int, int], None]
"""Called with the thousandths of the build that are done, and a thousand."""

THOUSAND = 1000

NO_KERNEL = "could not find any implementation"
"""The builder's words when every kernel of a layer needs more memory than there is."""

MOST_ERRORS = 3

REMEDIES = {
    "INVALID_NODE": "TensorRT has no such operator: try --target cuda",
    "UNSUPPORTED_NODE": "TensorRT has no such operator: try --target cuda",
    "UNSUPPORTED_NODE_ATTR": "TensorRT lacks this variant of the operator: try --target cuda",
    "UNSUPPORTED_NODE_DATATYPE": "TensorRT has no such type here: keep the node in float with --keep-float",
    "UNSUPPORTED_NODE_DYNAMIC": "its sizes depend on data: close them with --fixed",
    "UNSUPPORTED_NODE_SHAPE": "its sizes depend on data: close them with --fixed",
    "UNSUPPORTED_NODE_INPUT": "it needs a constant where the graph computes a value: try --target cuda",
}
"""By the parser's code: what the user can do."""


@dataclass(frozen=True, slots=True)
class BuildConfig:
    """``workspace_bytes``: device memory that a kernel may use meanwhile; 0: all. ``sm``: the one compute capability to
    build for, which only TensorRT-RTX can choose; 0: that of this GPU. ``refittable``: weights can be replaced later.
    """

    workspace_bytes: int = 0
    sm: int = 0
    refittable: bool = False


@dataclass(frozen=True, slots=True)
class Built:
    """``plan``: the serialized engine. ``timing_cache``: for faster builds of the same graph; empty where the module
    keeps none. ``layers``: of the network that was parsed, the number by type of its outputs. ``said``: warnings.
    """

    plan: bytes
    timing_cache: bytes
    layers: dict[str, int]
    said: tuple[str, ...]


def build(
    trt: Any,
    graph: Path,
    profiles: Callable[[dict[str, tuple[int, ...]]], Sequence[Profile]],
    config: BuildConfig,
    progress: Progress,
    timing_cache: bytes = b"",
) -> Built:
    """Build ``graph`` for ``profiles``, a function of the shapes of its inputs.

    Raises PassFailed with node, operator and remedy where the parser refuses the graph, and with the builder's reason
    where it builds nothing.
    """
    messages = _logger(trt)
    builder = trt.Builder(messages)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, messages)
    if not parser.parse_from_file(str(graph)):
        raise PassFailed(_refused([parser.get_error(at) for at in range(parser.num_errors)]))
    options = builder.create_builder_config()
    if config.workspace_bytes:
        options.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, config.workspace_bytes)
    options.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if config.refittable:
        options.set_flag(trt.BuilderFlag.REFIT)
    if config.sm:
        options.num_compute_capabilities = 1
        options.set_compute_capability(getattr(trt.ComputeCapability, f"SM{config.sm}"), 0)
    monitor = _monitor(trt, progress)
    options.progress_monitor = monitor
    cache = options.create_timing_cache(timing_cache)
    if cache is None or not options.set_timing_cache(cache, False):
        # A cache of another GPU or version.
        options.set_timing_cache(options.create_timing_cache(b""), False)
    _add_profiles(builder, options, network, profiles)
    plan = builder.build_serialized_network(network, options)
    if plan is None:
        raise PassFailed(_not_built(messages.errors))
    kept = options.get_timing_cache()
    layers = _types(trt, network)
    return Built(bytes(plan), bytes(kept.serialize()) if kept is not None else b"", layers, tuple(messages.warnings))


def layers_of(trt: Any, plan: bytes) -> list[dict[str, Any]]:
    """The layers of an engine as its inspector describes them. Needs the GPU. Raises PassFailed if it does not load."""
    engine = _deserialized(trt, plan)
    inspector = engine.create_engine_inspector()
    described = json.loads(inspector.get_engine_information(trt.LayerInformationFormat.JSON))
    return [layer if isinstance(layer, dict) else {"Name": layer} for layer in described.get("Layers", [])]


def refit(trt: Any, plan: bytes, graph: Path) -> bytes:
    """The engine with the weights of ``graph``, which must be the graph that it was built from. Needs the GPU.

    Raises PassFailed for an engine that was not built refittable, another graph, or weights that are missing.
    """
    messages = _logger(trt)
    engine = _deserialized(trt, plan)
    if not engine.refittable:
        raise PassFailed("the engine was not built to take other weights: build it again")
    refitter = trt.Refitter(engine, messages)
    parser = trt.OnnxParserRefitter(refitter, messages)
    if not parser.refit_from_file(str(graph)):
        raise PassFailed(_refused([parser.get_error(at) for at in range(parser.num_errors)]))
    missing = refitter.get_missing_weights()
    if missing or not refitter.refit_cuda_engine():
        names = f": {', '.join(missing[:MOST_ERRORS])} are missing" if missing else ""
        raise PassFailed(f"the weights do not fit the engine{names}; it was built from another graph")
    return bytes(engine.serialize())


def _deserialized(trt: Any, plan: bytes) -> Any:
    messages = _logger(trt)
    engine = trt.Runtime(messages).deserialize_cuda_engine(plan)
    if engine is None:
        raise PassFailed(f"the engine does not load here: {_last(messages.errors)}")
    return engine


def _add_profiles(
    builder: Any, options: Any, network: Any, profiles: Callable[[dict[str, tuple[int, ...]]], Sequence[Profile]]
) -> None:
    values = [network.get_input(at) for at in range(network.num_inputs)]
    shapes = {value.name: tuple(value.shape) for value in values}
    for number, profile in enumerate(profiles(shapes)):
        made = builder.create_optimization_profile()
        for name, sizes in profile.items():
            made.set_shape(name, sizes.least, sizes.usual, sizes.largest)
        # Wrong shapes are accepted above and refused here.
        if options.add_optimization_profile(made) != number:
            wanted = "; ".join(f"{name} {sizes.least} to {sizes.largest}" for name, sizes in profile.items())
            raise PassFailed(f"the shapes of profile {number} do not fit the graph: {wanted}")


def _types(trt: Any, network: Any) -> dict[str, int]:
    """The number of layers by type of their first output."""
    names = {int(member): name for name, member in trt.DataType.__members__.items()}
    found: dict[str, int] = {}
    for at in range(network.num_layers):
        layer = network.get_layer(at)
        if layer.num_outputs:
            name = names[int(layer.get_output(0).dtype)]
            found[name] = found.get(name, 0) + 1
    return dict(sorted(found.items()))


def _refused(errors: Sequence[Any]) -> str:
    """The parser's errors in one line: node, operator, what it says, and what to do."""
    if not errors:
        return "TensorRT cannot read the graph, and gives no reason"
    lines = []
    for error in errors[:MOST_ERRORS]:
        code = error.code().name
        remedy = REMEDIES.get(code)
        where = f"{error.node_operator() or 'the graph'} {error.node_name()}".strip()
        lines.append(f"{where}: {' '.join(error.desc().split())}" + (f" ({remedy})" if remedy else ""))
    more = f"; and {len(errors) - MOST_ERRORS} more" if len(errors) > MOST_ERRORS else ""
    return f"TensorRT cannot read the graph: {'; '.join(lines)}{more}"


def _not_built(errors: Sequence[str]) -> str:
    if any(NO_KERNEL in line.lower() for line in errors):
        return (
            f"TensorRT built nothing: {_last(errors)}: every kernel needs more memory than is free on the GPU; end "
            "other processes there, or give smaller --batch-sizes"
        )
    return f"TensorRT built nothing: {_last(errors)}"


def _last(errors: Sequence[str]) -> str:
    return " ".join(errors[-1].split()) if errors else "it gave no reason"


def _logger(trt: Any) -> Any:
    class Messages(trt.ILogger):  # type: ignore[misc]  # the module is an argument
        """Keeps errors and warnings."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []
            self.warnings: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                self.errors.append(message)
            elif severity == trt.ILogger.WARNING:
                self.warnings.append(message)

    return Messages()


def _monitor(trt: Any, progress: Progress) -> Any:
    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]  # the module is an argument
        """Adds up phases and the phases inside them. The builder calls it from its own threads."""

        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self._share = PhaseShare()

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self._share.start(phase_name, parent_phase, num_steps)

        def phase_finish(self, phase_name: str) -> None:
            self._share.finish(phase_name)

        def step_complete(self, phase_name: str, step: int) -> bool:
            self._share.step(phase_name, step + 1)
            progress(round(THOUSAND * self._share.done), THOUSAND)
            return True

    return Monitor()


class PhaseShare:
    """The share of a build that is done, from phases that are inside each other. It never decreases."""

    def __init__(self) -> None:
        self.done = 0.0
        self._lock = threading.Lock()
        self._phases: dict[str, _Phase] = {}

    def start(self, name: str, parent: str | None, steps: int) -> None:
        """A phase of ``steps`` begins, during one step of ``parent``."""
        with self._lock:
            above = self._phases.get(parent) if parent else None
            first, width = (above.first + above.done * above.width, above.width) if above else (0.0, 1.0)
            self._phases[name] = _Phase(first, width / max(1, steps))

    def step(self, name: str, done: int) -> None:
        """So many steps of a phase are done."""
        with self._lock:
            phase = self._phases.get(name)
            if phase is not None:
                phase.done = done
                self.done = min(1.0, max(self.done, phase.first + done * phase.width))

    def finish(self, name: str) -> None:
        with self._lock:
            self._phases.pop(name, None)


@dataclass(slots=True)
class _Phase:
    """``first``: the share that was done before it; ``width``: the share of each of its steps."""

    first: float
    width: float
    done: int = 0
