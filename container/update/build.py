"""The artifact of a candidate: made by ``optimize``, or the model as it was trained."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

from .. import children
from .errors import StepFailed
from .settings import Settings
from .watch import digest

MOST_OUTPUT = 4_000


def build(settings: Settings, source: Path, version: str) -> dict[str, Any]:
    """Make the artifact of a version, unless it is there already. Returns evidence. Raises StepFailed."""
    target = settings.artifact(version)
    evidence: dict[str, Any] = {"version": version, "artifact": str(target)}
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        if settings.optimize:
            evidence["output"] = _optimize(settings, source, version, target)
        else:
            _copy(source, target)
    manifest = target / "manifest.json"
    if manifest.is_file():
        document = json.loads(manifest.read_text(encoding="utf-8"))
        evidence["backend"] = document.get("backend")
        evidence["candidate"] = (document.get("evidence") or {}).get("chosen")
    return {**evidence, "digest": digest(target), "optimized": bool(settings.optimize)}


def _optimize(settings: Settings, source: Path, version: str, target: Path) -> str:
    """Run the search, which writes the artifact at once or not at all. Returns the end of its output."""
    command = [sys.executable, "-m", "optimize", str(source.resolve()), *settings.optimize]
    command += ["--output", str(target.resolve()), "--name", settings.name, "--version", version]
    command += ["--work", str((Path(settings.work) / "search").resolve())]
    code, output, errors = children.run(command)
    if code:
        lines = [line for line in errors.splitlines() if line.strip()]
        raise StepFailed(f"optimize ended with {code}: {lines[-1][:300] if lines else 'no reason given'}")
    return output[-MOST_OUTPUT:]


def _copy(source: Path, target: Path) -> None:
    """Copy a model under a hidden name and rename it, so that a copy that was interrupted is made again."""
    part = target.with_name(f".{target.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        if source.is_dir():
            shutil.copytree(source, part)
        else:
            part.mkdir()
            shutil.copy2(source, part / ("model.onnx" if source.suffix == ".onnx" else source.name))
    except OSError as error:
        raise StepFailed(f"{source.name} cannot be copied: {error}") from error
    part.rename(target)
