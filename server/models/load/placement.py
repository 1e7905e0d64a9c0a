"""The placement of a model: the kind of device that it runs on, and how its backend is opened there."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import replace

from ...artifact import Batching, Manifest
from ...backends import ONNX, BackendOptions
from ...backends.cuda import CudaDevice, CudaError, visible_devices
from ...errors import BadSetting, BrokenArtifact
from ...settings.options import Settings
from ...system import gpu
from ...system.gpu import NEWEST_AMI, NEWEST_AMI_DRIVER, Gpus
from ...target import CPU, ClosedShapes, DeviceTarget

ENGINES = ("tensorrt", "tensorrt_rtx", "torch_export")
"""Backends whose files run on the device that they were built for, and on no other."""

HOST_ONLY = ("openvino",)
"""Backends of models that know no other device than the CPU."""


def target_of(manifest: Manifest, settings: Settings) -> DeviceTarget:
    """The device of a model: the setting's, or the manifest's. Raises BadSetting for a file that cannot run there."""
    made_for = manifest.device
    if settings.device in ("auto", made_for.kind):
        return made_for
    if manifest.backend in HOST_ONLY:
        raise BadSetting(f"{manifest.name} is a model of {manifest.backend}, which runs on the CPU only, not on "
                         f"{settings.device}: leave out --device")  # fmt: skip
    if manifest.backend in ENGINES:
        raise BadSetting(
            f"{manifest.name} was built for {made_for.kind} and cannot run on {settings.device}: leave out --device"
        )
    return DeviceTarget(settings.device)


def device_of(manifest: Manifest, settings: Settings) -> str:
    """The kind of device that a model runs on, as :func:`target_of`."""
    return target_of(manifest, settings).kind


def require_device(manifest: Manifest, settings: Settings) -> None:
    """Raises BrokenArtifact, with the reason, for a model that was made for another GPU, driver or library than this
    host has. Does nothing on the CPU."""
    target = target_of(manifest, settings)
    if target.kind == CPU:
        return
    host = gpu.read()
    versions = {name: installed(name) for name in target.versions}
    needed = needed_bytes(manifest) if target == manifest.device else 0
    reason = unsuitable(target, host.driver_major, None, versions)
    for ordinal in ordinals_of(settings) if not reason else ():
        device = _device(ordinal, target.kind, host)
        reason = reason or unsuitable(target, host.driver_major, device.capability(), versions)
        reason = reason or too_large(needed, device.memory()[0])
    if reason:
        raise BrokenArtifact(f"{manifest.name} cannot run on this host: {reason}")


def unused_gpus(manifest: Manifest, settings: Settings, read: Callable[[], Gpus] = gpu.read) -> int:
    """The GPUs of this host that a model without a manifest does not use, because nothing says that it should."""
    if settings.device != "auto" or manifest.device.kind != CPU or manifest.backend not in ONNX:
        return 0
    return len(read().devices)


def _device(ordinal: int, kind: str, host: Gpus) -> CudaDevice:
    """One GPU. Raises BadSetting, in the words of the driver's own library where that is not there."""
    try:
        return CudaDevice(ordinal)
    except BadSetting as error:
        reason = gpu.missing(kind, host)
        if reason and isinstance(error.__cause__, CudaError):
            raise BadSetting(reason) from error
        raise


def unsuitable(target: DeviceTarget, driver: int, sm: int | None, versions: Mapping[str, str | None]) -> str:
    """Why a host cannot run what was made for ``target``; empty where it can.

    ``driver``: major version, 0 for unknown. ``sm``: compute capability of its GPU; None: not asked yet. ``versions``:
    of the libraries that the target names, None for one that is not installed.
    """
    again = f"run optimize here with --target {target.kind}, or rebuild the artifact"
    for name, wanted in target.versions.items():
        have = versions.get(name)
        if have is None:
            return f"it needs the package {name} {wanted}, which is not installed"
        if have != wanted:
            return f"it was built with {name} {wanted}, and {have} is installed; {again}"
    if driver and driver < target.least_driver:
        image = f"; on SageMaker: InferenceAmiVersion {NEWEST_AMI}" if target.least_driver <= NEWEST_AMI_DRIVER else ""
        return f"it needs an NVIDIA driver of {target.least_driver} or newer, and {driver} is installed{image}"
    if sm is None:
        return ""
    if target.sm and sm != target.sm:
        return f"it was built for GPUs of SM {target.sm}, and this one has SM {sm}; {again}"
    if sm < target.least_sm:
        return f"it needs a GPU of SM {target.least_sm} or newer, and this one has SM {sm}; run optimize here"
    return ""


def needed_bytes(manifest: Manifest) -> int:
    """Device memory of a model's weights and of its largest bucket, as far as the manifest says."""
    buckets = manifest.shapes.bytes if manifest.shapes is not None else ()
    return manifest.device.bytes + max((one.bytes for one in buckets), default=0)


def too_large(needed_bytes: int, free_bytes: int) -> str:
    """Why a model does not fit into the free device memory; empty where it does."""
    if needed_bytes <= free_bytes:
        return ""
    return (
        f"it needs {needed_bytes / 1e9:.2f} GB of device memory, and {free_bytes / 1e9:.2f} GB are free; "
        "end other users of the GPU, or optimize with smaller batches"
    )


def installed(module: str) -> str | None:
    """The version of a library by the name of its module; None where it cannot be imported."""
    try:
        return str(importlib.import_module(module).__version__)
    except ImportError:
        return None


def gpu_count(settings: Settings) -> int:
    """The GPUs that models may run on: as set, else all visible ones; 1 where none is, because no model needs it."""
    if settings.gpus:
        return settings.gpus
    try:
        return max(visible_devices(), 1)
    except BadSetting:
        return 1


def ordinals_of(settings: Settings) -> tuple[int, ...]:
    """The GPUs of a model. Raises BadSetting if there are fewer than set."""
    if settings.gpus == 1:
        return (0,)
    visible = visible_devices()
    if settings.gpus > visible:
        raise BadSetting(f"{visible} GPUs are visible, fewer than --gpus {settings.gpus}")
    return tuple(range(settings.gpus or visible))


def backend_options(manifest: Manifest, settings: Settings, batching: Batching) -> BackendOptions:
    """How the backend opens a model that runs as ``batching`` says."""
    options = BackendOptions(batching.threads, optimized=manifest.optimized)
    if device_of(manifest, settings) == CPU:
        return options
    lengths = manifest.padding.sizes if manifest.padding is not None else ()
    ordinals = ordinals_of(settings)
    return replace(
        options,
        target=target_of(manifest, settings),
        ordinals=ordinals,
        shapes=ClosedShapes(batching.batch_sizes, manifest.shapes.lengths if manifest.shapes is not None else lengths),
        padding=manifest.padding,
        lanes=-(-batching.instances // len(ordinals)),
        memory_bytes=int(settings.gpu_memory_mb * 1e6),
        spec=manifest.spec if manifest.spec.inputs else None,
    )
