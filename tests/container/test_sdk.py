"""The recipes of examples/sagemaker in both versions of the SageMaker SDK: no account, no call that leaves the machine.

Each version has an environment of its own, made when it is not there yet: hundreds of megabytes, so only on request.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from shutil import which
from typing import Any
from urllib.request import Request, urlopen

import boto3
import numpy as np
import pytest
from moto.server import ThreadedMotoServer

from container.deploy.__main__ import main as deploy
from container.docker import docker
from container.local.container import free_port
from container.local.hosting import HostingPlan
from tests.container.conftest import Perceptron
from tests.fake_account import IMAGE, REGION, ROLE
from tests.integration.local_platform import PROMPT, hosted

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENTS = "SDK_ENVIRONMENTS"
"""Names the folder of the environments; they are kept there between runs."""
REQUIREMENTS = {"2": "sagemaker[local]==2.257.7", "3": "sagemaker==3.27.0"}
WATCHED = Path(__file__).parent / "sdk" / "watched.py"
BUCKET = "models"
NETWORK = "sagemaker-local"
TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Principal": {"Service": "sagemaker.amazonaws.com"}, "Action": "sts:AssumeRole"},
    ],
}
ROWS = [[0.5, -1.0, 2.0, 0.0]]
NOBODY = {
    "AWS_ACCESS_KEY_ID": "none",
    "AWS_SECRET_ACCESS_KEY": "none",
    "AWS_DEFAULT_REGION": REGION,
    "AWS_EC2_METADATA_DISABLED": "true",
}
SILENT = {"SchemaVersion": "1.0", "SageMaker": {"PythonSDK": {"Modules": {"TelemetryOptOut": True}}}}
"""Without it the SDK tells its makers of every call."""

pytestmark = [pytest.mark.timeout(1_200), pytest.mark.parametrize("version", ["2", "3"])]


@pytest.fixture(autouse=True)
def _asked_for(request: pytest.FixtureRequest) -> None:
    if not request.config.getoption("--run-sdk", default=False):
        pytest.skip("the recipes for the SageMaker SDK are asked for with: make test-sdk (examples/sagemaker)")


@pytest.fixture
def tidy() -> Iterator[None]:
    """The SDK leaves its network behind, and its containers where it fails."""
    if which("docker-compose") is None:
        pytest.skip("docker-compose is not installed, and the SDK starts containers by it")
    before = set(docker("ps", "--all", "--quiet").split())
    yield
    left = set(docker("ps", "--all", "--quiet").split()) - before
    if left:
        docker("rm", "--force", "--volumes", *left)
    if NETWORK in docker("network", "ls", "--format", "{{.Name}}").split():
        docker("network", "rm", NETWORK)


@pytest.fixture
def account() -> Iterator[str]:
    """The address of an account that has the bucket and the role."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        url = "http://{}:{}".format(*server.get_host_and_port())
        # Every server of this process has the same state.
        urlopen(Request(f"{url}/moto-api/reset", method="POST")).close()
        where = {"LocationConstraint": REGION}
        client("s3", url).create_bucket(Bucket=BUCKET, CreateBucketConfiguration=where)
        client("iam", url).create_role(RoleName="sagemaker", AssumeRolePolicyDocument=json.dumps(TRUST))
        yield url
    finally:
        server.stop()


@pytest.fixture
def archive(perceptron: Perceptron, tmp_path: Path) -> Path:
    # Local mode unpacks the archive beside itself and mounts that folder.
    path = tmp_path / "model" / "model.tar.gz"
    path.parent.mkdir()
    with tarfile.open(path, "w:gz") as packed:
        packed.add(perceptron.directory / "model.onnx", "model.onnx")
    return path


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


@dataclass(frozen=True, slots=True)
class Cooked:
    """What a recipe printed as the response, and the calls that it sent."""

    response: dict[str, Any]
    sent: list[dict[str, Any]]

    def expect(self, perceptron: Perceptron) -> None:
        assert np.allclose(np.array(self.response["predictions"]), perceptron.expected(ROWS), rtol=1e-4)


