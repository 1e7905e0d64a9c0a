"""The artifact: a directory with a manifest, written by ``optimize`` and read by the server.

Longer than other files: the manifest's fields, their reading and their checks stand together.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from .declaration import NOTHING, Declaration
from .errors import BrokenArtifact
from .fields import MANIFEST as MANIFEST
from .fields import each, take
from .target import ClosedShapes, DeviceTarget
from .temporary_folder import TemporaryFolder
from .tensors import ModelSpec, TensorSpec
from .wiring import PIPELINE, Pipeline

SAMPLES = "samples.npz"
SCRIPT = "script"
"""The backend of a model that consists of a user's script and the files that it loads."""
SCHEMA = 1
STEPS = "pipeline"
"""The backend of a pipeline: its ``model`` is the file that declares the steps."""
USUAL_LENGTHS = (16, 32, 64, 128, 256, 512)
USUAL_BATCH_SIZES = (1, 2, 4, 8, 16, 32)


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
    """How to run the model, decided by ``optimize`` from measurements.

    ``batch_sizes`` are the sizes that were measured and are warmed up; the largest is ``max_batch_size``.
    ``threads`` are intra-op threads of one instance. ``independent``: whether rows of several requests may share a run,
    as shown by ``optimize`` (None: the server shows it at load), and the ``reason`` where they may not.
    """

    batch_sizes: tuple[int, ...] = USUAL_BATCH_SIZES
    instances: int = 1
    threads: int = 1
    independent: bool | None = None
    reason: str = ""

    @property
    def max_batch_size(self) -> int:
        return max(self.batch_sizes)


@dataclass(frozen=True, slots=True)
class VariableAxis:
    """An axis of varying length, such as that of a text, that may be padded so that requests can share a run.

    ``inputs``: name to (axis, fill value), ``outputs``: name to axis, both counted with the batch axis; what padding
    added is cut off the outputs again. ``sizes``: the lengths that costs are measured and learnt for, by size.

    Declaring it is a promise that the model's answer does not depend on the padding, as with an attention mask that is
    filled with 0.
    """

    inputs: dict[str, tuple[int, float]]
    outputs: dict[str, int] = field(default_factory=dict)
    sizes: tuple[int, ...] = USUAL_LENGTHS

    def to_json(self) -> dict[str, Any]:
        return {
            "inputs": {name: {"axis": axis, "value": value} for name, (axis, value) in self.inputs.items()},
            "outputs": self.outputs,
            "sizes": list(self.sizes),
        }

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> VariableAxis:
        """Raises BrokenArtifact naming the field that is wrong."""
        inputs, outputs = take(row, "inputs", dict), take(row, "outputs", dict, {})
        filled = {name: take(inputs, name, dict) for name in inputs}
        if not filled:
            raise BrokenArtifact(f"{MANIFEST}: the 'inputs' of 'padding' must not be empty")
        return cls(
            {
                name: (take(one, "axis", int, least=1), take(one, "value", float, 0.0, least=-(1 << 62)))
                for name, one in filled.items()
            },
            {name: take(outputs, name, int, least=1) for name in outputs},
            tuple(sorted(set(each(row, "sizes", int, list(USUAL_LENGTHS), least=1)))),
        )


@dataclass(frozen=True, slots=True)
class Manifest:
    """The description of an artifact. ``evidence`` and ``provenance`` are for people and for ``optimize verify``; the
    server only passes them on.

    ``device``: what the model was made for. ``shapes``: the closed shapes that it runs in; None: any shape.
    """

    name: str
    version: str
    backend: str
    model: str
    spec: ModelSpec
    task: str = ""
    labels: tuple[str, ...] = ()
    batching: Batching | None = None
    padding: VariableAxis | None = None
    cost: tuple[CostPoint, ...] = ()
    files: tuple[ArtifactFile, ...] = ()
    evidence: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    pipeline: Pipeline | None = None
    device: DeviceTarget = field(default_factory=DeviceTarget)
    shapes: ClosedShapes | None = None

    @property
    def optimized(self) -> bool:
        """Whether the model file holds the backend's optimized graph, for one kind of processor."""
        return self.provenance.get("prepacked") is True

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
            if self.batching.independent is not None:
                body["batching"] |= {"independent": self.batching.independent, "reason": self.batching.reason}
        if self.padding is not None:
            body["padding"] = self.padding.to_json()
        if self.device != DeviceTarget():
            body["device"] = self.device.to_json()
        if self.shapes is not None:
            body["shapes"] = self.shapes.to_json()
        if self.pipeline is not None and self.model == MANIFEST:
            body["pipeline"] = self.pipeline.to_json()
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
        steps = Pipeline.from_json(body["pipeline"], f"{MANIFEST}: 'pipeline'") if "pipeline" in body else None
        composed = steps is not None or body.get("backend") == STEPS
        return cls(
            name=take(body, "name", str),
            version=take(body, "version", str),
            task=take(body, "task", str, ""),
            backend=take(body, "backend", str, STEPS if composed else None),
            model=_inside(take(body, "model", str, (MANIFEST if steps else PIPELINE) if composed else None)),
            spec=ModelSpec(
                tuple(TensorSpec.from_json(row) for row in each(body, "inputs", dict, [] if composed else None)),
                tuple(TensorSpec.from_json(row) for row in each(body, "outputs", dict, [] if composed else None)),
            ),
            labels=tuple(each(body, "labels", str, [])),
            batching=None if body.get("batching") is None else _batching(take(body, "batching", dict)),
            padding=None if body.get("padding") is None else VariableAxis.from_json(take(body, "padding", dict)),
            cost=tuple(_cost(row) for row in each(body, "cost", dict, [])),
            files=tuple(_file(row) for row in each(body, "files", dict, [])),
            evidence=take(body, "evidence", dict, {}),
            provenance=take(body, "provenance", dict, {}),
            pipeline=steps,
            device=DeviceTarget.from_json(take(body, "device", dict, DeviceTarget().to_json())),
            shapes=None if body.get("shapes") is None else ClosedShapes.from_json(take(body, "shapes", dict)),
        )


