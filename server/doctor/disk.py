"""The model check: files exist and are readable, the manifest is valid, digests match, the backend is installed."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from .. import fatal
from ..artifact import Artifact
from ..backends import BACKENDS
from ..models import repository
from ..models.repository import Found
from ..settings.options import Settings
from ..system.memory import file_bytes
from .findings import Finding, ok, stop

PACKAGES = {"onnxruntime": "onnxruntime", "openvino": "openvino", "tokenizer": "tokenizers", "image": "PIL"}
"""The package that a backend needs."""


@dataclass(frozen=True, slots=True)
class OnDisk:
    """The artifacts that would be loaded."""

    artifacts: tuple[Artifact, ...]

    @property
    def bytes(self) -> int:
        return sum(file_bytes(one) for one in self.artifacts)

    @property
    def batching(self) -> tuple[int, int] | None:
        """Instances and threads that the first manifest declares."""
        declared = self.artifacts[0].manifest.batching if self.artifacts else None
        return None if declared is None else (declared.instances, declared.threads)


def examine(settings: Settings) -> tuple[OnDisk, list[Finding]]:
    """The artifacts that the server would load, found by its own code, and the error with which it would stop."""
    if settings.multi_model:
        return OnDisk(()), [ok("model", "none at start: POST /models loads them")]
    path = Path(settings.model)
    unreadable = next(_unreadable(path), None)
    if unreadable is not None:
        user = os.geteuid()
        text = f"user {user} cannot read {unreadable}"
        return OnDisk(()), [stop("model", text, "chmod -R a+rX the model's folder, or run as its owner (--user)")]
    try:
        found = _highest(repository.scan(path, settings), settings.keep_versions)
        artifacts = tuple(repository.open_found(one, settings) for one in found)
    except Exception as error:  # noqa: BLE001 - any error that ends the start is a finding
        return OnDisk(()), [stop("model", fatal.cause(error))]
    disk = OnDisk(artifacts)
    return disk, [_described(one, settings.verify_digests) for one in artifacts]


def _highest(found: Sequence[Found], keep_versions: int) -> list[Found]:
    """The highest ``keep_versions`` versions of each model, which are loaded at start. 0: all."""
    by_name: dict[str, list[Found]] = {}
    for one in found:
        by_name.setdefault(one.name, []).append(one)
    return [one for versions in by_name.values() for one in versions[-keep_versions:]]


def _described(artifact: Artifact, verified: bool) -> Finding:
    manifest = artifact.manifest
    what = f"{manifest.name} version {manifest.version}"
    if artifact.script is not None:
        return ok("model", f"{what} at {artifact.root}: the script {artifact.script.name}")
    steps = manifest.pipeline.steps if manifest.pipeline is not None else ()
    used = [step.backend for step in steps if step.backend] if steps else [manifest.backend]
    for backend in used:
        if backend not in BACKENDS:
            have = ", ".join(sorted(BACKENDS))
            return stop("model", f"unknown backend {backend!r}; this build has {have}")
        package = PACKAGES.get(backend)
        if package is not None and importlib.util.find_spec(package) is None:
            return stop(
                "model", f"backend {backend!r} needs the package {package}, which is not installed", "install it"
            )
    proof = f"{len(manifest.files)} files" + (" as the manifest says" if verified else ", digests not compared")
    proof = proof if artifact.declared else "no manifest"
    return ok("model", f"{what} at {artifact.root}: {manifest.backend}, {proof}")


def _unreadable(path: Path) -> Iterator[Path]:
    """Files and folders that this user may not read, parent folders included."""
    for parent in reversed(path.absolute().parents):
        if parent.exists() and not os.access(parent, os.X_OK):
            yield parent
            return
    if path.is_dir():
        if not os.access(path, os.R_OK | os.X_OK):
            yield path
            return
        for folder, folders, files in os.walk(path):
            here = Path(folder)
            yield from (here / name for name in folders if not os.access(here / name, os.R_OK | os.X_OK))
            yield from (here / name for name in files if not os.access(here / name, os.R_OK))
    elif path.is_file() and not os.access(path, os.R_OK):
        yield path
