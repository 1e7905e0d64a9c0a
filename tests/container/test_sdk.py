"""The SageMaker SDK's own local sessions, version 2 and 3, host the image: no account, no call that leaves the machine.

Each runs in an environment of its own, made when it is not there yet: hundreds of megabytes, so only on request.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from shutil import which

import numpy as np
import pytest

from container.docker import docker
from container.local.container import free_port
from tests.container.conftest import Perceptron

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENTS = "SDK_ENVIRONMENTS"
"""Names the folder of the environments; they are kept there between runs."""
REQUIREMENTS = {"2": "sagemaker[local]==2.257.7", "3": "sagemaker==3.27.0"}
SCRIPT = Path(__file__).parent / "sdk" / "local_session.py"
NETWORK = "sagemaker-local"
ROWS = [[0.5, -1.0, 2.0, 0.0]]
NOBODY = {
    "AWS_ACCESS_KEY_ID": "none",
    "AWS_SECRET_ACCESS_KEY": "none",
    "AWS_DEFAULT_REGION": "eu-central-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}

pytestmark = [pytest.mark.container, pytest.mark.timeout(1_200)]


@pytest.fixture
def asked_for(request: pytest.FixtureRequest) -> None:
    if not request.config.getoption("--run-sdk"):
        pytest.skip("the SDK's local sessions are asked for with: make test-sdk (docs/local.md)")
    if which("docker-compose") is None:
        pytest.skip("docker-compose is not installed, and the SDK starts containers by it")


@pytest.fixture
def tidy() -> Iterator[None]:
    """The SDK leaves its containers and its network behind."""
    before = set(docker("ps", "--all", "--quiet").split())
    yield
    left = set(docker("ps", "--all", "--quiet").split()) - before
    if left:
        docker("rm", "--force", "--volumes", *left)
    if NETWORK in docker("network", "ls", "--format", "{{.Name}}").split():
        docker("network", "rm", NETWORK)


def interpreter(version: str) -> Path:
    """Python of the environment that holds this version of the SDK; made if need be."""
    folder = Path(os.environ.get(ENVIRONMENTS, ROOT / "build")) / f"sdk-v{version}"
    python = folder / "bin" / "python"
    installed = folder / "complete"
    if not installed.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*install, REQUIREMENTS[version]], check=True)
        installed.touch()
    return python


@pytest.mark.usefixtures("asked_for", "tidy")
@pytest.mark.parametrize("version", ["2", "3"])
def test_a_local_session_hosts_the_image(version: str, image: str, perceptron: Perceptron, tmp_path: Path) -> None:
    # It unpacks the archive beside itself and mounts that folder.
    archive = tmp_path / "model" / "model.tar.gz"
    archive.parent.mkdir()
    with tarfile.open(archive, "w:gz") as packed:
        packed.add(perceptron.directory / "model.onnx", "model.onnx")
    body = json.dumps({"instances": ROWS})
    done = subprocess.run(
        [str(interpreter(version)), str(SCRIPT), version, image, str(archive), str(free_port()), body],
        cwd=tmp_path,
        env={**os.environ, **NOBODY},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert np.allclose(np.array(said["answer"]["predictions"]), perceptron.expected(ROWS), rtol=1e-4)
    assert set(said["looked_up"]) <= {"localhost", "127.0.0.1"}
