"""Isolation: runs one step in a child process with limits, so that a crash or a lack of memory ends only that step."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from multiprocessing import util
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, cast

from server.errors import SlipwayError

from ..errors import PassFailed

P = ParamSpec("P")
T = TypeVar("T")

Heard = Callable[[int, int], None]
"""Called with what is done, and what there is to do."""

PRELOADED = (
    "numpy",
    "onnx",
    "onnxruntime",
    "onnxruntime.quantization",
    "optimize.passes",
    "optimize.evaluation.evaluate",
)
"""Modules that the fork server imports once. It has no threads; this process has many, so it must not fork."""

MEMINFO = Path("/proc/meminfo")
MEMORY_SHARE = 0.8
UNKNOWN_MEMORY_BYTES = 4_000_000_000

OUTPUT_TAIL = 200
"""The number of last output characters of a crashed child that its error shows."""


@dataclass(frozen=True, slots=True)
class StepLimits:
    """``seconds`` of wall-clock time, and bytes of private memory; mapped files do not count.

    Errors name ``time_option`` and ``memory_option`` as the options that raise the limits. The child works in
    ``directory``, or in a folder of its own that is deleted. ``heard`` is called here for every :func:`report` of it.
    """

    seconds: float
    memory_bytes: int
    time_option: str = "--budget"
    memory_option: str = "--memory"
    directory: Path | None = None
    heard: Heard | None = None


def available_memory(meminfo: Path = MEMINFO) -> int:
    """Return the memory limit of a child in bytes: ``MEMORY_SHARE`` of the memory that is free now."""
    try:
        lines = meminfo.read_text(encoding="ascii").splitlines()
    except OSError:
        lines = []
    free = next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)
    return int(MEMORY_SHARE * free) if free else UNKNOWN_MEMORY_BYTES


def call(limits: StepLimits, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call ``function`` in a child process and return its result. Function, arguments and result must be picklable.

    A SlipwayError of the function is raised again. PassFailed is raised for any other exception, a crash, too much
    memory or too much time. The child has ended in every case.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(PRELOADED))
    with tempfile.TemporaryDirectory() as directory:
        printed = Path(directory) / "printed"
        ours, theirs = context.Pipe(duplex=False)
        child = context.Process(
            target=_child, args=(theirs, printed, replace(limits, heard=None), function, args, kwargs), daemon=True
        )
        child.start()
        theirs.close()
        try:
            result = _result(ours, limits)
        except EOFError as error:
            child.join()
            raise PassFailed(_exit_reason(child.exitcode, printed, limits)) from error
        finally:
            ours.close()
            child.kill()
            child.join()
            child.close()
    if isinstance(result, BaseException):
        raise result
    return cast("T", result)


def report(done: int, total: int) -> None:
    """Tell the parent how much of this step is done, from any thread of the child; elsewhere nothing happens."""
    with _SENDING:
        if _ANSWER:
            _ANSWER[0].send(_Report(done, total))


@dataclass(frozen=True, slots=True)
class _Report:
    done: int
    total: int


_ANSWER: list[Connection] = []
"""The pipe to the parent, in a child that is at work."""

_SENDING = threading.Lock()


def _result(ours: Connection, limits: StepLimits) -> Any:
    """The child's result, after its reports. Raises PassFailed when the time is over, EOFError when the child ended."""
    ends_s = time.monotonic() + limits.seconds
    while ours.poll(max(0.0, ends_s - time.monotonic())):
        result = ours.recv()
        if not isinstance(result, _Report):
            return result
        if limits.heard is not None:
            limits.heard(result.done, result.total)
    raise PassFailed(f"it took longer than its limit of {limits.seconds:.0f} s: increase {limits.time_option}")


def _child(
    answer: Connection,
    printed: Path,
    limits: StepLimits,
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
) -> None:
    """The main function of the child: set limits, redirect output, call the function, send one result."""
    # The parent receives the same interrupt and ends the child.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # Some tools write files to the current folder; this one is deleted.
    try:
        os.chdir(limits.directory or printed.parent)
        # Native code prints to the descriptors, not to sys.stderr.
        output = os.open(printed, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    except FileNotFoundError:
        # The parent was interrupted while this process started and has deleted the folder.
        os._exit(1)
    os.dup2(output, 1)
    os.dup2(output, 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_DATA, (limits.memory_bytes, limits.memory_bytes))
    _ANSWER.append(answer)
    result = _attempt(limits, function, args, kwargs)
    # Semaphores that libraries made, such as the lock of a progress bar, would be reported as leaked. The parent ends
    # this process as soon as it has the result.
    util._run_finalizers()  # type: ignore[attr-defined]  # the stub omits it; there is no public way
    with _SENDING:
        _ANSWER.clear()
        answer.send(result)
    answer.close()
    # Libraries with threads may hang or crash during the shutdown of Python. The result is already sent.
    os._exit(0)


def _attempt(limits: StepLimits, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    try:
        return function(*args, **kwargs)
    except SlipwayError as error:
        return error.with_traceback(None)
    except MemoryError:
        return PassFailed(_too_much(limits))
    except Exception as error:  # noqa: BLE001 - the parent reports every exception
        lines = str(error).strip().splitlines() or ["no reason given"]
        if "bad_alloc" in lines[0] or "allocate memory" in lines[0].lower():
            return PassFailed(_too_much(limits))
        return PassFailed(f"{type(error).__name__}: {lines[0]}")


def _too_much(limits: StepLimits) -> str:
    return f"it needs more memory than its limit of {limits.memory_bytes / 1e9:.1f} GB: increase {limits.memory_option}"


def _exit_reason(exit_code: int | None, printed: Path, limits: StepLimits) -> str:
    output = printed.read_text(encoding="utf-8", errors="replace").strip() if printed.exists() else ""
    if "bad_alloc" in output or "MemoryError" in output:
        return _too_much(limits)
    how = f"signal {signal.Signals(-exit_code).name}" if exit_code and exit_code < 0 else f"exit code {exit_code}"
    last = f": {' '.join(output.split())[-OUTPUT_TAIL:]}" if output else ""
    return f"it crashed with {how}{last}"
