"""The lock files of the images, read."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CPU = ROOT / "container" / "requirements.txt"
GPU = ROOT / "container" / "requirements-gpu.txt"
GPU_CUDA12 = ROOT / "container" / "requirements-gpu-cuda12.txt"
BUILD = ROOT / "container" / "requirements-build.txt"
CONSTRAINTS = ROOT / "constraints.txt"


def versions(path: Path) -> dict[str, str]:
    """Name to version, of a lock file or of ``constraints.txt``; names in lower case with hyphens."""
    lines = path.read_text("utf-8").splitlines()
    pairs = (line.split(" ")[0].partition("==") for line in lines if "==" in line and line[0] not in "# ")
    return {name.lower().replace("_", "-"): version for name, _, version in pairs}
