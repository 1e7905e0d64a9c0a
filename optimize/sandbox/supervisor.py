"""The supervisor: runs a command in a forked process, so that a crash of native code ends in one line.

The fork happens before any library with threads is imported. The command's own children and files are cleaned up.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

CRASHED = 1

SHORT, MOST_PATH_BYTES = "/tmp", 60  # noqa: S108 - a folder that only we can open is made in it

FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def supervise(command: Callable[[], int], leftovers: Callable[[int], list[Path]]) -> int:
    """Run ``command`` in a forked process and return its exit code.

    After a crash, print one line with the signal, delete the paths that ``leftovers`` returns for the process id, and
    return ``CRASHED``. Interrupts and terminations are forwarded. The child has its own process
    group, so that an interrupt from the terminal reaches it once.
    """
    with _scratch() as scratch:
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)  # until they can be forwarded
        child = os.fork()
        if child == 0:
            os.setpgid(0, 0)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            _run(command, scratch)
        with _forwarded(child):
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            _, status = os.waitpid(child, 0)
    if not os.WIFSIGNALED(status):
        return os.waitstatus_to_exitcode(status)
    for path in leftovers(child):
        shutil.rmtree(path, ignore_errors=True)
    name = signal.Signals(os.WTERMSIG(status)).name
    reason = ", probably for lack of memory" if name == "SIGKILL" else ""
    sys.stderr.write(
        f"error: the command was ended by {name}{reason}: nothing was written. The last line above names the step; "
        "--candidates and --portable leave steps out\n"
    )
    return CRASHED


@contextmanager
def _scratch() -> Iterator[str]:
    """A temporary folder, by a path that leaves room for the names of Unix sockets below it.

    The paths of such sockets have at most 107 bytes. Libraries make them in the temporary folder: multiprocessing does.
    """
    with tempfile.TemporaryDirectory(prefix="slipway-") as scratch:
        if len(os.fsencode(scratch)) <= MOST_PATH_BYTES:
            yield scratch
            return
        with tempfile.TemporaryDirectory(prefix="slipway-", dir=SHORT) as short:
            link = Path(short) / "t"
            link.symlink_to(scratch)
            yield str(link)


def _run(command: Callable[[], int], scratch: str) -> None:
    """Run ``command`` in the child with ``scratch`` as its temporary folder, and end the process."""
    os.environ["TMPDIR"] = tempfile.tempdir = scratch
    code = CRASHED
    try:
        code = command()
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        # The process of the children that multiprocessing keeps would otherwise be waited for twice.
        os._exit(code)


@contextmanager
def _forwarded(child: int) -> Iterator[None]:
    """Forward ``FORWARDED`` signals to ``child``."""

    def forward(number: int, _: FrameType | None) -> None:
        os.kill(child, number)

    before = {number: signal.signal(number, forward) for number in FORWARDED}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
