"""Commands whose process ends with the one that started it, in whatever way that ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
"""The folder whose modules and ``serve.py`` run; Slipway is run from its checkout."""
BOOTSTRAP = (
    "import os, sys; sys.path.insert(0, sys.argv[1]); "
    "from server.system.orphans import end_with_parent; end_with_parent(int(sys.argv[2]), int(sys.argv[3])); "
    "os.execvp(sys.argv[4], sys.argv[4:])"
)
"""The kernel sends the signal to the process also after ``exec`` has made it another program."""


def ending_with_us(command: Sequence[str], sent: signal.Signals = signal.SIGKILL) -> list[str]:
    """The command line of a process that becomes ``command``, and gets ``sent`` when its parent ends.

    The parent is the thread that starts it: a thread that ends early ends its children too.
    """
    return [sys.executable, "-ISc", BOOTSTRAP, str(ROOT), str(os.getpid()), str(int(sent)), *command]


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
