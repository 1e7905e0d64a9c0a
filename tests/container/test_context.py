"""What an image is made of, as far as it can be proven without a docker engine."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from container import image as images
from container.docker import DockerFailed, docker, unreachable_reason
from server.settings.options import FIELDS, variable

FOLDER = images.ROOT / "container"
DOCKERFILE = (FOLDER / "Dockerfile").read_text("utf-8")


def entrypoint(*arguments: str, path: str | None = None) -> subprocess.Popen[str]:
    env = {**os.environ, **({} if path is None else {"PATH": path})}
    return subprocess.Popen(["/bin/sh", FOLDER / "entrypoint", *arguments], stdout=subprocess.PIPE, text=True, env=env)


@pytest.fixture
def python_that_tells(tmp_path: Path) -> str:
    """A PATH whose ``python`` prints its arguments, to see how the server would be started."""
    (tmp_path / "python").write_text('#!/bin/sh\necho "$@"\n')
    (tmp_path / "python").chmod(0o755)
    return str(tmp_path)


@pytest.mark.parametrize(
    ("given", "passed_on"),
    [
        ((), " serve"),
        (("serve",), " serve"),
        (("serve", "--port", "9000"), " serve --port 9000"),
        (("doctor", "--json"), " doctor --json"),
        (("--help",), " serve --help"),
    ],
)
def test_entrypoint_starts_the_server_for_serve_and_for_bare_flags(
    given: tuple[str, ...], passed_on: str, python_that_tells: str
) -> None:
    with entrypoint(*given, path=python_that_tells) as process:
        assert process.communicate()[0] == f"/opt/slipway/serve.py{passed_on}\n"


def test_entrypoint_becomes_any_other_command_so_that_signals_reach_it() -> None:
    with entrypoint("sh", "-c", "echo $$ one two") as process:
        assert process.communicate()[0] == f"{process.pid} one two\n"


def healthcheck(port: int, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-I", "-S", FOLDER / "healthcheck.py"],
        env={"SAGEMAKER_BIND_TO_PORT": str(port), **env},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("answer", "code", "complaint"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", 0, ""),
        (b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n", 1, "HTTP/1.1 503 Service Unavailable"),
        (b"", 1, "closed without a response"),
    ],
)
def test_the_healthcheck_follows_the_status_of_ping(answer: bytes, code: int, complaint: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer_once() -> None:
            connection, _ = listener.accept()
            with connection:
                assert connection.recv(4096).startswith(b"GET /ping HTTP/1.1\r\n")
                connection.sendall(answer)

        thread = threading.Thread(target=answer_once)
        thread.start()
        done = healthcheck(listener.getsockname()[1])
        thread.join()
    assert done.returncode == code
    assert complaint in done.stderr


def test_the_healthcheck_fails_on_a_closed_port_and_prefers_our_own_port() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        done = healthcheck(1, SLIPWAY_PORT=str(port))
    assert done.returncode == 1
    assert f"port {port}: " in done.stderr


def test_only_listed_files_reach_the_build() -> None:
    lines = [
        line
        for line in (images.ROOT / ".dockerignore").read_text("utf-8").splitlines()
        if line and not line.startswith("#")
    ]
    assert lines[0] == "*"
    allowed = [line.removeprefix("!") for line in lines if line.startswith("!")]
    assert [name for name in allowed if not (images.ROOT / name).exists()] == []


def test_dockerfile_needs_no_registry_beyond_its_base() -> None:
    stages = [line.split()[1] for line in DOCKERFILE.splitlines() if line.startswith("FROM ")]
    names = [line.split(" AS ")[1] for line in DOCKERFILE.splitlines() if line.startswith("FROM ")]
    assert set(stages) - set(names) == {"${BASE_IMAGE}"}
    assert names[-1] == "cpu", "what a build makes that names no target"
    assert set(images.TARGETS) <= set(names)
    assert f"ARG BASE_IMAGE={images.BASE_IMAGE}\n" in DOCKERFILE
    assert not DOCKERFILE.startswith("# syntax")


def test_the_linter_has_nothing_to_say() -> None:
    linter = Path(sys.executable).parent / "hadolint"
    done = subprocess.run([linter, "--no-color", FOLDER / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_settings_in_the_dockerfile_are_settings_of_the_server() -> None:
    known = {variable(name) for name in FIELDS}
    named = {word.partition("=")[0] for word in DOCKERFILE.split() if word.startswith("SLIPWAY_")}
    assert named
    assert named <= known


def test_a_failed_docker_command_gives_its_last_error_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "docker").write_text("#!/bin/sh\necho working >&2\necho it broke >&2\nexit 3\n")
    (tmp_path / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(DockerFailed, match=r"^it broke$"):
        docker("anything")
    assert unreachable_reason() == "no docker engine responds (it broke)"
    monkeypatch.setenv("PATH", "")
    assert unreachable_reason() == "the docker command is not installed"
    with pytest.raises(DockerFailed, match="not installed"):
        docker("anything")
