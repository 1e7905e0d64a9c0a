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
from ..sources import Kind, SourceSpec, axes, batch_axis, conversion
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
    """``packages`` are pinned. ``module`` runs in the environment and converts. ``download``: its sizes as text."""

    packages: tuple[str, ...]
    module: str
    download: str


ENVIRONMENTS: dict[str, Environment] = {
    "tensorflow": Environment(
        ("tensorflow-cpu==2.20.0", "tf2onnx==1.17.0", "numpy==2.4.6", "setuptools==80.9.0"),
        "optimize.sandbox.foreign.tensorflow",
        "334 MB to download, 1.4 GB on disk",
    ),
    "paddle": Environment(
        ("paddlepaddle==3.3.1", "paddle2onnx==2.1.0", "numpy==2.4.6", "setuptools==80.9.0"),
        "optimize.sandbox.foreign.paddle",
        "234 MB to download, 0.9 GB on disk",
    ),
}


def convert(
    kind: Kind, request: SourceSpec, data: Dataset, batch_sizes: Sequence[int], directory: Path, limits: SandboxLimits,
    interpreter: Path,
) -> Conversion:  # fmt: skip
    """Convert the source of ``request`` with ``interpreter``, in the same sandbox as other untrusted files.

    Raises BadInput, ExportFailed or LoadFailed.
    """
    rows = conversion.sample(data)
    probes = axes.probes(rows, request.axes, batch_sizes)
    # The evaluation rows follow the probes; the environment runs all of them.
    runs = [*(probe.inputs for probe in probes), *conversion.chunks(rows)]
    arrays = {f"{at}:{name}": array for at, inputs in enumerate(runs) for name, array in inputs.items()}
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
    _adjust(directory)
    found = conversion.read(directory, request.reference, rows, batch_sizes)
    if request.outputs and request.outputs != found.outputs:
        raise BadInput(f"--outputs: the model already names its outputs {', '.join(found.outputs)}; omit the option")
    extra = sorted(set(data.inputs) - set(found.inputs))
    if extra:
        raise BadInput(
            f"the data holds {extra[0]!r}, which is not an input of the model; it takes {', '.join(found.inputs)}"
        )
    return conversion.with_digest(found, request.path.name, _digest(request.path))


def _adjust(directory: Path) -> None:
    """Rename inputs of the graph as the converter asks, and free a batch axis that its file fixed.

    The proof decides whether the freed graph is right.
    """
    import onnx

    renamed = json.loads((directory / conversion.RESULT).read_text(encoding="utf-8")).get("renamed", {})
    model = onnx.load(directory / conversion.GRAPH)
    for node in model.graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
    for value in model.graph.input:
        value.name = renamed.get(value.name, value.name)
    size = batch_axis.fixed(model)
    if size is not None:
        batch_axis.free(model, size)
    if renamed or size is not None:
        onnx.save(model, directory / conversion.GRAPH)


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
            f"in {root} ({row.download}, once)"
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
