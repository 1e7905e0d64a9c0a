"""A real client of SageMaker's runtime API before the bare server: answers, errors, streams, async, targets."""

from __future__ import annotations

import json
import socket
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from container.local.hosting import HostingPlan
from container.local.limits import PlatformLimits
from tests.integration import sample_models
from tests.integration.local_platform import PROMPT, Local, hosted
from tests.integration.server_process import eventually

ROW = b"1,2,3,4"
TIGHT = PlatformLimits(payload_bytes=1_000)
MOST = 8


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Local]:
    directory = tmp_path_factory.mktemp("local")
    model = sample_models.fake(directory / "model", poison=666)
    with hosted(HostingPlan(model, environ=PROMPT, limits=TIGHT), directory) as one:
        yield one


def refused(call: Any) -> dict[str, Any]:
    """The document of the error with which a call ends."""
    with pytest.raises(ClientError) as caught:
        call()
    response: dict[str, Any] = caught.value.response
    return response


def test_an_answer_comes_with_its_type_and_variant(local: Local) -> None:
    answer = local.ask(ROW, Accept="text/csv")
    assert answer["Body"].read() == b"2.0,4.0,6.0,8.0\n"
    assert answer["ContentType"].startswith("text/csv")
    assert answer["InvokedProductionVariant"] == "AllTraffic"
    assert "CustomAttributes" not in answer


def test_attributes_go_both_ways(local: Local) -> None:
    assert local.ask(ROW, CustomAttributes="a=1,slipway-echo")["CustomAttributes"] == "a=1,slipway-echo"


@pytest.mark.parametrize(
    ("body", "content_type", "more", "status", "side"),
    [
        (b"{", "application/json", {}, 400, "client"),
        (b"<a/>", "text/xml", {}, 415, "client"),
        (ROW, "text/csv", {"Accept": "image/png"}, 406, "client"),
        (ROW, "text/csv", {"SessionId": "NEW_SESSION"}, 400, "client"),
        (b"666,666,666,666", "text/csv", {}, 500, "server"),
    ],
)
def test_the_containers_errors_are_model_errors(
    local: Local, body: bytes, content_type: str, more: dict[str, str], status: int, side: str
) -> None:
    error = refused(lambda: local.ask(body, content_type, **more))
    assert (error["Error"]["Code"], error["ResponseMetadata"]["HTTPStatusCode"]) == ("ModelError", 424)
    assert error["OriginalStatusCode"] == status
    assert json.loads(error["OriginalMessage"])["code"]
    assert f"Received {side} error ({status})" in error["Error"]["Message"]
    assert error["LogStreamArn"].endswith("/aws/sagemaker/Endpoints/local")


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"EndpointName": "other"}, "other not found"),
        ({"Body": b"1," * 600}, "1000 bytes"),
        ({"TargetModel": "a.tar.gz"}, "multi-model"),
        ({"TargetVariant": "blue"}, "blue not found"),
        ({"CustomAttributes": "x" * 1_025}, "CustomAttributes must be at most 1024"),
        ({"ContentType": "x" * 1_025}, "ContentType must be at most 1024"),
        ({"InferenceId": "x" * 65}, "InferenceId must be at most 64"),
        ({"SessionId": "OLD_SESSION"}, "SessionId must be at most 256"),
        ({"TargetContainerHostname": "second"}, "multi-container"),
        ({"InferenceComponentName": "part"}, "inference components"),
    ],
)
def test_invalid_requests_never_reach_the_container(local: Local, more: dict[str, Any], said: str) -> None:
    given = {"EndpointName": "local", "ContentType": "text/csv", "Body": ROW, **more}
    error = refused(lambda: local.client.invoke_endpoint(**given))
    assert (error["Error"]["Code"], error["ResponseMetadata"]["HTTPStatusCode"]) == ("ValidationError", 400)
    assert said in error["Error"]["Message"]


def test_a_stream_arrives_part_by_part(local: Local) -> None:
    rows = b"".join(b"%d,2,3,4\n" % row for row in range(64))
    answer = local.client.invoke_endpoint_with_response_stream(
        EndpointName="local", ContentType="text/csv", Accept="application/jsonlines", Body=rows
    )
    assert answer["ContentType"].startswith("application/jsonlines")
    assert answer["InvokedProductionVariant"] == "AllTraffic"
    parts = [event["PayloadPart"]["Bytes"] for event in answer["Body"]]
    lines = b"".join(parts).splitlines()
    assert [json.loads(line) for line in lines] == [[2.0 * row, 4.0, 6.0, 8.0] for row in range(64)]


def test_an_error_before_the_first_part_is_a_model_error(local: Local) -> None:
    error = refused(
        lambda: local.client.invoke_endpoint_with_response_stream(
            EndpointName="local", ContentType="text/xml", Body=b"<a/>"
        )
    )
    assert (error["Error"]["Code"], error["OriginalStatusCode"]) == ("ModelError", 415)


def asynchronously(local: Local, **more: Any) -> dict[str, Any]:
    given = {"EndpointName": "local", "ContentType": "text/csv", "Accept": "text/csv", **more}
    answer: dict[str, Any] = local.client.invoke_endpoint_async(**given)
    return answer


