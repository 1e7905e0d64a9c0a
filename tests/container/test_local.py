"""The local platform around the image: started as the platform does it, asked by a real client, and gone afterwards."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from botocore.exceptions import ClientError

from container.docker import docker
from container.local import contract
from container.local.container import DidNotStart, Resources
from container.local.hosting import Hosting, HostingPlan
from container.local.limits import PlatformLimits
from container.local.sample import find
from container.local.transform import TransformJob, TransformRun, fetch_execution_parameters, resolve_parameters
from server.doctor.findings import Level
from tests.container.conftest import Perceptron
from tests.integration.local_platform import PROMPT, Local, hosted

pytestmark = pytest.mark.container

ROWS = [[0.5, -1.0, 2.0, 0.0], [1.0, 1.0, 1.0, 1.0]]
BODY = json.dumps({"instances": ROWS}).encode()
JSON = "application/json"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder that the container's user may read, whoever that is."""
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    return tmp_path


@pytest.fixture
def serverless(image: str, perceptron: Perceptron, place: Path) -> Iterator[Local]:
    plan = HostingPlan(
        perceptron.directory,
        image,
        PROMPT,
        resources=Resources(1_024, read_only=True),
        limits=PlatformLimits(concurrent=1),
    )
    with hosted(plan, place) as local:
        yield local


def predictions(body: bytes) -> np.ndarray:
    return np.array(json.loads(body)["predictions"], np.float32)


def test_an_endpoint_of_the_image_answers_a_real_client(serverless: Local, perceptron: Perceptron) -> None:
    answer = serverless.ask(BODY, JSON)
    assert np.allclose(predictions(answer["Body"].read()), perceptron.expected(ROWS), rtol=1e-4)
    stream = serverless.client.invoke_endpoint_with_response_stream(
        EndpointName="local", ContentType="text/csv", Accept="text/csv", Body=b"1,2,3,4\n" * 3
    )
    whole = b"".join(event["PayloadPart"]["Bytes"] for event in stream["Body"])
    assert whole.count(b"\n") == 3
    with pytest.raises(ClientError) as caught:
        serverless.ask(b"{", JSON)
    assert caught.value.response["OriginalStatusCode"] == 400


def test_the_container_has_what_the_platform_gives_it_and_leaves_nothing(
    image: str, perceptron: Perceptron, place: Path
) -> None:
    before = docker("ps", "--all", "--quiet")
    plan = HostingPlan(perceptron.directory, image, PROMPT, resources=Resources(1_024, read_only=True))
    with hosted(plan, place):
        [identity] = set(docker("ps", "--quiet").split()) - set(before.split())
        template = "{{.HostConfig.Memory}} {{.HostConfig.ShmSize}} {{.HostConfig.ReadonlyRootfs}} {{.Config.Cmd}}"
        assert docker("inspect", "--format", template, identity) == f"{1_024 << 20} {64 << 20} true [serve]"
        mounts = json.loads(docker("inspect", "--format", "{{json .Mounts}}", identity))
        assert [(one["Destination"], one["RW"]) for one in mounts] == [("/opt/ml/model", False)]
    assert docker("ps", "--all", "--quiet") == before


def test_target_models_reach_the_image(image: str, perceptron: Perceptron, place: Path) -> None:
    models = place / "bucket"
    for name in ("one", "two"):
        shutil.copytree(perceptron.directory, models / name)
    with hosted(HostingPlan(None, image, PROMPT, multi_model=True), place, models) as local:
        for name in ("one", "two"):
            answer = local.ask(BODY, JSON, TargetModel=name)
            assert np.allclose(predictions(answer["Body"].read()), perceptron.expected(ROWS), rtol=1e-4)
        assert local.targets is not None
        assert local.targets.loaded == ["one", "two"]


def test_a_job_runs_through_the_image(image: str, perceptron: Perceptron, place: Path) -> None:
    rows = np.arange(400, dtype=np.float32).reshape(100, 4) / 100
    given, out = place / "rows.csv", place / "out"
    given.write_text("".join(",".join(map(str, row)) + "\n" for row in rows.tolist()), encoding="utf-8")
    job = TransformJob(given, out, "text/csv", "text/csv", "Line", "Line", max_payload_in_mb=1)
    hosting = Hosting(HostingPlan(perceptron.directory, image, PROMPT, job.environ()), place, lambda _: None)
    hosting.start()
    try:
        terms = resolve_parameters(job, fetch_execution_parameters(hosting.address))
        TransformRun(job, hosting.address, terms, lambda _: None).run()
    finally:
        hosting.stop()
    found = np.loadtxt(out / "rows.csv.out", delimiter=",", dtype=np.float32)
    assert np.allclose(found, perceptron.expected(rows.tolist()), rtol=1e-4, atol=1e-5)


def test_the_image_keeps_the_contract(image: str, perceptron: Perceptron, place: Path) -> None:
    hosting = Hosting(HostingPlan(perceptron.directory, image, PROMPT), place, lambda _: None)
    findings = list(contract.check_contract(hosting, lambda address: find(perceptron.directory, address)))
    assert [one.line for one in findings if one.level is not Level.OK] == []
    assert findings[2].text.startswith("zeros: 200")
    assert findings[-1].text.startswith("ended with 0")


def test_a_container_that_dies_at_start_says_why(image: str, place: Path) -> None:
    with pytest.raises(DidNotStart, match=r"did not pass the ping health check: it ended with 1: cannot serve: "):
        Hosting(HostingPlan(place, image), place, lambda _: None).start()


def test_a_missing_image_is_reported_in_one_line(place: Path) -> None:
    with pytest.raises(DidNotStart, match=r"docker create: .*slipway:absent"):
        Hosting(HostingPlan(place, "slipway:absent"), place, lambda _: None).start()
