"""Stage: the versions of driver and libraries, and whether NVML, torch and ONNX Runtime see the same device."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
from typing import Any

import onnxruntime as ort

from .record import NotRun, Record
from .stages import Place

PACKAGES = ("onnxruntime-gpu", "onnxruntime", "torch", "onnx", "onnx-ir", "onnxscript", "numpy", "transformers",
            "nvidia-cudnn-cu13", "nvidia-cublas", "nvidia-cuda-runtime", "nvidia-ml-py", "cuda-bindings", "tensorrt")  # fmt: skip


def versions(place: Place, record: Record) -> None:
    record.fact("python", platform.python_version())
    found = {name: version for name in PACKAGES if (version := installed(name))}
    record.fact("packages", ", ".join(f"{name} {version}" for name, version in found.items()))
    record.fact("ONNX Runtime", f"{ort.__version__} from {ort.__file__}: {', '.join(ort.get_available_providers())}")
    if not place.on_gpu:
        record.check("the imported ONNX Runtime has a version", bool(ort.__version__))
        return
    ort.preload_dlls()
    gpu = _nvml()
    record.fact("GPU", gpu)
    record.fact("nvidia-smi", smi())
    record.check("ONNX Runtime has the CUDA provider", "CUDAExecutionProvider" in ort.get_available_providers())
    if place.computes:
        _against_torch(record, gpu)


def installed(name: str) -> str:
    """The version of an installed package, or an empty string."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _nvml() -> dict[str, Any]:
    """Name, SM, memory and driver of the first GPU. Raises NotRun without NVML."""
    try:
        import pynvml
    except ImportError as error:
        raise NotRun("nvidia-ml-py is not installed") from error
    try:
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByIndex(0)
        major, minor = pynvml.nvmlDeviceGetCudaComputeCapability(handle)
        return {
            "name": pynvml.nvmlDeviceGetName(handle),
            "sm": major * 10 + minor,
            "memory_bytes": int(pynvml.nvmlDeviceGetMemoryInfo(handle).total),
            "uuid": pynvml.nvmlDeviceGetUUID(handle),
            "driver": pynvml.nvmlSystemGetDriverVersion(),
            "cuda_of_driver": pynvml.nvmlSystemGetCudaDriverVersion_v2(),
            "devices": pynvml.nvmlDeviceGetCount(),
        }
    except pynvml.NVMLError as error:
        raise NotRun(f"NVML: {error}") from error


def smi() -> str:
    """What nvidia-smi says of clocks, power and use."""
    query = "clocks.sm,clocks.mem,power.draw,utilization.gpu,memory.used,mig.mode.current,ecc.mode.current"
    try:
        said = subprocess.run(
            ["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader"], capture_output=True, text=True, timeout=20
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"not available: {error}"
    return f"{query}: {said.stdout.strip()}"


def _against_torch(record: Record, gpu: dict[str, Any]) -> None:
    try:
        import torch
    except ImportError:
        record.fact("torch", "not installed")
        return
    if not torch.cuda.is_available():
        record.check("torch sees the GPU", False, f"torch {torch.__version__} sees none")
        return
    seen = torch.cuda.get_device_properties(0)
    record.fact("torch", f"{torch.__version__}, CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}")
    record.check("torch and NVML: name", seen.name == gpu["name"], seen.name)
    record.check("torch and NVML: SM", seen.major * 10 + seen.minor == gpu["sm"], f"{seen.major}.{seen.minor}")
    share = seen.total_memory / gpu["memory_bytes"]
    record.check(
        "torch and NVML: memory", 0.95 < share <= 1.0, f"{seen.total_memory:,} of {gpu['memory_bytes']:,} bytes"
    )
