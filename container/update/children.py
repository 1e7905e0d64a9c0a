"""Child processes that end with the loop: after ``kill -9`` nothing of it goes on beside the loop that follows."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence
from typing import IO

from server.system.orphans import ending_with_us

from ..children import ROOT


def start(command: Sequence[str], output: IO[bytes] | int, errors: IO[bytes] | int) -> subprocess.Popen[bytes]:
    """Start a command in the present folder. It gets SIGTERM when this process ends in any way."""
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    whole = ending_with_us(command, signal.SIGTERM)
    return subprocess.Popen(whole, stdin=subprocess.DEVNULL, stdout=output, stderr=errors, env=environ)


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
