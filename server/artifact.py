"""The artifact: a directory with a manifest, what ``optimize`` writes and the server reads."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from .errors import BrokenArtifact
from .tensors import ModelSpec, TensorSpec

MANIFEST = "manifest.json"
SAMPLES = "samples.npz"
SCHEMA = 1


@dataclass(frozen=True, slots=True)
class ArtifactFile:
    """One file of an artifact: its path inside it (POSIX), its size in bytes, its SHA-256 in hexadecimal."""

    path: str
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class CostPoint:
    """A measured run: ``batch_size`` rows took ``p50_us`` (median) and ``p95_us`` microseconds."""

    batch_size: int
    p50_us: float
    p95_us: float


@dataclass(frozen=True, slots=True)
class Batching:
    """How to run the model: decided by ``optimize`` from measurements, so that nobody guesses.

    ``batch_sizes`` are the sizes that were measured and are warmed up; the largest is ``max_batch_size``.
    ``threads`` are intra-op threads of one instance.
    """

    batch_sizes: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
    instances: int = 1
    threads: int = 1

    @property
    def max_batch_size(self) -> int:
        return max(self.batch_sizes)


@dataclass(frozen=True, slots=True)
class Manifest:
    """What an artifact says of itself. ``evidence`` and ``provenance`` are for people and for ``optimize verify``;
    the server only passes them on."""

    name: str
    version: str
    backend: str
    model: str
    spec: ModelSpec
    task: str = ""
    labels: tuple[str, ...] = ()
    batching: Batching | None = None
    cost: tuple[CostPoint, ...] = ()
    files: tuple[ArtifactFile, ...] = ()
    evidence: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        body: dict[str, Any] = {
            "schema": SCHEMA,
            "name": self.name,
            "version": self.version,
            "task": self.task,
            "backend": self.backend,
            "model": self.model,
            "files": [{"path": f.path, "bytes": f.bytes, "sha256": f.sha256} for f in self.files],
            "inputs": [spec.to_json() for spec in self.spec.inputs],
            "outputs": [spec.to_json() for spec in self.spec.outputs],
            "labels": list(self.labels),
            "cost": [{"batch_size": c.batch_size, "p50_us": c.p50_us, "p95_us": c.p95_us} for c in self.cost],
            "evidence": self.evidence,
            "provenance": self.provenance,
        }
        if self.batching is not None:
            body["batching"] = {
                "batch_sizes": list(self.batching.batch_sizes),
                "instances": self.batching.instances,
                "threads": self.batching.threads,
            }
        return body

    @classmethod
    def from_json(cls, body: Any) -> Manifest:
        """Raises BrokenArtifact naming the field that is missing or wrong."""
        if not isinstance(body, dict):
            raise BrokenArtifact(f"{MANIFEST} must hold one JSON object")
        if body.get("schema") != SCHEMA:
            raise BrokenArtifact(
                f"{MANIFEST} has schema {body.get('schema')!r}, this build reads {SCHEMA}: run optimize again"
            )
        try:
            return cls(
                name=str(body["name"]),
                version=str(body["version"]),
                task=str(body.get("task", "")),
                backend=str(body["backend"]),
                model=_inside(body["model"]),
                spec=ModelSpec(
                    tuple(TensorSpec.from_json(row) for row in body["inputs"]),
                    tuple(TensorSpec.from_json(row) for row in body["outputs"]),
                ),
                labels=tuple(str(label) for label in body.get("labels", ())),
                batching=_batching(body.get("batching")),
                cost=tuple(
                    CostPoint(int(row["batch_size"]), float(row["p50_us"]), float(row["p95_us"]))
                    for row in body.get("cost", ())
                ),
                files=tuple(
                    ArtifactFile(_inside(row["path"]), int(row["bytes"]), str(row["sha256"]))
                    for row in body.get("files", ())
                ),
                evidence=dict(body.get("evidence", {})),
                provenance=dict(body.get("provenance", {})),
            )
        except KeyError as error:
            raise BrokenArtifact(f"{MANIFEST} lacks the field {error.args[0]!r}") from error
        except (TypeError, ValueError) as error:
            raise BrokenArtifact(f"{MANIFEST} has a field of the wrong type: {error}") from error


@dataclass(frozen=True, slots=True)
class Artifact:
    """A manifest and the directory that it describes. ``declared`` is False where there was no manifest."""

    root: Path
    manifest: Manifest
    declared: bool = True

    @property
    def model_path(self) -> Path:
        return self.root / self.manifest.model


def read(path: Path) -> Artifact:
    """Read an artifact from its directory; digests are not looked at, see :func:`verify`.

    Raises BrokenArtifact: no such directory, no manifest, unreadable manifest, or a listed file that is not there.
    """
    manifest_path = path / MANIFEST
    try:
        text = manifest_path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise BrokenArtifact(f"no {MANIFEST} in {path}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise BrokenArtifact(f"cannot read {manifest_path}: {error}") from error
    try:
        body = json.loads(text)
    except json.JSONDecodeError as error:
        raise BrokenArtifact(f"{manifest_path} is not JSON: {error}") from error
    manifest = Manifest.from_json(body)
    for name in (manifest.model, *(row.path for row in manifest.files)):
        if not (path / name).is_file():
            raise BrokenArtifact(f"{MANIFEST} names {name}, which is not in {path}")
    return Artifact(path, manifest)


def verify(artifact: Artifact) -> None:
    """Raises BrokenArtifact when a file differs from its size or SHA-256 in the manifest."""
    for row in artifact.manifest.files:
        path = artifact.root / row.path
        size = path.stat().st_size
        if size != row.bytes:
            raise BrokenArtifact(f"{row.path} has {size} bytes, the manifest says {row.bytes}: copy it again")
        if digest(path) != row.sha256:
            raise BrokenArtifact(f"{row.path} differs from its SHA-256 in the manifest: copy it again")


def write(root: Path, manifest: Manifest) -> Artifact:
    """Write ``manifest.json`` beside the files that are already in ``root``, with their sizes and digests."""
    files = tuple(
        ArtifactFile(path.relative_to(root).as_posix(), path.stat().st_size, digest(path))
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.name != MANIFEST
    )
    complete = replace(manifest, files=files)
    partial = root / (MANIFEST + ".partial")
    partial.write_text(json.dumps(complete.to_json(), indent=2) + "\n", encoding="utf-8")
    partial.replace(root / MANIFEST)
    return Artifact(root, complete)


def digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _inside(path: Any) -> str:
    """A path that stays inside the artifact; a manifest is input, and may come from anywhere."""
    pure = PurePosixPath(str(path))
    if pure.is_absolute() or ".." in pure.parts or not pure.parts:
        raise BrokenArtifact(f"{MANIFEST} names {str(path)!r}, which is not a file inside the artifact")
    return pure.as_posix()


def _batching(row: Any) -> Batching | None:
    if row is None:
        return None
    sizes = tuple(sorted({int(size) for size in row["batch_sizes"]}))
    batching = Batching(sizes, int(row["instances"]), int(row["threads"]))
    if not sizes or sizes[0] < 1 or batching.instances < 1 or batching.threads < 1:
        raise BrokenArtifact(f"{MANIFEST} has impossible batching values: {row!r}")
    return batching
