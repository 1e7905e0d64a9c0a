"""The processor: its model and instruction sets, and how it differs from the one that a model was optimized on."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import installed

CPUINFO = Path("/proc/cpuinfo")

NOTEWORTHY = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "avx_vnni", "amx_int8", "amx_bf16", "asimddp", "i8mm")
"""Instruction sets that decide which kernels a runtime picks; the fastest variant may differ where one of them does."""

RUNTIMES = ("onnxruntime", "openvino")
"""Libraries whose version decides what a served model computes."""


def processor(cpuinfo: Path = CPUINFO) -> tuple[str, tuple[str, ...]]:
    """The model name and the flags among ``NOTEWORTHY``, in that order; no flags without ``/proc/cpuinfo``."""
    try:
        text = cpuinfo.read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    fields: dict[str, str] = {}
    for line in text.splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip().lower(), value.strip())
    present = set((fields.get("flags") or fields.get("features") or "").split())
    model = fields.get("model name") or platform.processor() or "unknown processor"
    return model, tuple(flag for flag in NOTEWORTHY if flag in present)


def disagreements(provenance: Mapping[str, Any], cpuinfo: Path = CPUINFO) -> list[str]:
    """How the machine of a manifest's provenance differs from this one, one clause each; empty without provenance."""
    measured = provenance.get("hardware")
    found: list[str] = []
    if isinstance(measured, Mapping) and "flags" in measured:
        here, there = set(processor(cpuinfo)[1]), set(measured["flags"])
        if there - here:
            found.append(f"this processor lacks {', '.join(sorted(there - here))}")
        if here - there:
            found.append(f"this processor also has {', '.join(sorted(here - there))}")
    versions = provenance.get("versions")
    recorded: Mapping[str, Any] = versions if isinstance(versions, Mapping) else {}
    for name in RUNTIMES:
        here_version = installed.version(name)
        if name in recorded and here_version is not None and here_version != recorded[name]:
            found.append(f"{name} is {here_version} here and was {recorded[name]}")
    return found
