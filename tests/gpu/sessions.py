"""Bare ONNX Runtime sessions: what the server is compared with. Nothing of the server is imported here."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from .record import NotRun
from .stages import Place

Arrays = Mapping[str, np.ndarray[Any, Any]]

SHAPE_OPERATORS = frozenset({
    "Shape", "Gather", "Unsqueeze", "Squeeze", "Concat", "Slice", "Cast", "Range", "Reshape", "Expand", "Constant",
    "ConstantOfShape", "Add", "Sub", "Mul", "Div", "Equal", "Where", "Min", "Max", "ReduceProd", "Size", "Identity",
})  # fmt: skip
"""Operators that may compute sizes on the CPU. Products, convolutions and normalisations never are among them."""


def open_session(place: Place, model: Path | bytes, **options: str) -> ort.InferenceSession:
    """A session on the device, with ``options`` of the CUDA provider. Raises NotRun if the provider cannot start."""
    settings = ort.SessionOptions()
    settings.log_severity_level = 3
    settings.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    providers: list[Any] = ["CPUExecutionProvider"]
    if place.on_gpu:
        if "CUDAExecutionProvider" not in ort.get_available_providers():
            raise NotRun(f"ONNX Runtime {ort.__version__} here has no CUDA provider")
        ort.preload_dlls()
        providers.insert(0, ("CUDAExecutionProvider", {"device_id": "0", "use_tf32": "0", **options}))
    session = ort.InferenceSession(model if isinstance(model, bytes) else str(model), settings, providers=providers)
    if place.on_gpu and "CUDAExecutionProvider" not in session.get_providers():
        raise NotRun("the CUDA provider did not start; this stage's log says why")
    return session


def assignment(session: ort.InferenceSession) -> dict[str, list[str]]:
    """The operators of the session's graph by execution provider."""
    found: dict[str, list[str]] = {}
    for part in session.get_provider_graph_assignment_info():
        found.setdefault(part.ep_name, []).extend(node.op_type for node in part.get_nodes())
    return found


def compute_on_cpu(session: ort.InferenceSession) -> list[str]:
    """The operators on the CPU that compute more than sizes."""
    return sorted(kind for kind in assignment(session).get("CPUExecutionProvider", []) if kind not in SHAPE_OPERATORS)


def run(session: ort.InferenceSession, feeds: Arrays) -> list[np.ndarray[Any, Any]]:
    outputs: list[np.ndarray[Any, Any]] = session.run(None, dict(feeds))
    return outputs


@dataclass(slots=True)
class Bound:
    """Buffers on the device for one shape, bound to a session. ``graph``: number of its CUDA graph, or None."""

    session: ort.InferenceSession
    inputs: dict[str, ort.OrtValue]
    outputs: list[ort.OrtValue]
    binding: ort.IOBinding
    options: ort.RunOptions

    def copy_in(self, feeds: Arrays) -> None:
        for name, value in self.inputs.items():
            value.update_inplace(np.ascontiguousarray(feeds[name]))

    def compute(self) -> None:
        """Run on what the buffers hold, and wait for the device."""
        self.session.run_with_iobinding(self.binding, self.options)

    def copy_out(self) -> list[np.ndarray[Any, Any]]:
        return [value.numpy() for value in self.outputs]

    def whole(self, feeds: Arrays) -> list[np.ndarray[Any, Any]]:
        self.copy_in(feeds)
        self.compute()
        return self.copy_out()


def bind(place: Place, session: ort.InferenceSession, feeds: Arrays, like: Sequence[Any], graph: int | None) -> Bound:
    """Bind buffers of the shapes of ``feeds`` and ``like`` (the outputs of an ordinary run)."""
    where = "cuda" if place.on_gpu else "cpu"
    binding = session.io_binding()
    inputs = {name: ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(a), where, 0) for name, a in feeds.items()}
    outputs = [ort.OrtValue.ortvalue_from_shape_and_type(list(a.shape), a.dtype.type, where, 0) for a in like]
    for name, value in inputs.items():
        binding.bind_ortvalue_input(name, value)
    for node, value in zip(session.get_outputs(), outputs, strict=True):
        binding.bind_ortvalue_output(node.name, value)
    options = ort.RunOptions()
    if graph is not None:
        options.add_run_config_entry("gpu_graph_id", str(graph))
    return Bound(session, inputs, outputs, binding, options)


def seconds(action: Callable[[], object], at_least_s: float = 0.25, least: int = 5, most: int = 2000) -> float:
    """The median seconds of an action, after two that do not count."""
    for _ in range(2):
        action()
    taken: list[float] = []
    end = time.perf_counter() + at_least_s
    while (time.perf_counter() < end or len(taken) < least) and len(taken) < most:
        begun = time.perf_counter()
        action()
        taken.append(time.perf_counter() - begun)
    return float(np.median(taken))


def signal_to_noise_db(reference: Sequence[Any], other: Sequence[Any]) -> float:
    """Signal-to-noise of ``other`` in decibels, over all outputs; 400 where both are equal, -400 if not finite."""
    signal = noise = 0.0
    for one, two in zip(reference, other, strict=True):
        exact = one.astype(np.float64)
        signal += float((exact**2).sum())
        noise += float(((two.astype(np.float64) - exact) ** 2).sum())
    if not np.isfinite(noise):
        return -400.0
    return 400.0 if noise == 0 else float(10 * np.log10(max(signal, 1e-300) / noise))