@dataclass(frozen=True, slots=True)
class Overrides:
    """What a load call changes for one model, above settings and manifest. None: nothing.

    ``max_batch_size`` 0: one request a run, as it is.
    """

    max_batch_size: int | None = None
    instances: int | None = None
    max_queue_delay_us: int | None = None


NO_OVERRIDES = Overrides()


@dataclass(frozen=True, slots=True)
class Artifact:
    """A manifest and the directory that it describes. ``declared`` is False where there was no manifest.

    ``script``: path of the user's script that serves the model, or None. ``declaration``: what the files of another
    server beside the model say. ``temporary``: the folder of an extracted archive or of sent files, which is removed
    after use. ``overrides``: what the load call says.
    """

    root: Path
    manifest: Manifest
    declared: bool = True
    script: Path | None = None
    declaration: Declaration = NOTHING
    temporary: TemporaryFolder | None = None
    overrides: Overrides = NO_OVERRIDES

    @property
    def model_path(self) -> Path:
        return self.root / self.manifest.model


def read(path: Path) -> Artifact:
    """Read an artifact from its directory. Digests are compared by :func:`verify`.

    Raises BrokenArtifact: no such directory, no manifest, unreadable manifest, or a listed file that is not there.
    """
    manifest = Manifest.from_json(_document(path, MANIFEST))
    for name in (manifest.model, *(row.path for row in manifest.files)):
        if not (path / name).is_file():
            raise BrokenArtifact(f"{MANIFEST} names {name}, which is not in {path.name}")
    if manifest.backend == STEPS and manifest.pipeline is None:
        declared = Pipeline.from_json(_document(path, manifest.model), manifest.model)
        manifest = replace(manifest, pipeline=declared)
    return Artifact(path, manifest)


def read_pipeline(path: Path) -> Artifact:
    """A directory whose only description is a ``pipeline.json``, named after the directory where that names nothing.

    Raises BrokenArtifact when the file cannot be read, or is wrong.
    """
    return of_pipeline(path, Pipeline.from_json(_document(path, PIPELINE)), PIPELINE)


def of_pipeline(path: Path, declared: Pipeline, file: str, labels: tuple[str, ...] = ()) -> Artifact:
    """The artifact of a directory that a ``file`` in it describes as this pipeline."""
    name, version = declared.name or path.resolve().name, declared.version or "1"
    spec = ModelSpec((), ())
    bare = Manifest(name, version, STEPS, file, spec, task=declared.task, labels=labels, pipeline=declared)
    return Artifact(path, bare, declared=False)


def verify(artifact: Artifact) -> None:
    """Raises BrokenArtifact when a file cannot be read, or differs from its size or SHA-256 in the manifest."""
    for row in artifact.manifest.files:
        path = artifact.root / row.path
        try:
            size, sha256 = path.stat().st_size, digest(path)
        except OSError as error:
            raise BrokenArtifact(f"cannot read {row.path}: {error.strerror}") from error
        if size != row.bytes:
            raise BrokenArtifact(f"{row.path} has {size} bytes, the manifest says {row.bytes}: copy it again")
        if sha256 != row.sha256:
            raise BrokenArtifact(f"{row.path} differs from its SHA-256 in the manifest: copy it again")


def write(root: Path, manifest: Manifest) -> Artifact:
    """Write ``manifest.json`` beside the files that are already in ``root``, with their sizes and digests."""
    final, partial = root / MANIFEST, root / (MANIFEST + ".partial")
    files = tuple(
        ArtifactFile(path.relative_to(root).as_posix(), path.stat().st_size, digest(path))
        for path in sorted(root.rglob("*"))
        if path.is_file() and path not in (final, partial)
    )
    complete = replace(manifest, files=files)
    partial.write_text(json.dumps(complete.to_json(), indent=2) + "\n", encoding="utf-8")
    partial.replace(final)
    return Artifact(root, complete)


def digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _document(path: Path, name: str) -> Any:
    """A JSON file of an artifact."""
    try:
        text = (path / name).read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise BrokenArtifact(f"no {name} in {path.name}") from error
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise BrokenArtifact(f"cannot read {name}: {reason}") from error
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BrokenArtifact(f"{name} is not JSON: {error}") from error


def _inside(path: str) -> str:
    """A path that stays inside the artifact. A manifest is untrusted input."""
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts or not pure.parts:
        raise BrokenArtifact(f"{MANIFEST} names {path!r}, which is not a file inside the artifact")
    return pure.as_posix()


def _batching(row: dict[str, Any]) -> Batching:
    sizes = tuple(sorted(set(each(row, "batch_sizes", int, least=1))))
    if not sizes:
        raise BrokenArtifact(f"{MANIFEST}: 'batch_sizes' must not be empty")
    independent = row.get("independent")
    if independent not in (None, True, False):
        raise BrokenArtifact(f"{MANIFEST}: 'independent' must be true or false, got {repr(independent)[:80]}")
    return Batching(
        sizes,
        take(row, "instances", int, least=1),
        take(row, "threads", int, least=1),
        independent,
        take(row, "reason", str, ""),
    )


def _cost(row: dict[str, Any]) -> CostPoint:
    return CostPoint(take(row, "batch_size", int, least=1), take(row, "p50_us", float), take(row, "p95_us", float))


def _file(row: dict[str, Any]) -> ArtifactFile:
    return ArtifactFile(_inside(take(row, "path", str)), take(row, "bytes", int), take(row, "sha256", str))
