"""The placement of a model: the kind of device that it runs on, and how its backend is opened there."""

from __future__ import annotations

from dataclasses import replace

from ...artifact import Batching, Manifest
from ...backends import BackendOptions
from ...backends.cuda import visible_devices
from ...errors import BadSetting
from ...settings.options import Settings
from ...target import CPU, ClosedShapes, DeviceTarget

ENGINES = ("tensorrt", "tensorrt_rtx", "torch_export")
"""Backends whose files run on the device that they were built for, and on no other."""


def target_of(manifest: Manifest, settings: Settings) -> DeviceTarget:
    """The device of a model: the setting's, or the manifest's. Raises BadSetting for a file that cannot run there."""
    made_for = manifest.device
    if settings.device in ("auto", made_for.kind):
        return made_for
    if manifest.backend in ENGINES:
        raise BadSetting(
            f"{manifest.name} was built for {made_for.kind} and cannot run on {settings.device}: leave out --device"
        )
    return DeviceTarget(settings.device)


def device_of(manifest: Manifest, settings: Settings) -> str:
    """The kind of device that a model runs on, as :func:`target_of`."""
    return target_of(manifest, settings).kind


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
    )