def test_an_asynchronous_result_is_an_object(local: Local, tmp_path: Path) -> None:
    given = tmp_path / "input.csv"
    given.write_bytes(ROW)
    answer = asynchronously(local, InputLocation=f"file://{given}", InferenceId="call-7", Filename="result.csv")
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 202
    assert answer["InferenceId"] == "call-7"
    assert answer["OutputLocation"] == "s3://local/async-output/result.csv"
    eventually(lambda: any("call-7 is done" in event for event in local.events), "the result is there")
    [event] = [event for event in local.events if "call-7 is done" in event]
    assert Path(event.rpartition(" ")[2]).read_bytes() == b"2.0,4.0,6.0,8.0\n"


def test_an_asynchronous_failure_is_an_object_too(local: Local) -> None:
    answer = asynchronously(local, Body=b"1,2", InferenceId="call-8")
    eventually(lambda: any("call-8 failed" in event for event in local.events), "the failure is known")
    store = Path(local.hosting.models_host_path).parents[1] / "s3"
    document = json.loads((store / answer["FailureLocation"].removeprefix("s3://")).read_bytes())
    assert (document["errorCode"], document["OriginalStatusCode"], document["inferenceId"]) == (
        "ModelError",
        400,
        "call-8",
    )


@pytest.mark.parametrize(
    "more",
    [{}, {"Body": ROW, "InputLocation": "s3://b/k"}, {"InputLocation": "https://host/k"}, {"Body": b"x" * 128_001}],
)
def test_an_asynchronous_call_that_cannot_be_is_refused(local: Local, more: dict[str, Any]) -> None:
    assert refused(lambda: asynchronously(local, **more))["Error"]["Code"] == "ValidationError"


def test_the_runtime_makes_no_outbound_calls(local: Local, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    real = socket.getaddrinfo

    def counting(host: Any, *arguments: Any, **more: Any) -> Any:
        asked.append(str(host))
        return real(host, *arguments, **more)

    monkeypatch.setattr(socket, "getaddrinfo", counting)
    local.ask(ROW)
    asynchronously(local, Body=ROW, InferenceId="call-9")
    eventually(lambda: any("call-9 is done" in event for event in local.events), "the result is there")
    assert set(asked) <= {"127.0.0.1"}
    assert asked, "the calls of the platform to the container are seen here"


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Local]:
    """More archives than fit into memory side by side."""
    directory = tmp_path_factory.mktemp("fleet")
    models = directory / "bucket"
    models.mkdir()
    heavy = sample_models.heavy(directory / "heavy" / "model.onnx", megabytes=40, layers=4)
    with tarfile.open(models / "m0.tar.gz", "w:gz", compresslevel=0) as archive:
        archive.add(heavy, "model.onnx")
    for number in range(1, MOST):
        (models / f"m{number}.tar.gz").hardlink_to(models / "m0.tar.gz")
    (models / "bad.tar.gz").write_bytes(b"no archive")
    with tarfile.open(models / "empty.tar.gz", "w:gz"):
        pass
    environ = {**PROMPT, "SLIPWAY_MEMORY_BUDGET_MB": "190"}
    with hosted(HostingPlan(None, environ=environ, multi_model=True), directory, models) as one:
        yield one


def test_target_models_are_loaded_and_evicted_as_they_are_needed(fleet: Local) -> None:
    row = b",".join([b"0"] * int((40e6 / 4 / 4) ** 0.5))
    assert fleet.targets is not None
    asked: list[str] = []
    unloaded: list[str] = []
    while not unloaded and len(asked) < MOST:
        asked.append(f"m{len(asked)}.tar.gz")
        answer = fleet.ask(row, TargetModel=asked[-1], Accept="text/csv")
        assert answer["Body"].read().startswith(b"0.0,")
        unloaded = [event for event in fleet.events if event.startswith("unloaded")]
    assert unloaded == [f"unloaded m0.tar.gz: no memory for {asked[-1]}"]
    assert fleet.targets.loaded == asked[1:]
    assert fleet.ask(row, TargetModel="m0.tar.gz")["ResponseMetadata"]["HTTPStatusCode"] == 200


@pytest.mark.parametrize("target", ["absent.tar.gz", "../heavy/model.onnx", "bad.tar.gz"])
def test_a_target_that_is_no_model_is_refused(fleet: Local, target: str) -> None:
    assert refused(lambda: fleet.ask(ROW, TargetModel=target))["Error"]["Code"] == "ValidationError"


def test_a_target_that_cannot_be_loaded_is_a_model_error(fleet: Local) -> None:
    error = refused(lambda: fleet.ask(ROW, TargetModel="empty.tar.gz"))
    assert (error["Error"]["Code"], error["OriginalStatusCode"]) == ("ModelError", 422)


def test_a_multi_model_endpoint_needs_a_target(fleet: Local) -> None:
    assert "TargetModel" in refused(lambda: fleet.ask(ROW))["Error"]["Message"]
