"""Two nodes of a Ray cluster on this machine, each in a network namespace of its own, joined by one virtual cable.

The nodes reach each other and nothing else. All that runs in a namespace was started here, and ends with it.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
HEAD_ADDRESS, WORKER_ADDRESS = "10.213.7.1", "10.213.7.2"
DASHBOARD = f"http://{HEAD_ADDRESS}:8265"
GCS_PORT = 6379
OBJECTS_BYTES = 100_000_000
START_S = 90.0
CLONE_NEWNET = 0x40000000
LOGS = ROOT / "build" / "ray-logs"
"""Ray's logs of the newest run, for whoever looks for the cause of a failure."""
SERVER_MARK = b"end_with_parent"
"""Of the command line of a replica's server."""


@dataclass(frozen=True, slots=True)
class Node:
    """A network namespace with one address."""

    namespace: str
    address: str
    environment: Mapping[str, str]

    def start(self, command: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
        """A process in the namespace, in the root of the checkout."""
        given = ["ip", "netns", "exec", self.namespace, *command]
        return subprocess.Popen(given, cwd=ROOT, env=dict(self.environment), stdin=subprocess.DEVNULL, **options)

    def run(self, command: Sequence[str], timeout_s: float = START_S) -> str:
        """The output of a command that must succeed."""
        process = self.start(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        try:
            output = process.communicate(timeout=timeout_s)[0].decode("utf-8", "replace")
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
        assert process.returncode == 0, output
        return output

    @contextmanager
    def inside(self) -> Iterator[None]:
        """The thread in the namespace: sockets that it makes here belong to the node."""
        with open("/proc/thread-self/ns/net") as home, open(f"/run/netns/{self.namespace}") as there:
            _enter(there.fileno())
            try:
                yield
            finally:
                _enter(home.fileno())

    def processes(self) -> set[int]:
        """All processes of the namespace."""
        listed = subprocess.run(["ip", "netns", "pids", self.namespace], capture_output=True, text=True, check=False)
        return {int(one) for one in listed.stdout.split()}

    def servers(self) -> set[int]:
        """The Slipway servers of the replicas on this node."""
        return {pid for pid in self.processes() if SERVER_MARK in _command_line(pid)}

    def kill(self) -> None:
        """SIGKILL to everything on the node at once, as a machine that loses power."""
        end = time.monotonic() + START_S
        while (left := self.processes()) and time.monotonic() < end:
            for pid in left:
                _signal(pid, signal.SIGKILL)
            time.sleep(0.05)
        assert not self.processes(), "the node has ended"


def _enter(namespace: int) -> None:
    if ctypes.CDLL(None, use_errno=True).setns(namespace, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


def _command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


@dataclass(frozen=True, slots=True)
class Nodes:
    """The head of the cluster, and another node that may be lost."""

    head: Node
    worker: Node
    binaries: Path
    scratch: Path

    @property
    def python(self) -> str:
        return str(self.binaries / "python")

    def start_head(self) -> None:
        flags = [f"--port={GCS_PORT}", "--dashboard-host", HEAD_ADDRESS, "--temp-dir", str(self.scratch)]
        self._start(self.head, ["--head", *flags])

    def start_worker(self) -> None:
        self._start(self.worker, ["--address", f"{HEAD_ADDRESS}:{GCS_PORT}"])

    def _start(self, node: Node, flags: Sequence[str]) -> None:
        shared = ["--num-cpus=4", f"--object-store-memory={OBJECTS_BYTES}", "--disable-usage-stats"]
        node.run([str(self.binaries / "ray"), "start", "--node-ip-address", node.address, *flags, *shared])


@contextmanager
def two_nodes(binaries: Path, more: Mapping[str, str]) -> Iterator[Nodes]:
    """Namespaces without Ray yet. ``more``: variables of all that runs in them. Needs root."""
    names = [f"slipway-ray-{os.getpid()}-{side}" for side in "ab"]
    cables = [f"sr{os.getpid()}{side}" for side in "ab"]
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    environment = {**kept, "PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0", **more}
    head, worker = (
        Node(name, address, environment) for name, address in zip(names, (HEAD_ADDRESS, WORKER_ADDRESS), strict=True)
    )
    scratch = Path(tempfile.mkdtemp(prefix="sr-", dir="/tmp"))  # the paths of Ray's sockets are limited
    try:
        for name in names:
            _ip("netns", "add", name)
            _ip("-n", name, "link", "set", "lo", "up")
        _ip("link", "add", cables[0], "netns", names[0], "type", "veth", "peer", "name", cables[1], "netns", names[1])
        for node, cable in zip((head, worker), cables, strict=True):
            _ip("-n", node.namespace, "address", "add", f"{node.address}/24", "dev", cable)
            _ip("-n", node.namespace, "link", "set", cable, "up")
        yield Nodes(head, worker, binaries, scratch)
    finally:
        for node in (worker, head):
            node.kill()
            subprocess.run(["ip", "netns", "delete", node.namespace], check=False)
        _keep_logs(scratch / "session_latest" / "logs")
        shutil.rmtree(scratch, ignore_errors=True)


def _keep_logs(logs: Path) -> None:
    shutil.rmtree(LOGS, ignore_errors=True)
    if logs.is_dir():
        shutil.copytree(logs, LOGS, ignore_dangling_symlinks=True)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)
