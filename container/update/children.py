"""Child processes that end with the loop: after ``kill -9`` nothing of it goes on beside the loop that follows."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parents[2]
"""The folder whose modules and ``serve.py`` run; Slipway is run from its checkout."""
PR_SET_PDEATHSIG = 1
_SYSTEM = ctypes.CDLL(None, use_errno=True)


def _end_with_parent() -> None:
    _SYSTEM.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def start(command: Sequence[str], output: IO[bytes] | int, errors: IO[bytes] | int) -> subprocess.Popen[bytes]:
    """Start a command in the present folder. It gets SIGTERM when this process ends in any way."""
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=output, stderr=errors, env=environ, preexec_fn=_end_with_parent
    )


def run(command: Sequence[str]) -> tuple[int, str, str]:
    """Exit code, output and errors of a command."""
    process = start(command, subprocess.PIPE, subprocess.PIPE)
    try:
        output, errors = process.communicate()
    except BaseException:
        process.terminate()
        process.wait()
        raise
    return process.returncode, output.decode(errors="replace"), errors.decode(errors="replace")
