"""Stage: the versions of driver and libraries, and whether NVML, torch and ONNX Runtime see the same device."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
import sys
from typing import Any

import onnxruntime as ort

from server.system import gpu

from .provider import small_graph
from .record import Record
from .stages import Place

PACKAGES = (
    *("onnxruntime-gpu", "onnxruntime", "torch", "onnx", "onnx-ir", "onnxscript", "numpy", "transformers"),
    *("nvidia-cudnn-cu13", "nvidia-cublas", "nvidia-cuda-runtime", "nvidia-ml-py", "cuda-bindings", "tensorrt"),
)


def versions(place: Place, record: Record) -> None:
    record.fact("python", platform.python_version())
    found = {name: version for name in PACKAGES if (version := installed(name))}
    record.fact("packages", ", ".join(f"{name} {version}" for name, version in found.items()))
    record.fact("ONNX Runtime", f"{ort.__version__} from {ort.__file__}: {', '.join(ort.get_available_providers())}")
    seen = gpu.read()
    record.check("NVML agrees that there is a GPU", bool(seen.devices) == place.on_gpu, seen.absent or "it does")
    _doctor(place, record)
    if not place.on_gpu or not seen.devices:
        return
    ort.preload_dlls()
    record.fact("driver", f"{seen.driver}, up to CUDA {seen.cuda / 1000:.1f}")
    record.fact("GPU", seen.devices[0])
    record.fact("nvidia-smi", smi())
    record.check("ONNX Runtime has the CUDA provider", "CUDAExecutionProvider" in ort.get_available_providers())
    if place.computes:
        _against_torch(record, seen.devices[0])


def installed(name: str) -> str:
    """The version of an installed package, or an empty string."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def smi() -> str:
    """What nvidia-smi says of clocks, power and use."""
    query = "name,driver_version,memory.total,clocks.sm,clocks.mem,power.draw,memory.used,mig.mode.current"
    try:
        said = subprocess.run(
            ["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader"], capture_output=True, text=True, timeout=20
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"not available: {error}"
    return said.stdout.strip()


def _doctor(place: Place, record: Record) -> None:
    """The doctor's lines for the small graph on the device; it starts the server as well."""
    model = place.work / "small.onnx"
    model.write_bytes(small_graph())
    command = ["serve.py", "doctor", "--model", str(model), "--device", "cuda" if place.on_gpu else "cpu"]
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, timeout=100)
    for number, line in enumerate(line for line in done.stdout.splitlines() if "gpu" in line.lower()):
        record.fact(f"doctor {number + 1}", line.strip())
    last = (done.stdout.strip().splitlines() or [done.stderr.strip()[-300:]])[-1]
    record.check("the doctor finds that the server can serve", done.returncode == 0, last)


def _against_torch(record: Record, first: Any) -> None:
    try:
        import torch
    except ImportError:
        record.fact("torch", "not installed")
        return
    if not torch.cuda.is_available():
        record.check("torch sees the GPU", False, f"torch {torch.__version__} sees none")
        return
    seen: Any = torch.cuda.get_device_properties(0)
    record.fact("torch", f"{torch.__version__}, CUDA {torch.version.cuda}")
    record.check("torch and NVML: name", seen.name == first.name, seen.name)
    record.check("torch and NVML: SM", seen.major * 10 + seen.minor == first.sm, f"{seen.major}.{seen.minor}")
    share = seen.total_memory / first.total_bytes
    record.check("torch and NVML: memory", 0.95 < share <= 1.0, f"{seen.total_memory:,} of {first.total_bytes:,} bytes")
