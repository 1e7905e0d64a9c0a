"""Isolated environments: one virtual environment per framework whose dependencies conflict with ours."""

from __future__ import annotations

import hashlib
import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from server.artifact import digest

from ..errors import BadInput, LoadFailed
from ..evaluation.dataset import Dataset
from ..sources import Kind, SourceSpec, axes, conversion
from ..sources.conversion import Conversion
from . import parent
from .parent import SandboxLimits

OPSET = 18
"""The opset that all of these converters write."""

COMPLETE = "complete"

Run = Callable[[Sequence[str]], None]
"""Runs a command. Raises LoadFailed with the last output line if the command fails."""


@dataclass(frozen=True, slots=True)
class Environment:
    """``packages`` are pinned. ``module`` runs in the environment and converts. ``download`` is the size as text."""

    packages: tuple[str, ...]
    module: str
    download: str


ENVIRONMENTS: dict[str, Environment] = {
    "tensorflow": Environment(
        ("tensorflow-cpu==2.20.0", "tf2onnx==1.17.0", "numpy==2.4.6", "setuptools==80.9.0"),
        "optimize.sandbox.foreign.tensorflow",
        "about 300 MB",
    ),
    "paddle": Environment(
        ("paddlepaddle==3.3.1", "paddle2onnx==2.1.0", "numpy==2.4.6", "setuptools==80.9.0"),
        "optimize.sandbox.foreign.paddle",
        "about 250 MB",
    ),
}


def convert(
    kind: Kind, request: SourceSpec, data: Dataset, batch_sizes: Sequence[int], directory: Path, limits: SandboxLimits,
    interpreter: Path,
) -> Conversion:  # fmt: skip
    """Convert the source of ``request`` with ``interpreter``, in the same sandbox as other untrusted files.

    Raises BadInput, ExportFailed or LoadFailed.
    """
    rows = Dataset(data.batch(min(data.rows, 2 * max(batch_sizes))), None, data.sha256)
    probes = axes.probes(rows, request.axes, batch_sizes)
    arrays = {f"{at}:{name}": array for at, probe in enumerate(probes) for name, array in probe.inputs.items()}
    np.savez(directory / "probes.npz", **arrays)  # type: ignore[arg-type]  # the stub mixes up arrays and allow_pickle
    body = {
        "source": str(request.path.resolve()),
        "reference": request.reference,
        "axes": [asdict(axis) for axis in request.axes],
        "memory_bytes": limits.memory_bytes,
        "opset": OPSET,
    }
    (directory / parent.JOB).write_text(json.dumps(body), encoding="utf-8")
    command = [str(interpreter), "-m", ENVIRONMENTS[kind.environment].module, str(directory)]
    parent.run(command, directory, [str(parent.ROOT)], request.reference, limits)
    found = conversion.read(directory, request.reference, rows, batch_sizes)
    if request.outputs and request.outputs != found.outputs:
        raise BadInput(f"--outputs: the model already names its outputs {', '.join(found.outputs)}; omit the option")
    extra = sorted(set(data.inputs) - set(found.inputs))
    if extra:
        raise BadInput(
            f"the data holds {extra[0]!r}, which is not an input of the model; it takes {', '.join(found.inputs)}"
        )
    return conversion.with_digest(found, request.path.name, _digest(request.path))


def interpreter(name: str, home: Path, run: Run, *, create: bool) -> Path:
    """Return the interpreter of the environment below ``home``. Create a missing environment if ``create`` is set.

    Raises BadInput if it is missing and ``create`` is not set, LoadFailed if creating it fails.
    """
    row = ENVIRONMENTS[name]
    key = hashlib.sha256("\n".join((sys.version, *row.packages)).encode()).hexdigest()[:12]
    root = home / f"{name}-{key}"
    python = root / "bin" / "python"
    if (root / COMPLETE).is_file():
        return python
    if not create:
        raise BadInput(
            f"this model needs {' and '.join(row.packages[:2])} in an isolated environment: --isolated creates it "
            f"in {root} ({row.download} to download, once)"
        )
    shutil.rmtree(root, ignore_errors=True)
    root.parent.mkdir(parents=True, exist_ok=True)
    try:
        run([sys.executable, "-m", "venv", str(root)])
        run(
            [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", *row.packages]
        )
    except BaseException:
        shutil.rmtree(root, ignore_errors=True)
        raise
    (root / COMPLETE).write_text("\n".join(row.packages) + "\n", encoding="utf-8")
    return python


def run_command(command: Sequence[str]) -> None:
    """Run ``command``. Raises LoadFailed with its last output line, the command and a remedy."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = (done.stderr.strip() or done.stdout.strip() or "no reason given").rsplit("\n", 1)[-1]
        raise LoadFailed(
            f"creating the environment failed and nothing was kept: {last} (in: {shlex.join(command)}). Fix the cause, "
            "often the access to the package index, and run the same command again"
        )


def _digest(path: Path) -> str:
    """Return the SHA-256 of a file, or of the relative names and digests of the files of a folder."""
    if path.is_file():
        return digest(path)
    listed = [
        f"{file.relative_to(path).as_posix()} {digest(file)}" for file in sorted(path.rglob("*")) if file.is_file()
    ]
    return hashlib.sha256("\n".join(listed).encode()).hexdigest()
