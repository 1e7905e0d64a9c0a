"""A cluster for tests: the opt-in, two nodes with Ray, the command that deploys to them, and load on it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import which
from typing import Any

import pytest

from tests import on_request
from tests.integration import sample_models
from tests.ray.nodes import DASHBOARD, HEAD_ADDRESS, ROOT, Nodes, two_nodes

ENVIRONMENT = "RAY_VENV"
"""Names the environment with the extras ``ray`` and ``serve``."""
SETTINGS = {
    # Replicas report their load every second, instead of every ten: the tests wait less.
    "RAY_SERVE_REPLICA_AUTOSCALING_METRIC_PUSH_INTERVAL_S": "1",
    # A proxy uses the replicas of both nodes, although one is on its own: more can be lost.
    "RAY_SERVE_PROXY_PREFER_LOCAL_NODE_ROUTING": "0",
}
COMMAND_S = 240.0


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--run-ray", action="store_true", help="run the tests that need a Ray cluster")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    on_request.skip(items, "ray", lambda: _why_not(config))


def _binaries() -> Path:
    return (ROOT / os.environ.get(ENVIRONMENT, "build/ray-venv") / "bin").absolute()


def _why_not(config: pytest.Config) -> str | None:
    # Without a default this would fail: pytest reads our option only when this folder is named on the command line.
    if not config.getoption("--run-ray", default=False):
        return "tests with a Ray cluster are asked for with: make test-ray (docs/deploy.md)"
    if not (_binaries() / "ray").exists():
        return f"there is no Ray in {_binaries()}: make test-ray installs it"
    if os.geteuid() != 0 or which("ip") is None:
        return "network namespaces need root and ip, of iproute2"
    return None


@dataclass(frozen=True, slots=True)
class Ran:
    """How a command ended and what it said."""

    code: int
    text: str
    errors: str

    @property
    def document(self) -> Any:
        return json.loads(self.text)


@dataclass(slots=True)
class Running:
    """Load that runs. ``result`` is there when it has ended."""

    process: subprocess.Popen[bytes]

    def mark(self) -> None:
        """Count the answers in ``after`` from here on."""
        assert self.process.stdin is not None
        self.process.stdin.write(b"mark\n")
        self.process.stdin.flush()

    def end(self) -> Any:
        """The result, when the least number of requests is done."""
        output, errors = self.process.communicate(timeout=COMMAND_S)
        assert self.process.returncode == 0, errors.decode()
        return json.loads(output.splitlines()[-1])


class RayCluster:
    """The cluster as its user sees it: the command of this checkout, run on the head."""

    def __init__(self, nodes: Nodes) -> None:
        self.nodes = nodes

    def deploy(self, command: str, *given: str | Path) -> Ran:
        words = [self.nodes.python, "-m", "container.deploy", command, *map(str, given)]
        flags = [] if command == "template" else ["--cluster", DASHBOARD]
        process = self.nodes.head.start(
            [*words, "--engine", "ray", *flags], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        try:
            output, errors = process.communicate(timeout=COMMAND_S)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        return Ran(process.returncode, output.decode().rstrip(), errors.decode())

    def up(self, model: Path, *flags: str) -> Ran:
        """A deployment that must succeed, with proxies on all addresses of the nodes."""
        ran = self.deploy("up", model, "--name", "digits", "--host", "0.0.0.0", *flags)
        assert ran.code == 0, ran.errors
        return ran

    def status(self) -> Any:
        ran = self.deploy("status", "digits", "--json")
        assert ran.code == 0, ran.errors
        return ran.document

    def running(self) -> list[str]:
        """The nodes of the replicas that run."""
        return sorted(one["node"] for one in self.status()["replicas"] if one["state"] == "RUNNING")

    @contextmanager
    def load(self, clients: int, least: int = 0, proxies: Sequence[str] = (HEAD_ADDRESS,)) -> Iterator[Running]:
        """Load from the head, which has begun."""
        urls = [f"http://{one}:8000/digits" for one in proxies]
        words = [self.nodes.python, "tests/ray/load.py", *urls, f"--clients={clients}", f"--least={least}"]
        given = ["ip", "netns", "exec", self.nodes.head.namespace, *words]
        pipe = subprocess.PIPE
        environment = dict(self.nodes.head.environment)
        process = subprocess.Popen(given, cwd=ROOT, env=environment, stdin=pipe, stdout=pipe, stderr=pipe)
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"begun\n"
            yield Running(process)
        finally:
            process.kill()
            process.wait()


@pytest.fixture(scope="session")
def cluster() -> Iterator[RayCluster]:
    """Ray on two nodes, for all tests of a run: it takes half a minute to start."""
    with two_nodes(_binaries(), SETTINGS) as nodes:
        nodes.start_head()
        nodes.start_worker()
        yield RayCluster(nodes)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """``models(k)``: an ONNX model that multiplies by k, so that an answer tells which one gave it."""
    folder = tmp_path_factory.mktemp("models")

    def make(factor: int) -> Path:
        path = folder / f"times-{factor}"
        if not path.exists():
            sample_models.variable_width(path / "model.onnx", factor)
        return path

    return make
