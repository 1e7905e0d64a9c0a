"""The device check: whether the GPUs that settings and models want are there, and can run what is installed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from ..artifact import Artifact
from ..errors import SlipwayError
from ..models.load.placement import device_of, installed, needed_bytes, target_of, too_large, unsuitable
from ..settings.options import Settings, flag
from ..system import gpu
from ..system.gpu import NEWEST_AMI, Gpu, Gpus
from ..system.gpu_shares import VISIBLE
from ..target import CPU, LEAST_DRIVERS
from .findings import Finding, ok, stop, warn
from .host import megabytes

HIDDEN = ("", "-1", "none", "void", "NoDevFiles")
"""Values of CUDA_VISIBLE_DEVICES and NVIDIA_VISIBLE_DEVICES that hide every GPU."""

KERNELS = {12: (75, 80, 86, 90), 13: (75, 80, 86, 89, 90, 120)}
"""By the major version of CUDA: compute capabilities for which the images' onnxruntime-gpu has kernels, and cuDNN too.
A GPU runs those of its generation that are not newer."""

COMPILED = {12: 90}
"""By the major version of CUDA: the capability from which on the driver compiles kernels (PTX), at the first load."""

PACKAGES = {"tensorrt": "TensorrtExecutionProvider", "cuda": "CUDAExecutionProvider"}


def providers() -> Sequence[str]:
    """Execution providers of the installed ONNX Runtime. Raises ImportError."""
    import onnxruntime

    found: Sequence[str] = onnxruntime.get_available_providers()
    return found


def cuda_major() -> int:
    """Major version of the CUDA runtime that the server would load; 0 for none."""
    from ..backends.cuda import runtime_major

    return runtime_major()


def examine(
    settings: Settings,
    environ: Mapping[str, str],
    models: Sequence[Artifact] = (),
    read: Callable[[], Gpus] = gpu.read,
    built_with: Callable[[], Sequence[str]] = providers,
    cuda: Callable[[], int] = cuda_major,
) -> list[Finding]:
    """One finding or more; fatal only where settings or a model name a GPU."""
    try:
        kinds = {device_of(one.manifest, settings) for one in models} or {settings.device}
    except SlipwayError as error:
        return [stop("gpu", str(error))]
    kinds -= {CPU, "auto"}
    host = read()
    if not kinds:
        if host.devices:
            advice = f"with the GPU image: {flag('device')} cuda"
            return [warn("gpu", f"{len(host.devices)} visible but not used", advice)]
        return [ok("gpu", "not needed, none visible")]
    missing = _missing(host, environ, ", ".join(sorted(kinds)))
    if missing is not None:
        return [missing]
    shown = gpu.visible(host.devices, environ.get(VISIBLE))
    if len(shown) < max(settings.gpus, 1):
        advice = f"{VISIBLE}={environ[VISIBLE]!r} hides the others" if VISIBLE in environ else ""
        return [stop("gpu", f"{len(shown)} visible, fewer than {flag('gpus')} {max(settings.gpus, 1)}", advice)]
    used = shown[: settings.gpus] if settings.gpus else shown
    host = replace(host, devices=tuple(used))
    return [*_runtime(host, kinds, models, settings, built_with, cuda()), *_devices(used, models, settings.processes)]


def _missing(host: Gpus, environ: Mapping[str, str], wanted: str) -> Finding | None:
    """Why there is no GPU; None where there is one."""
    for name in (VISIBLE, "NVIDIA_VISIBLE_DEVICES"):
        if environ.get(name) in HIDDEN:
            return stop("gpu", f"{name}={environ[name]!r} hides every GPU", "unset it, or name one")
    reason = gpu.missing(wanted, host)
    return stop("gpu", reason) if reason else None


def _runtime(
    host: Gpus,
    kinds: set[str],
    models: Sequence[Artifact],
    settings: Settings,
    built_with: Callable[[], Sequence[str]],
    cuda: int,
) -> Iterator[Finding]:
    """The driver against the installed CUDA, and each model against driver, GPU and packages."""
    least = LEAST_DRIVERS.get(cuda, 0)
    if not cuda:
        yield stop("driver", "the CUDA runtime (libcudart) is not installed", "use the GPU image")
    elif host.driver_major < least:
        older = "use the image for CUDA 12, or " if host.driver_major >= LEAST_DRIVERS[12] else ""
        advice = f"{older}update the driver; on SageMaker: InferenceAmiVersion {NEWEST_AMI}"
        yield stop("driver", f"CUDA {cuda} needs a driver of {least} or newer, and {host.driver} is installed", advice)
    else:
        yield ok("driver", f"{host.driver} for CUDA {cuda}")
    needs_onnxruntime = not models or any(one.manifest.backend.startswith("onnxruntime") for one in models)
    of_each_sm = list({one.sm: one for one in host.devices}.values())
    for kind in sorted(kinds & PACKAGES.keys()) if needs_onnxruntime else ():
        yield from (_provider(PACKAGES[kind], one, built_with, cuda) for one in of_each_sm)
    for model in models:
        target = target_of(model.manifest, settings)
        versions = {name: installed(name) for name in target.versions}
        reasons = (unsuitable(target, host.driver_major, one.sm, versions) for one in of_each_sm)
        reason = next(filter(None, reasons), "")
        if reason:
            yield stop("gpu", f"{model.manifest.name} cannot run on this host: {reason}")


def _provider(name: str, device: Gpu, built_with: Callable[[], Sequence[str]], cuda: int) -> Finding:
    try:
        found = built_with()
    except ImportError as error:
        return stop("gpu", f"ONNX Runtime cannot be imported: {error}", "use the GPU image")
    if name not in found:
        return stop("gpu", f"the installed ONNX Runtime has no {name}", "use the GPU image")
    kernels, compiled = KERNELS.get(cuda, ()), device.sm >= COMPILED.get(cuda, device.sm + 1)
    if kernels and not compiled and not any(device.sm // 10 == one // 10 and device.sm >= one for one in kernels):
        advice = f"use a GPU of SM {', '.join(map(str, kernels))}, or {flag('device')} cpu"
        return stop("gpu", f"ONNX Runtime has no kernels for {device.name} (SM {device.sm})", advice)
    return ok("gpu", f"{device.name} (SM {device.sm}) with {name}")


def _devices(devices: Sequence[Gpu], models: Sequence[Artifact], processes: int) -> Iterator[Finding]:
    """Memory, slices and memory errors of the GPUs, on which so many processes have the models."""
    least = min(devices, key=lambda one: one.free_bytes)
    copies = max(-(-processes // len(devices)), 1)
    reason = too_large(copies * sum(needed_bytes(one.manifest) for one in models), least.free_bytes)
    free = f"{megabytes(least.free_bytes)} of {megabytes(least.total_bytes)} are free"
    yield stop("gpu-memory", f"the models do not fit: {reason}") if reason else ok("gpu-memory", free)
    for one in devices:
        if one.mig:
            yield warn(
                "gpu", f"GPU {one.index} is divided (MIG)", "a process sees one slice: start one server for each"
            )
        if one.ecc_errors:
            yield warn("gpu", f"GPU {one.index} has {one.ecc_errors} uncorrected memory errors", "replace the host")
