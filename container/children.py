"""The folder of our modules, and commands that import them."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from server.system.orphans import ending_with_us

ROOT = Path(__file__).resolve().parents[1]
"""The folder whose modules and ``serve.py`` run; Slipway is run from its checkout."""


def run(command: Sequence[str]) -> tuple[int, str, str]:
    """Exit code, output and errors of a command that imports our modules. It gets SIGTERM when this process ends."""
    process = subprocess.Popen(
        ending_with_us(command, signal.SIGTERM),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    try:
        output, errors = process.communicate()
    except BaseException:
        process.terminate()
        process.wait()
        raise
    return process.returncode, output.decode(errors="replace"), errors.decode(errors="replace")
