"""One running container, or the server of this checkout as a process: start, output, signals, removal."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from server import fatal
from server.system.orphans import ending_with_us

from ..children import ROOT
from ..docker import DockerFailed, docker
from . import limits

LAST_LINES = 100
OUTPUT_END_S = 5.0
"""Seconds to wait for the last output after a process has ended."""


class DidNotStart(Exception):
    """The container could not be started, or ended before it was healthy; the message says why."""


@dataclass(frozen=True, slots=True)
class Mount:
    """A folder of this machine and where the container sees it."""

    source: Path
    target: str
    writable: bool = False


@dataclass(frozen=True, slots=True)
class Resources:
    """Limits of the container; None: no limit. ``read_only``: it may write to /tmp only."""

    memory_mib: int | None = None
    cpus: float | None = None
    read_only: bool = False


@dataclass(slots=True)
class Container:
    """A started container or process, the reader of its output, and its signals."""

    process: subprocess.Popen[bytes]
    port: int
    send: Callable[[int], None]
    """Sends a signal to the server process."""
    remove: Callable[[], None]
    """Removes the container, or kills the rest of the process group."""
    echo: IO[str] | None = None
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=LAST_LINES))
    _reader: threading.Thread | None = None

    def listen(self) -> Container:
        """Start reading the output."""
        self._reader = threading.Thread(target=self._read, name="container-output", daemon=True)
        self._reader.start()
        return self

    def _read(self) -> None:
        assert self.process.stdout is not None
        for raw in self.process.stdout:
            line = raw.decode("utf-8", "replace").rstrip()
            self.lines.append(line)
            if self.echo is not None:
                print(line, file=self.echo, flush=True)

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    def cause(self) -> str:
        """Why it ended: the fatal line of Slipway's log if there is one, else the last line of its output."""
        if self._reader is not None and not self.running:
            self._reader.join(OUTPUT_END_S)
        line = fatal.found_in("\n".join(self.lines))
        if line is not None:
            return fatal.MARK + line
        return next((line.strip() for line in reversed(self.lines) if line.strip()), "it printed nothing")

    def stop(self, grace_s: float) -> tuple[int, float]:
        """SIGTERM, then SIGKILL after ``grace_s`` seconds. Returns exit code (137 after SIGKILL) and seconds."""
        begun = time.monotonic()
        try:
            if self.running:
                self.send(signal.SIGTERM)
            try:
                code = self.process.wait(grace_s)
            except subprocess.TimeoutExpired:
                self.send(signal.SIGKILL)
                self.process.wait(OUTPUT_END_S)
                code = 128 + signal.SIGKILL
            took = time.monotonic() - begun
        finally:
            self.close()
        return (128 - code if code < 0 else code), took

    def close(self) -> None:
        """Kill and remove it at once."""
        if self.running:
            self.send(signal.SIGKILL)
            self.process.wait(OUTPUT_END_S)
        if self._reader is not None:
            self._reader.join(OUTPUT_END_S)
        if self.process.stdout is not None:
            self.process.stdout.close()
        self.remove()


def start_process(
    environ: Mapping[str, str], *, command: Sequence[str] | None = None, echo: IO[str] | None = None
) -> Container:
    """The server of this checkout, or ``command``, as a process on a free port of 127.0.0.1.

    The process gets ``environ`` and PATH, HOME, LANG and TMPDIR of this one, nothing else. It ends with the thread
    that calls this.
    """
    port = free_port()
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    given = {**kept, "PYTHONUNBUFFERED": "1", **environ, "SAGEMAKER_BIND_TO_PORT": str(port)}
    process = subprocess.Popen(
        ending_with_us(command or (sys.executable, str(ROOT / "serve.py"), "serve")),
        cwd=ROOT,
        env=given,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,  # Ctrl-C reaches this process only; the server gets SIGTERM as on the platform
    )

    def send(number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            if number == signal.SIGKILL:
                os.killpg(process.pid, number)
            else:
                os.kill(process.pid, number)

    def remove() -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # the end of a container ends its children too

    return Container(process, port, send, remove, echo).listen()


def start_container(
    image: str,
    environ: Mapping[str, str],
    mounts: Sequence[Mount] = (),
    resources: Resources = Resources(),
    *,
    label: str = "",
    echo: IO[str] | None = None,
) -> Container:
    """``docker run IMAGE serve`` with the platform's mounts and variables, on a free port of 127.0.0.1.

    ``label``: NAME=VALUE, by which :func:`labelled` finds it after this process was killed. Raises DidNotStart when
    docker refuses.
    """
    marks = ("--label", label) if label else ()
    identity = _docker("create", *marks, *create_arguments(image, environ, mounts, resources), "serve")

    def send(number: int) -> None:
        with contextlib.suppress(DockerFailed):  # it has just ended
            docker("kill", "--signal", str(int(number)), identity)

    def remove() -> None:
        with contextlib.suppress(DockerFailed):
            docker("rm", "--force", "--volumes", identity)

    process = subprocess.Popen(
        ending_with_us(["docker", "start", "--attach", identity]),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    container = Container(process, 0, send, remove, echo).listen()
    try:
        container.port = _published(identity, container)
    except DidNotStart:
        container.close()
        raise
    return container


def labelled(label: str) -> list[str]:
    """The containers with a label, running or not. Raises DockerFailed."""
    return docker("ps", "--all", "--quiet", "--filter", f"label={label}").split()


def remove_labelled(label: str) -> list[str]:
    """Kill and remove the containers with a label, and return them. Raises DockerFailed."""
    found = labelled(label)
    for identity in found:
        docker("rm", "--force", "--volumes", identity)
    return found


def create_arguments(
    image: str, environ: Mapping[str, str], mounts: Sequence[Mount], resources: Resources
) -> list[str]:
    """The arguments of ``docker create`` up to and including the image."""
    arguments = ["--pull", "never", "--publish", "127.0.0.1::8080", "--shm-size", f"{limits.SHARED_MEMORY_MIB}m"]
    for mount in mounts:
        arguments += ["--volume", f"{mount.source}:{mount.target}" + ("" if mount.writable else ":ro")]
    for name, value in environ.items():
        arguments += ["--env", f"{name}={value}"]
    if resources.memory_mib is not None:
        memory = f"{resources.memory_mib}m"
        arguments += ["--memory", memory, "--memory-swap", memory]
    if resources.cpus is not None:
        arguments += ["--cpus", f"{resources.cpus:g}"]
    if resources.read_only:
        arguments += ["--read-only", "--tmpfs", "/tmp"]  # noqa: S108 - inside of the container
    return [*arguments, image]


def _published(identity: str, container: Container) -> int:
    end = time.monotonic() + 30
    while time.monotonic() < end:
        with contextlib.suppress(DockerFailed):
            lines = docker("port", identity, "8080").splitlines()
            if lines:
                return int(lines[0].rpartition(":")[2])
        if not container.running:
            raise DidNotStart(f"the container ended at once: {container.cause()}")
        time.sleep(0.05)
    raise DidNotStart("docker published no port within 30 s")


def _docker(*arguments: str) -> str:
    try:
        return docker(*arguments)
    except DockerFailed as error:
        raise DidNotStart(f"docker {arguments[0]}: {error}") from error


def free_port() -> int:
    """A port of 127.0.0.1 without a listener."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
