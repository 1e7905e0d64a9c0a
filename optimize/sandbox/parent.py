"""The sandbox parent: a child process opens sources that may run code and returns ONNX and arrays, or an error.

The child has limits of memory and time, no network, no commands, no writes outside a scratch folder and no secrets in
its environment. This contains accidents and simple attacks. It does not stop a determined attacker, so pickles also
need ``--allow-pickle``.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import BadInput, ExportFailed, LoadFailed, OptimizeError
from ..evaluation import dataset
from ..evaluation.dataset import Dataset
from ..pruning import Cut
from ..sources import Kind, SourceSpec, conversion
from ..sources.conversion import Conversion

JOB, DATA, FAILURE = "job.json", "data.npz", "failure.json"

ROOT = Path(__file__).resolve().parents[2]

ERRORS: dict[str, type[OptimizeError]] = {error.code: error for error in (BadInput, ExportFailed)}

PREFIXES = (sys.prefix, sys.base_prefix)
"""Import paths that the interpreter of the child already has."""

MESSAGE_LIMIT = 400
"""The number of characters of a child's message that an error shows."""


@dataclass(frozen=True, slots=True)
class SandboxLimits:
    """``memory_bytes`` of address space, which exceeds the resident memory; ``seconds`` of wall-clock time. Errors name
    ``time_option`` as the option that raises the time limit."""

    memory_bytes: int = 16 * 2**30
    seconds: float = 300.0
    time_option: str = "--source-time"


@dataclass(frozen=True, slots=True)
class Retraining:
    """A torch source is pruned by ``cut`` and trained by ``train``, a ``module:function``, before it is converted."""

    cut: Cut
    train: str
    seed: int


def convert(
    kind: Kind, request: SourceSpec, data: Dataset, batch_sizes: Sequence[int], directory: Path, limits: SandboxLimits,
    retraining: Retraining | None = None,
) -> Conversion:  # fmt: skip
    """Load and convert the source of ``request`` in a child process that works in ``directory``, an empty folder.

    Raises the error that the child reports (BadInput, ExportFailed), or LoadFailed if it crashed or exceeded a limit.
    """
    rows = conversion.sample(data)
    body = {
        "kind": kind.name,
        "source": request.reference if retraining else str(request.path.resolve()),
        "reference": request.reference,
        "outputs": request.outputs,
        "axes": [asdict(axis) for axis in request.axes],
        "allow_pickle": request.allow_pickle,
        "fixed": request.fixed,
        "arguments": dict(request.arguments),
        "batch_sizes": list(batch_sizes),
        "memory_bytes": limits.memory_bytes,
        "weights": str(request.weights.resolve()) if request.weights else "",
        "retraining": asdict(retraining) if retraining else None,
    }
    (directory / JOB).write_text(json.dumps(body), encoding="utf-8")
    arrays = {name: dataset.storable(array) for name, array in rows.inputs.items()}
    np.savez(directory / DATA, **arrays)  # type: ignore[arg-type]  # the stub mixes up arrays and allow_pickle
    # A pickle may need classes of the user, which are imported from the current folder.
    # A factory is imported from the path on which this process found it.
    local = [str(Path.cwd())] if request.allow_pickle or retraining else []
    found = [path for path in sys.path if path and not path.startswith(PREFIXES)] if retraining else []
    importable = [str(ROOT), *local, *found]
    command = [sys.executable, "-m", "optimize.sandbox.child", str(directory)]
    run(command, directory, importable, request.reference, limits)
    return conversion.read(directory, request.reference, rows, batch_sizes)


def run(
    command: Sequence[str], directory: Path, importable: Sequence[str], reference: str, limits: SandboxLimits
) -> None:
    """Run a child that exchanges files in ``directory``; end it and its process group when its time is over.

    Raises the failure that the child wrote, or LoadFailed with the reason for its exit.
    """
    with subprocess.Popen(
        command,
        cwd=directory,
        env=_environment(directory, importable),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as child:
        try:
            _, output = child.communicate(timeout=limits.seconds)
        except subprocess.TimeoutExpired as error:
            raise LoadFailed(
                f"{reference}: loading and converting it took longer than {limits.seconds:g} s and was stopped: "
                f"increase {limits.time_option}"
            ) from error
        finally:
            # The whole group: processes that the child started must end with it.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
    _raise_failure(directory, reference)
    if child.returncode != 0:
        raise LoadFailed(f"{reference}: {_exit_reason(child.returncode, output, limits)}")
    if not (directory / conversion.RESULT).is_file():
        raise LoadFailed(f"{reference}: the process that loads it ended without a result")


def _environment(directory: Path, importable: Sequence[str]) -> dict[str, str]:
    """Return the environment of the child. It inherits nothing, because environments and homes hold credentials."""
    return {
        "PATH": os.defpath,
        "HOME": str(directory),
        "TMPDIR": str(directory),
        "LANG": "C.UTF-8",
        "PYTHONPATH": os.pathsep.join(importable),
        "PYTHONDONTWRITEBYTECODE": "1",
        # A .pt2 archive contains pickles. This makes torch read only tensors and plain containers.
        "TORCH_FORCE_WEIGHTS_ONLY_LOAD": "1",
    }


def _raise_failure(directory: Path, reference: str) -> None:
    path = directory / FAILURE
    if not path.is_file():
        return
    try:
        body: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        message = _printable(str(body["message"]))
        error = ERRORS.get(str(body["code"]), LoadFailed)
    except (ValueError, KeyError, TypeError) as broken:
        raise LoadFailed(f"{reference}: the process that loads it wrote an unreadable failure") from broken
    raise error(message)


def _exit_reason(returncode: int, output: bytes, limits: SandboxLimits) -> str:
    allowed = f"the limit is {limits.memory_bytes / 2**30:.3g} GiB, --source-memory sets it"
    number = -returncode
    if number == signal.SIGKILL:
        return f"the process that loads it was killed, probably for its memory: {allowed}"
    last = _printable(output.decode("utf-8", "replace").strip().rsplit("\n", 1)[-1])
    if "bad_alloc" in last or "MemoryError" in last or "allocate" in last:
        return f"it needs more memory than allowed: {allowed}"
    if returncode < 0:
        return f"the process that loads it crashed ({signal.Signals(number).name}){f': {last}' if last else ''}"
    return f"the process that loads it failed: {last or f'exit code {returncode}'}"


def _printable(text: str) -> str:
    """Return ``text`` on one line without control characters, because a hostile file may have written it."""
    return "".join(sign for sign in " ".join(text.split()) if sign.isprintable())[:MESSAGE_LIMIT]