def cook(version: str, archive: Path, *flags: str, environ: dict[str, str]) -> Cooked:
    """Run the recipe with a folder of its own as home."""
    home = archive.parent.parent
    body, silent = home / "body.json", home / "silent.json"
    body.write_text(json.dumps({"instances": ROWS}))
    silent.write_text(json.dumps(SILENT))  # JSON is YAML, too
    recipe = ROOT / "examples" / "sagemaker" / f"recipe_v{version}.py"
    done = subprocess.run(
        [str(interpreter(version)), str(WATCHED), str(recipe), str(archive), "--body", str(body), *flags],
        cwd=home,
        env={**os.environ, **NOBODY, "HOME": str(home), "SAGEMAKER_USER_CONFIG_OVERRIDE": str(silent), **environ},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line]
    watched = json.loads(lines[-1])
    assert set(watched["looked_up"]) <= {"localhost", "127.0.0.1"}
    # The SDK writes its progress, and the container its log, to the same output.
    (said,) = [line for line in lines if line.startswith('{"predictions"')]
    return Cooked(json.loads(said), watched["sent"])


@pytest.mark.container
@pytest.mark.usefixtures("tidy")
def test_local_mode_hosts_the_image(version: str, image: str, perceptron: Perceptron, archive: Path) -> None:
    settings = archive.parent.parent / ".sagemaker" / "config.yaml"
    settings.parent.mkdir()
    settings.write_text(json.dumps({"local": {"local_code": True, "serving_port": free_port()}}))
    cooked = cook(version, archive, "--image", image, environ={})
    cooked.expect(perceptron)
    assert cooked.sent == []
    assert image not in docker("ps", "--format", "{{.Image}}").split()


def test_an_account_gets_what_the_plan_says(
    version: str, account: str, perceptron: Perceptron, archive: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # The SDK asks an address of its own for the name of its default bucket, whatever the environment says.
    flags = ("--image", IMAGE, "--account", ROLE, "--name", "local", "--bucket", BUCKET)
    with hosted(HostingPlan(perceptron.directory, environ=PROMPT), archive.parent.parent) as local:
        environ = {"AWS_ENDPOINT_URL": account, "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME": local.url}
        kept = cook(version, archive, *flags, "--keep", environ=environ)
        assert len(left(account)) == 3
        removed = cook(version, archive, *flags, environ=environ)
        assert left(account) == []
    for cooked in (kept, removed):
        cooked.expect(perceptron)
    model, variant = of_endpoint(kept.sent)
    planned_model, planned_variant = of_endpoint(planned(archive, variant["InstanceType"], capsys))
    assert model["PrimaryContainer"]["ModelDataUrl"] == f"s3://{BUCKET}/slipway/local/model.tar.gz"
    assert model["PrimaryContainer"]["Image"] == planned_model["PrimaryContainer"]["Image"]
    for name in ("ExecutionRoleArn", "EnableNetworkIsolation"):
        assert model[name] == planned_model[name]
    for name in ("VariantName", "InitialInstanceCount", "RoutingConfig"):
        assert variant[name] == planned_variant[name]


def client(service: str, account: str) -> Any:
    return boto3.client(
        service,
        endpoint_url=account,
        region_name=REGION,
        aws_access_key_id="none",
        aws_secret_access_key="none",
    )


def of_endpoint(calls: list[dict[str, Any]]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The parameters of CreateModel, and the only variant of CreateEndpointConfig."""
    parameters = {call["operation"]: call["parameters"] for call in calls}
    (variant,) = parameters["CreateEndpointConfig"]["ProductionVariants"]
    return parameters["CreateModel"], variant


def left(account: str) -> list[Any]:
    """What exists in the account."""
    sagemaker = client("sagemaker", account)
    return [
        *sagemaker.list_endpoints()["Endpoints"],
        *sagemaker.list_endpoint_configs()["EndpointConfigs"],
        *sagemaker.list_models()["Models"],
    ]


def planned(archive: Path, instance_type: str, capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """The calls that ``container.deploy up`` would make."""
    given = [str(archive), "--image", IMAGE, "--role", ROLE, "--region", REGION, "--instance-type", instance_type]
    lines: list[str] = []
    assert deploy(["plan", *given, "--json"], say=lines.append) == 0, capsys.readouterr().err
    calls: list[dict[str, Any]] = json.loads("\n".join(lines))["calls"]
    return calls
