"""Isolation: a step in a process of its own with limits, so that one that crashes or eats memory loses alone."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, cast

from server.errors import SlipwayError

from ..errors import PassFailed

P = ParamSpec("P")
T = TypeVar("T")

PRELOADED = (
    "numpy",
    "onnx",
    "onnxruntime",
    "onnxruntime.quantization",
    "optimize.passes",
    "optimize.evaluation.evaluate",
)
"""Imported once, by the process that the children are forked from: it has no threads, this one has many."""

MEMINFO = Path("/proc/meminfo")
MEMORY_SHARE = 0.8
UNKNOWN_MEMORY_BYTES = 4_000_000_000

LAST_WORDS = 200
"""Characters of what a child that crashed had printed."""


@dataclass(frozen=True, slots=True)
class Limits:
    """``seconds`` on the clock, and bytes of memory that are the child's own (files that it maps do not count)."""

    seconds: float
    memory_bytes: int


def available_memory(meminfo: Path = MEMINFO) -> int:
    """Bytes that a child may take: most of what the machine has free now."""
    try:
        lines = meminfo.read_text(encoding="ascii").splitlines()
    except OSError:
        lines = []
    free = next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)
    return int(MEMORY_SHARE * free) if free else UNKNOWN_MEMORY_BYTES


def call(limits: Limits, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What ``function`` returns, worked out in a child process. Function, arguments and result must be picklable.

    Raises what the function raises if it is one of our errors, and PassFailed for all else: another exception, a
    crash, too much memory or too much time. The child is gone in every case.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(PRELOADED))
    with tempfile.TemporaryDirectory() as directory:
        printed = Path(directory) / "printed"
        ours, theirs = context.Pipe(duplex=False)
        child = context.Process(target=_child, args=(theirs, printed, limits, function, args, kwargs), daemon=True)
        child.start()
        theirs.close()
        try:
            if not ours.poll(limits.seconds):
                raise PassFailed(
                    f"it took longer than the {limits.seconds:.0f} s that were left for it: --budget allows more"
                )
            result = ours.recv()
        except EOFError as error:
            child.join()
            raise PassFailed(_cause_of_death(child.exitcode, printed, limits)) from error
        finally:
            ours.close()
            child.kill()
            child.join()
            child.close()
    if isinstance(result, BaseException):
        raise result
    return cast("T", result)


def _child(
    answer: Connection,
    printed: Path,
    limits: Limits,
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
) -> None:
    """The child's life: limits, silence, work, one answer."""
    # The parent hears of an interruption too, and ends the child.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # The tools leave files behind in the folder that they are started in.
    try:
        os.chdir(printed.parent)
        # Native code prints to the descriptors, not to sys.stderr.
        paper = os.open(printed, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    except FileNotFoundError:
        # The parent was interrupted while this process started, and has cleaned up: nobody waits for an answer.
        os._exit(1)
    os.dup2(paper, 1)
    os.dup2(paper, 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_DATA, (limits.memory_bytes, limits.memory_bytes))
    answer.send(_attempt(limits, function, args, kwargs))
    answer.close()
    # Libraries with threads of their own may hang or crash while Python takes them down; the answer is out.
    os._exit(0)


def _attempt(limits: Limits, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    try:
        return function(*args, **kwargs)
    except SlipwayError as error:
        return error.with_traceback(None)
    except MemoryError:
        return PassFailed(_too_much(limits))
    except Exception as error:  # noqa: BLE001 - whatever it is, the parent is told
        lines = str(error).strip().splitlines() or ["no reason given"]
        if "bad_alloc" in lines[0] or "allocate memory" in lines[0].lower():
            return PassFailed(_too_much(limits))
        return PassFailed(f"{type(error).__name__}: {lines[0]}")


def _too_much(limits: Limits) -> str:
    return f"it needs more memory than the {limits.memory_bytes / 1e9:.1f} GB that it may take"


def _cause_of_death(exit_code: int | None, printed: Path, limits: Limits) -> str:
    words = printed.read_text(encoding="utf-8", errors="replace").strip() if printed.exists() else ""
    if "bad_alloc" in words or "MemoryError" in words:
        return _too_much(limits)
    how = f"signal {signal.Signals(-exit_code).name}" if exit_code and exit_code < 0 else f"exit code {exit_code}"
    last = f": {' '.join(words.split())[-LAST_WORDS:]}" if words else ""
    return f"it crashed with {how}{last}"
