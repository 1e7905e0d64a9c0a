"""The target: the device that a search optimizes for, and what this host lacks for it."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from server.target import LEAST_DRIVERS

from .errors import NoTarget
from .hardware import Gpu

Asked = Literal["auto", "cpu", "cuda", "tensorrt"]
TARGETS: tuple[Asked, ...] = ("auto", "cpu", "cuda", "tensorrt")

CPU, CUDA, TENSORRT, RTX = "cpu", "cuda", "tensorrt", "tensorrt_rtx"

ENGINES = {TENSORRT: ("tensorrt",), RTX: ("tensorrt_rtx", "tensorrt_rtx_bindings")}
"""The kinds of engines, and the modules that may build them: wheels of TensorRT-RTX differ in the name."""

RTX_SMS = frozenset({75, 80, 86, 89, 120, 121})
"""The compute capabilities that TensorRT-RTX builds for: Hopper is not among them."""

PROVIDER = "CUDAExecutionProvider"

NO_GPU = (
    "no NVIDIA GPU is visible: run on a host with one and its driver (nvidia-smi lists it), and in a container with "
    "--gpus all"
)
NO_PROVIDER = (
    f"the installed ONNX Runtime has no {PROVIDER}: pip uninstall onnxruntime, then "
    "pip install 'onnxruntime-gpu[cuda,cudnn]', both in the same environment"
)
NO_TENSORRT = (
    "no TensorRT can be imported ({reason}): pip install tensorrt-cu13; for SM 7.5, 8.0, 8.6, 8.9 and 12 also "
    "tensorrt-rtx"
)


@dataclass(frozen=True, slots=True)
class Host:
    """What this host has. ``gpus``: the visible ones. ``providers``: execution providers of the installed ONNX Runtime,
    and ``cuda``: the major version of CUDA that it was built for; 0: none.

    ``engines``: kinds of engines with the module that builds each. ``missing``: why there is none, if there is none.
    """

    gpus: tuple[Gpu, ...] = ()
    providers: tuple[str, ...] = ()
    engines: tuple[tuple[str, str], ...] = ()
    missing: str = ""
    cuda: int = 0


@dataclass(frozen=True, slots=True)
class Target:
    """The device of a search. ``kinds``: the targets whose candidates it tries. ``gpu``: None for the CPU.

    ``engine``: tensorrt or tensorrt_rtx, and the ``module`` that builds it; both are empty where none are built.
    ``cuda``: the major version of CUDA that its libraries need.
    """

    kinds: frozenset[str] = frozenset({CPU})
    gpu: Gpu | None = None
    engine: str = ""
    module: str = ""
    cuda: int = 0

    @property
    def least_driver(self) -> int:
        """The lowest major version of the driver; 0: none is needed."""
        return LEAST_DRIVERS.get(self.cuda, 0)

    @property
    def sm(self) -> int:
        return self.gpu.sm if self.gpu else 0


def resolve(asked: Asked, host: Host) -> Target:
    """The target on this host; ``auto`` takes the most that it has. TensorRT's target also tries CUDA's candidates.

    Raises NoTarget, which names everything that is missing and how to get it.
    """
    if asked == CPU:
        return Target()
    lacks = []
    if not host.gpus:
        lacks.append(NO_GPU)
    if PROVIDER not in host.providers:
        lacks.append(NO_PROVIDER)
    engine = next(((kind, module) for kind, module in host.engines if _fits(kind, host.gpus)), None)
    if asked == TENSORRT and engine is None:
        lacks.append(NO_TENSORRT.format(reason=_reason(host)))
    if lacks and asked == "auto":
        return Target()
    if lacks:
        raise NoTarget(f"--target {asked}: {'; and '.join(lacks)}")
    if engine is None or asked == CUDA:
        return Target(frozenset({CUDA}), host.gpus[0], cuda=host.cuda)
    return Target(frozenset({CUDA, TENSORRT}), host.gpus[0], *engine, host.cuda)


def look(gpus: Sequence[Gpu], load: Callable[[str], object] = importlib.import_module) -> Host:
    """Describe this host. TensorRT is imported, by ``load``, only where there is a GPU."""
    if not gpus:
        return Host((), _providers(), missing="it needs a GPU")
    engines, missing = [], []
    for kind, modules in ENGINES.items():
        for module in modules:
            try:
                load(module)
            except (ImportError, OSError) as error:
                missing.append(" ".join(str(error).split()))
            else:
                engines.append((kind, module))
                break
    return Host(tuple(gpus), _providers(), tuple(engines), "; ".join(missing), _cuda())


def _providers() -> tuple[str, ...]:
    import onnxruntime

    return tuple(onnxruntime.get_available_providers())


def _cuda() -> int:
    """The major version of CUDA of the installed ONNX Runtime; 0: it has none."""
    from onnxruntime.capi import build_and_package_info

    major = str(getattr(build_and_package_info, "cuda_version", "")).partition(".")[0]
    return int(major) if major.isdigit() else 0


def _fits(kind: str, gpus: Sequence[Gpu]) -> bool:
    return bool(gpus) and (kind != RTX or gpus[0].sm in RTX_SMS)


def _reason(host: Host) -> str:
    if host.engines and host.gpus:
        return f"{host.engines[0][1]} does not know SM {host.gpus[0].sm / 10:.1f}"
    return host.missing
