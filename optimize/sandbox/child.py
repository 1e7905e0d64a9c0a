"""The sandbox child: drops privileges, loads one source, and writes ONNX and arrays. The sandbox parent starts it."""

from __future__ import annotations

import ctypes
import json
import os
import resource
import sys
from pathlib import Path
from typing import Any

CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

FORBIDDEN = {
    "os.system": "run a command",
    "os.exec": "run a command",
    "os.posix_spawn": "run a command",
    "os.spawn": "run a command",
    "os.fork": "start a process",
    "os.forkpty": "start a process",
    "subprocess.Popen": "run a command",
    "socket.connect": "use the network",
    "socket.bind": "use the network",
    "socket.sendto": "use the network",
    "socket.getaddrinfo": "use the network",
    "os.kill": "signal a process",
}

COMPILED = (".pyc", ".so")
"""Suffixes of compiled code, whose own sources are hashed."""

CHANGING = frozenset(
    {"os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate", "os.chmod", "os.chown"}
)


class Refused(PermissionError):
    """The model attempted a forbidden action."""


READ: dict[str, None] = {}
"""Files that were opened for reading since the restrictions began, in order."""


def main(directory: Path) -> int:
    """Convert the job in ``directory``. Return 0, or 1 with the reason in ``failure.json``."""
    job = json.loads((directory / "job.json").read_text(encoding="utf-8"))
    restrict(directory, int(job["memory_bytes"]))
    try:
        _convert(job, directory)
    except MemoryError:
        gib = int(job["memory_bytes"]) / 2**30
        return _fail(
            directory, "", f"{job['reference']}: it needs more than {gib:.3g} GiB: --source-memory allows more"
        )
    except Exception as error:  # noqa: BLE001 - the parent reports every exception in one line
        code = str(getattr(error, "code", ""))
        words = str(error) if code else f"{job['reference']}: loading it failed with {_brief(error)}"
        return _fail(directory, code, words)
    return 0


def restrict(directory: Path, memory_bytes: int) -> None:
    """Limit memory and file sizes, drop the network, and forbid actions that loading a model does not need."""
    for limit, value in (
        (resource.RLIMIT_AS, memory_bytes),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, memory_bytes),
    ):
        hard = resource.getrlimit(limit)[1]
        resource.setrlimit(limit, (value, value) if hard == resource.RLIM_INFINITY else (min(value, hard), hard))
    libc = ctypes.CDLL(None, use_errno=True)
    # A new network namespace has no interface. Hosts may forbid it, so the hook below also refuses Python sockets.
    if libc.unshare(CLONE_NEWNET) != 0:
        libc.unshare(CLONE_NEWUSER | CLONE_NEWNET)
    home = os.path.realpath(directory)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in FORBIDDEN:
            raise Refused(f"the model tried to {FORBIDDEN[event]} while it was loaded or run")
        if event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITING:
            _inside(home, arguments[0])
        elif event == "open" and isinstance(arguments[0], str | bytes | os.PathLike):
            READ[os.path.realpath(os.fsdecode(arguments[0]))] = None
        if event in CHANGING:
            _inside(home, arguments[0])

    sys.addaudithook(hook)


def _inside(home: str, path: Any) -> None:
    if isinstance(path, str | bytes | os.PathLike):
        real = os.path.realpath(os.fsdecode(path))
        if real != os.devnull and not real.startswith(home + os.sep) and not real.startswith("/proc/self/"):
            raise Refused(f"the model tried to change {real} while it was loaded or run")


def _convert(job: dict[str, Any], directory: Path) -> None:
    # Imported after the limits are set.
    from dataclasses import replace

    from .. import sources
    from ..evaluation import dataset
    from ..sources import conversion
    from ..sources.axes import Axis

    request = sources.SourceSpec(
        reference=job["source"],
        outputs=tuple(job["outputs"]),
        axes=tuple(Axis(axis["input"], axis["position"], axis["name"]) for axis in job["axes"]),
        allow_pickle=bool(job["allow_pickle"]),
        fixed=tuple(job["fixed"]),
        arguments=job["arguments"],
        weights=Path(job["weights"]) if job["weights"] else None,
    )
    data = dataset.read(directory / "data.npz")
    if job["retraining"]:
        source = _retrained(request, data, job["retraining"], directory)
    else:
        source = sources.loader(sources.KINDS[job["kind"]])(request, data)
    result = conversion.convert(replace(source, reference=job["reference"]), data, job["batch_sizes"], directory)
    conversion.write(result, directory)


def _retrained(request: Any, data: Any, job: dict[str, Any], directory: Path) -> Any:
    from ..pruning import Cut, retrained

    already = set(READ)
    source, facts = retrained.load(request, data, Cut(**job["cut"]), str(job["train"]), int(job["seed"]))
    files = _data_files([path for path in READ if path not in already], directory)
    (directory / "pruned.json").write_text(json.dumps({**facts, "files": files}), encoding="utf-8")
    return source


def _data_files(paths: list[str], directory: Path) -> dict[str, str]:
    """Return the SHA-256 of the files that factory and training read, except files of Python and its libraries."""
    from server.artifact import digest

    own = (sys.prefix, sys.base_prefix, os.path.realpath(directory), "/proc/", "/sys/", "/dev/", "/etc/")
    return {
        path: digest(Path(path))
        for path in paths
        if not path.startswith(own) and not path.endswith(COMPILED) and os.path.isfile(path)
    }


def _fail(directory: Path, code: str, message: str) -> int:
    (directory / "failure.json").write_text(json.dumps({"code": code, "message": message}), encoding="utf-8")
    return 1


def _brief(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
