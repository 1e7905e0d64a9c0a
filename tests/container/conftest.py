"""Containers for tests: the opt-in, the image, a model, and a started container that is always removed."""

from __future__ import annotations

import http.client
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from container import image as images
from container.docker import DockerFailed, docker, has_image, unreachable_reason
from tests import on_request

BUILT = "CONTAINER_TEST_IMAGE"
"""Names an image that exists already. No SLIPWAY_ variable: the server refuses those that it does not know."""

MODEL = "/opt/ml/model"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--run-container", action="store_true", help="run the tests that need a docker engine")
    parser.addoption("--run-sdk", action="store_true", help="and those that need the SageMaker SDK (1.3 GB to install)")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    on_request.skip(items, "container", lambda: _why_not(config))


def _why_not(config: pytest.Config) -> str | None:
    # Without a default this would fail: pytest reads our option only when this folder is named on the command line.
    if not config.getoption("--run-container", default=False):
        return "container tests are asked for with: make test-container (docs/container.md)"
    reason = unreachable_reason()
    if reason is None and BUILT not in os.environ and not has_image(images.BASE_IMAGE):
        reason = f"the base image {images.BASE_IMAGE} is not on this machine, and tests pull nothing"
    return reason


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP answer; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Container:
    """A container that was started detached, seen from outside."""

    def __init__(self, identity: str, port: int) -> None:
        self.identity = identity
        self._inner_port = port

    def inspect(self, template: str) -> str:
        return docker("inspect", "--format", template, self.identity)

    def logs(self) -> str:
        """Everything printed so far, both streams."""
        return docker("logs", self.identity, with_stderr=True)

    def execute(self, *command: str) -> str:
        return docker("exec", self.identity, *command)

    def healthy(self) -> bool:
        """What the image's own health check says, asked now."""
        try:
            self.execute("python", "-I", "-S", "/opt/slipway/healthcheck.py")
        except DockerFailed:
            return False
        return True

    def connect(self) -> http.client.HTTPConnection:
        published = docker("port", self.identity, str(self._inner_port)).splitlines()[0]
        host, _, port = published.rpartition(":")
        return http.client.HTTPConnection(host, int(port), timeout=10)

    def request(
        self, method: str, path: str, document: Any = None, connection: http.client.HTTPConnection | None = None
    ) -> Reply:
        """One request, on a connection of its own unless one is given."""
        used = connection or self.connect()
        body = None if document is None else json.dumps(document)
        used.request(method, path, body, {} if body is None else {"Content-Type": "application/json"})
        reply = self.read(used)
        if connection is None:
            used.close()
        return reply

    @staticmethod
    def read(connection: http.client.HTTPConnection) -> Reply:
        """The answer to a request that was sent on this connection."""
        answer = connection.getresponse()
        return Reply(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())

    def ping(self) -> int:
        """The status of /ping; 0 while nobody answers. Docker accepts, then resets, before the server listens."""
        try:
            return self.request("GET", "/ping").status
        except (OSError, http.client.HTTPException, DockerFailed):
            return 0

    def running(self) -> bool:
        return self.inspect("{{.State.Running}}") == "true"

    def wait_for(self, check: Callable[[], bool], what: str, deadline_s: float = 60) -> None:
        """Poll until ``check`` holds. Fails the test when the container ends before, or the time is up."""
        end = time.monotonic() + deadline_s
        while not check():
            if not self.running():
                pytest.fail(f"waited for {what}; it ended with {self.inspect('{{.State.ExitCode}}')}:\n{self.logs()}")
            if time.monotonic() > end:
                pytest.fail(f"waited {deadline_s:g} s for {what}:\n{self.logs()}")
            time.sleep(0.05)

    def wait_ready(self) -> None:
        self.wait_for(lambda: self.ping() == 200, "/ping to say 200")

    def wait_exit(self, deadline_s: float = 30) -> int:
        """The exit code, once the container has ended by itself."""
        return int(docker("wait", self.identity, timeout_s=deadline_s))


class Start(Protocol):
    """Starts a container of the image with docker's ``options`` and the given command."""

    def __call__(
        self, *options: str, command: Sequence[str] = ..., model: Path | None = ..., port: int = ...
    ) -> Container: ...


@dataclass(frozen=True, slots=True)
class Perceptron:
    """A bare model directory, and NumPy's opinion of the same function: float32 (rows, 4) to (rows, 3)."""

    directory: Path
    first: npt.NDArray[np.float32]
    second: npt.NDArray[np.float32]

    def expected(self, rows: list[list[float]]) -> npt.NDArray[np.float32]:
        hidden = np.maximum(np.asarray(rows, np.float32) @ self.first, 0)
        return np.asarray(hidden @ self.second, np.float32)


@pytest.fixture(scope="session")
def image() -> Iterator[str]:
    """The tag of the image under test: the one that the environment names, or a fresh build of this checkout."""
    if given := os.environ.get(BUILT):
        yield given
        return
    tag = f"slipway:test-{os.getpid()}"
    images.build(tag)
    yield tag
    docker("image", "rm", "--force", tag)


@pytest.fixture(scope="session")
def perceptron(tmp_path_factory: pytest.TempPathFactory) -> Perceptron:
    rng = np.random.default_rng(7)
    first = rng.standard_normal((4, 8), np.float32)
    second = rng.standard_normal((8, 3), np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "first"], ["mixed"]),
            helper.make_node("Relu", ["mixed"], ["hidden"]),
            helper.make_node("MatMul", ["hidden", "second"], ["y"]),
        ],
        "perceptron",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", 3])],
        [numpy_helper.from_array(first, "first"), numpy_helper.from_array(second, "second")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    directory = tmp_path_factory.mktemp("model")
    # pytest's folders are for their owner alone; the container may run as anybody.
    directory.chmod(0o755)
    onnx.save(model, directory / "model.onnx")
    (directory / "model.onnx").chmod(0o644)
    return Perceptron(directory, first, second)


def _start(
    stack: ExitStack,
    image: str,
    *options: str,
    command: Sequence[str] = ("serve",),
    model: Path | None = None,
    port: int = 8080,
) -> Container:
    mount = [] if model is None else ["--volume", f"{model}:{MODEL}:ro"]
    arguments = ["--pull", "never", "--log-driver", "json-file", *mount, *options, image, *command]
    # Created and started apart: what cannot start is removed as well.
    identity = docker("create", *arguments)
    stack.callback(docker, "rm", "--force", "--volumes", identity)
    docker("start", identity)
    return Container(identity, port)


@pytest.fixture
def start(image: str) -> Iterator[Start]:
    """Starts containers that are removed after the test, whatever became of it."""
    with ExitStack() as stack:

        def one(
            *options: str, command: Sequence[str] = ("serve",), model: Path | None = None, port: int = 8080
        ) -> Container:
            return _start(stack, image, *options, command=command, model=model, port=port)

        yield one


@pytest.fixture(scope="session")
def server(image: str, perceptron: Perceptron) -> Iterator[Container]:
    """One running server for all tests that only ask: started as SageMaker and its local mode do."""
    with ExitStack() as stack:
        container = _start(stack, image, "--publish", "127.0.0.1::8080", model=perceptron.directory)
        container.wait_ready()
        yield container
