"""Confinement: a child process opens what may run code; ONNX and arrays come back from it, or one line.

It keeps accidents small and hostile files from the easy harm: limits of memory and time, no network, no commands, no
writing outside of a scratch folder, an environment without secrets. It is no wall against someone who means it, which
is why pickles need ``--allow-pickle`` besides.
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
from ..evaluation.dataset import Dataset
from ..pruning import Cut
from ..sources import Kind, Request, conversion
from ..sources.conversion import Conversion

JOB, DATA, FAILURE = "job.json", "data.npz", "failure.json"

ROOT = Path(__file__).resolve().parents[2]

ERRORS: dict[str, type[OptimizeError]] = {error.code: error for error in (BadInput, ExportFailed)}

PREFIXES = (sys.prefix, sys.base_prefix)
"""Where the child finds its libraries by itself."""

SAID_MOST = 400
"""Characters of a child's last words that are passed on."""


@dataclass(frozen=True, slots=True)
class Limits:
    """``memory_bytes`` of address space, which is more than what is resident; ``seconds`` of wall clock, of which the
    option ``time_option`` allows more."""

    memory_bytes: int = 16 * 2**30
    seconds: float = 300.0
    time_option: str = "--source-time"


@dataclass(frozen=True, slots=True)
class Retraining:
    """What the child does to a torch source before it is converted: the cut, and ``train``, a ``module:function``."""

    cut: Cut
    train: str
    seed: int


def convert(
    kind: Kind, request: Request, data: Dataset, batch_sizes: Sequence[int], directory: Path, limits: Limits,
    retraining: Retraining | None = None,
) -> Conversion:  # fmt: skip
    """Load and convert the source of ``request`` in a child process that works in ``directory``, an empty folder.

    Raises what the child reports (BadInput, ExportFailed), or LoadFailed when it crashed or went over a limit.
    """
    rows = Dataset(data.batch(min(data.rows, 2 * max(batch_sizes))), None, data.sha256)
    body = {
        "kind": kind.name,
        "source": request.reference if retraining else str(request.path.resolve()),
        "reference": request.reference,
        "outputs": request.outputs,
        "axes": [asdict(axis) for axis in request.axes],
        "allow_pickle": request.allow_pickle,
        "batch_sizes": list(batch_sizes),
        "memory_bytes": limits.memory_bytes,
        "weights": str(request.weights.resolve()) if request.weights else "",
        "retraining": asdict(retraining) if retraining else None,
    }
    (directory / JOB).write_text(json.dumps(body), encoding="utf-8")
    np.savez(directory / DATA, **dict(rows.inputs))  # type: ignore[arg-type]  # the stub mixes up arrays and allow_pickle
    # A pickle names the classes that it needs; they may be the user's own, beside where the command was given.
    # A factory is imported from wherever we found it.
    ours = [str(Path.cwd())] if request.allow_pickle or retraining else []
    found = [path for path in sys.path if path and not path.startswith(PREFIXES)] if retraining else []
    importable = [str(ROOT), *ours, *found]
    command = [sys.executable, "-m", "optimize.sandbox.child", str(directory)]
    run(command, directory, importable, request.reference, limits)
    return conversion.read(directory, request.reference, rows, batch_sizes)


def run(command: Sequence[str], directory: Path, importable: Sequence[str], reference: str, limits: Limits) -> None:
    """Run a child that keeps to the protocol of files, and end it with all that it started when its time is over.

    Raises the failure that it left, or LoadFailed with the reason of its death.
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
            _, words = child.communicate(timeout=limits.seconds)
        except subprocess.TimeoutExpired as error:
            raise LoadFailed(
                f"{reference}: loading and converting it took longer than {limits.seconds:g} s and was ended: "
                f"{limits.time_option} allows more"
            ) from error
        finally:
            # The group, because what it started must not outlive it.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
    _raise_failure(directory, reference)
    if child.returncode != 0:
        raise LoadFailed(f"{reference}: {_death(child.returncode, words, limits)}")
    if not (directory / conversion.RESULT).is_file():
        raise LoadFailed(f"{reference}: the process that loads it ended without a result")


def _environment(directory: Path, importable: Sequence[str]) -> dict[str, str]:
    """Nothing of ours but the search path: credentials are kept in environments, and homes."""
    return {
        "PATH": os.defpath,
        "HOME": str(directory),
        "TMPDIR": str(directory),
        "LANG": "C.UTF-8",
        "PYTHONPATH": os.pathsep.join(importable),
        "PYTHONDONTWRITEBYTECODE": "1",
        # A .pt2 archive holds pickles besides its graph: this makes torch read tensors and plain containers only.
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
        raise LoadFailed(f"{reference}: the process that loads it left an unreadable failure") from broken
    raise error(message)


def _death(returncode: int, words: bytes, limits: Limits) -> str:
    allowed = f"{limits.memory_bytes / 2**30:.3g} GiB are allowed, --source-memory sets it"
    number = -returncode
    if number == signal.SIGKILL:
        return f"the process that loads it was killed, most likely for its memory: {allowed}"
    last = _printable(words.decode("utf-8", "replace").strip().rsplit("\n", 1)[-1])
    if "bad_alloc" in last or "MemoryError" in last or "allocate" in last:
        return f"it needs more memory than it may have: {allowed}"
    if returncode < 0:
        return f"the process that loads it crashed ({signal.Signals(number).name}){f': {last}' if last else ''}"
    return f"the process that loads it failed: {last or f'exit code {returncode}'}"


def _printable(text: str) -> str:
    """Words from a file that may be hostile: one line, no control characters for the terminal."""
    return "".join(sign for sign in " ".join(text.split()) if sign.isprintable())[:SAID_MOST]
