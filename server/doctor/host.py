"""The host check: memory, processors, writable folders, the port. ``root`` is the parent of proc, sys and dev."""

from __future__ import annotations

import errno
import http.client
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from ..errors import BadSetting
from ..settings.options import Settings, flag, variable
from ..system import cgroup
from ..system.cores import available_cores
from ..system.listening import listen
from ..system.memory import Budget
from .findings import Finding, ok, stop, warn

SERVER_BYTES = 90_000_000
"""Memory of a server without a model (RSS after start on ONNX Runtime 1.31, measured at 85 MB)."""

SMALL_SHM_BYTES = 64 << 20
"""Shared memory of docker and of hosted endpoints, where it cannot be raised."""

HEADROOM = 0.9
PING_S = 2.0
SAFE_RANGE = "SAGEMAKER_SAFE_PORT_RANGE"
BIND = "SAGEMAKER_BIND_TO_PORT"


def megabytes(count: float) -> str:
    return f"{count / 1e6:.0f} MB"


def needed_bytes(weight_bytes: int) -> int:
    """Memory in bytes at the peak of the load of models whose files have ``weight_bytes`` in all."""
    return SERVER_BYTES + (Budget.needed_bytes(weight_bytes) if weight_bytes else 0)


def memory(weight_bytes: int, root: Path) -> Finding:
    """Whether models whose files have ``weight_bytes`` in all fit into the memory of this process."""
    limit = cgroup.of(root=root).memory_limit_bytes()
    free = _free_bytes(root)
    bound = min((one for one in (limit, free) if one is not None), default=None)
    need = needed_bytes(weight_bytes)
    whose = f"limit {megabytes(limit)}" if limit is not None and limit == bound else "no limit"
    if free is not None and limit != bound:
        whose = f"{megabytes(free)} free, {'no limit' if limit is None else f'limit {megabytes(limit)}'}"
    text = f"about {megabytes(need)} needed at the peak of the load; {whose}"
    if bound is None or need <= HEADROOM * bound:
        return ok("memory", text)
    if need <= bound:
        return warn("memory", text, "requests need memory too: raise the limit, or use a smaller variant of the model")
    return stop("memory", f"not enough memory: {text}", "raise the limit, or optimize the model to a smaller variant")


def processors(settings: Settings, declared: tuple[int, int] | None, root: Path) -> Finding:
    """Whether instances times threads fit the cores. ``declared``: both from the manifest, or None."""
    cores = available_cores(root)
    instances = settings.instances or (declared[0] if declared else 1)
    fitting = max(cores // instances, 1)
    threads = settings.threads or (min(declared[1], fitting) if declared else fitting)
    seen = os.cpu_count() or cores
    where = f"{cores} of {seen} cores (affinity and quota)" if cores != seen else f"{cores} cores"
    text = f"{instances} instances x {threads} threads on {where}"
    if instances * threads > cores:
        advice = f"lower {flag('instances')} or {flag('threads')}: threads without a core slow each other down"
        return warn("cpu", text, advice)
    return ok("cpu", text)


def places(root: Path) -> Iterator[Finding]:
    """Whether temporary files can be written, and how large shared memory is."""
    try:
        with tempfile.TemporaryFile() as file:
            file.write(b"slipway")
    except OSError as error:
        yield warn("tmp", f"no temporary file can be written ({error.strerror})", "mount one: --tmpfs /tmp")
    else:
        yield ok("tmp", f"{tempfile.gettempdir()} is writable")
    try:
        state = os.statvfs(root / "dev/shm")
    except OSError:
        yield ok("shm", "no shared memory; the server needs none")
        return
    size = state.f_frsize * state.f_blocks
    if size <= SMALL_SHM_BYTES:
        yield ok("shm", f"{megabytes(size)} of shared memory: the server needs none, a script may")
    else:
        yield ok("shm", f"{megabytes(size)} of shared memory")


def port(settings: Settings, environ: Mapping[str, str]) -> Iterator[Finding]:
    """Whether the port is in the range that the platform allows, and free to listen on."""
    yield from _within_range(settings.port, environ)
    try:
        with listen(settings.host, settings.port, 1):
            yield ok("port", f"{settings.host}:{settings.port} is free")
    except BadSetting as error:
        taken = isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.EADDRINUSE
        status = _ping(settings.port) if taken else None
        if status is None:
            yield stop("port", str(error))
        else:
            text = f"{settings.port} is taken by a server whose /ping says {status}"
            yield warn("port", text, f"expected inside the serving container; else choose another {flag('port')}")


def _within_range(port: int, environ: Mapping[str, str]) -> Iterator[Finding]:
    given = environ.get(SAFE_RANGE, "")
    if not given:
        return
    ends = re.fullmatch(r"\s*(\d+)\s*-\s*(\d+)\s*", given)
    if ends is None:
        yield warn("port", f"{SAFE_RANGE}={given!r} is no range", "write two numbers with a dash, 8100-8200")
    elif not int(ends[1]) <= port <= int(ends[2]) and environ.get(BIND) != str(port):
        yield stop("port", f"{port} is outside of {SAFE_RANGE}={given}", f"set {variable('port')} to a port inside it")


def _ping(port: int) -> int | None:
    """The status of /ping on this host; None when the listener is no HTTP server."""
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=PING_S)
    try:
        client.request("GET", "/ping")
        return client.getresponse().status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        client.close()


def _free_bytes(root: Path) -> int | None:
    try:
        text = (root / "proc/meminfo").read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        return None
    found = re.search(r"^MemAvailable:\s+(\d+) kB$", text, re.MULTILINE)
    return int(found[1]) * 1024 if found else None
