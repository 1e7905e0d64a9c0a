"""Isolated environments: a virtual environment for each framework whose dependencies cannot live beside ours."""

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
from ..sources import Kind, Request, axes, conversion
from ..sources.conversion import Conversion
from . import parent as confinement
from .parent import Limits

OPSET = 18
"""What all of these converters write."""

COMPLETE = "complete"

Run = Callable[[Sequence[str]], None]
"""Runs a command. Raises LoadFailed with its last line when it fails."""


@dataclass(frozen=True, slots=True)
class Environment:
    """``packages`` are pinned; ``module`` converts under the environment's interpreter; ``download`` is for people."""

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
    kind: Kind, request: Request, data: Dataset, batch_sizes: Sequence[int], directory: Path, limits: Limits,
    interpreter: Path,
) -> Conversion:  # fmt: skip
    """Convert the source of ``request`` under ``interpreter``, confined like any other file that is not trusted.

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
    (directory / confinement.JOB).write_text(json.dumps(body), encoding="utf-8")
    command = [str(interpreter), "-m", ENVIRONMENTS[kind.environment].module, str(directory)]
    confinement.run(command, directory, [str(confinement.ROOT)], request.reference, limits)
    found = conversion.read(directory, request.reference, rows, batch_sizes)
    if request.outputs and request.outputs != found.outputs:
        raise BadInput(f"--outputs: the model names its own, {', '.join(found.outputs)}; they are not changed")
    extra = sorted(set(data.inputs) - set(found.inputs))
    if extra:
        raise BadInput(
            f"the data holds {extra[0]!r}, which is no input of the model; it takes {', '.join(found.inputs)}"
        )
    return conversion.with_digest(found, request.path.name, _digest(request.path))


def interpreter(name: str, home: Path, run: Run, *, create: bool) -> Path:
    """The interpreter of the environment below ``home``; made first where it is not there and ``create`` allows it.

    Raises BadInput when it would have to be made, LoadFailed when that fails.
    """
    row = ENVIRONMENTS[name]
    key = hashlib.sha256("\n".join((sys.version, *row.packages)).encode()).hexdigest()[:12]
    root = home / f"{name}-{key}"
    python = root / "bin" / "python"
    if (root / COMPLETE).is_file():
        return python
    if not create:
        raise BadInput(
            f"this model is converted by {' and '.join(row.packages[:2])} in an environment of its own: --isolated "
            f"creates it in {root} ({row.download} to download, once)"
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
    """Raises LoadFailed with the last line of what a failing command said, the command, and what to do."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = (done.stderr.strip() or done.stdout.strip() or "no reason given").rsplit("\n", 1)[-1]
        raise LoadFailed(
            f"the environment could not be made, nothing of it was kept: {last} (in: {shlex.join(command)}). Mend what "
            "it names, most often the way to the package index, and give the same command again"
        )


def _digest(path: Path) -> str:
    """Of a file, or of a folder: over the relative names and digests of its files."""
    if path.is_file():
        return digest(path)
    listed = [
        f"{file.relative_to(path).as_posix()} {digest(file)}" for file in sorted(path.rglob("*")) if file.is_file()
    ]
    return hashlib.sha256("\n".join(listed).encode()).hexdigest()
