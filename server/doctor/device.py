"""The device check: whether the GPU of the settings is visible, and usable by the installed runtime."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ..settings.options import Settings, flag
from ..target import CPU
from .findings import Finding, ok, stop, warn

HIDDEN = ("", "-1", "none", "void", "NoDevFiles")
"""Values of CUDA_VISIBLE_DEVICES and NVIDIA_VISIBLE_DEVICES that hide every GPU."""


def driver_loads() -> bool:
    """Whether the driver's library can be loaded; the host's container toolkit mounts it."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


def providers() -> Sequence[str]:
    """Execution providers of the installed ONNX Runtime. Raises ImportError."""
    import onnxruntime

    found: Sequence[str] = onnxruntime.get_available_providers()
    return found


def examine(
    settings: Settings,
    environ: Mapping[str, str],
    root: Path,
    driver: Callable[[], bool] = driver_loads,
    built_with: Callable[[], Sequence[str]] = providers,
) -> Finding:
    """One finding; fatal only where the settings name a GPU."""
    devices = sorted(one.name for one in (root / "dev").glob("nvidia[0-9]*"))
    if settings.device in ("auto", CPU):
        if devices:
            return warn("gpu", f"{len(devices)} visible but not used", f"with the GPU image: {flag('device')} cuda")
        return ok("gpu", "not needed, none visible")
    for name in ("CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES"):
        if environ.get(name) in HIDDEN:
            return stop("gpu", f"{name}={environ[name]!r} hides every GPU", "unset it, or name one")
    if not devices:
        return stop("gpu", f"{flag('device')} {settings.device}, and no GPU is visible", "docker run --gpus all")
    if not driver():
        advice = "install the NVIDIA container toolkit on the host, and run with --gpus all"
        return stop("gpu", "GPUs are visible, but the driver's libcuda.so.1 is not", advice)
    from ..backends.onnxruntime_cuda import PROVIDERS

    wanted = PROVIDERS[settings.device][0]
    try:
        found = built_with()
    except ImportError as error:
        return stop("gpu", f"ONNX Runtime cannot be imported: {error}", "use the GPU image")
    if wanted not in found:
        return stop("gpu", f"the installed ONNX Runtime has no {wanted}", "use the GPU image")
    return ok("gpu", f"{', '.join(devices)} with {wanted}")
