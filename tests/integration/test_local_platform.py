"""The platform's care for a container that misbehaves: limits, health, eviction, signals, jobs; the command."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from botocore.exceptions import ClientError, EventStreamError

from container.local import contract
from container.local.association import DataProcessing
from container.local.call import Address, NoResponse, call
from container.local.container import DidNotStart, start_process
from container.local.health import HealthMonitor, ping, wait_healthy
from container.local.hosting import Hosting, HostingPlan
from container.local.limits import PlatformLimits
from container.local.sample import Sample
from container.local.transform import (
    TransformJob,
    TransformJobFailed,
    TransformRun,
    fetch_execution_parameters,
    resolve_parameters,
)
from server.codecs.recordio import read_frames, write_frames
from server.doctor.findings import Level
from tests.integration import sample_models
from tests.integration.local_platform import FAKE, PROMPT, hosted, pretending
from tests.integration.server_process import ROOT, eventually

SHORT = PlatformLimits(response_s=0.2, stream_s=0.2, stop_s=0.2, startup_s=0.2, load_answer_s=0.2, load_s=0.4)
PATIENT = PlatformLimits(stop_s=5)


def error_of(call: Any) -> dict[str, Any]:
    with pytest.raises(ClientError) as caught:
        call()
    response: dict[str, Any] = caught.value.response
    return response


@contextmanager
def started(plan: HostingPlan, directory: Path) -> Iterator[Hosting]:
    hosting = Hosting(plan, directory, lambda _: None)
    hosting.start()
    try:
        yield hosting
    finally:
        hosting.stop()


def within_start(limits: PlatformLimits) -> PlatformLimits:
    """A start takes longer than what is tried here."""
    return PlatformLimits(**{**{name: getattr(limits, name) for name in PlatformLimits.__slots__}, "startup_s": 30.0})


def test_only_listed_headers_pass_in_either_direction(tmp_path: Path) -> None:
    with hosted(pretending("echoes", PATIENT), tmp_path) as local:
        answer = local.ask(b"x", InferenceId="call-7", EnableExplanations="`true`", SessionId="NEW_SESSION")
        seen = json.loads(answer["Body"].read())["headers"]
        passed = answer["ResponseMetadata"]["HTTPHeaders"]
    assert set(seen) - {"host", "accept-encoding", "content-length"} == {
        "content-type",
        "x-amzn-sagemaker-inference-id",
        "x-amzn-sagemaker-enable-explanations",
        "x-amzn-sagemaker-session-id",
        "x-amzn-sagemaker-forwarded-api",
    }
    assert (answer["ContentType"], answer["CustomAttributes"], answer["NewSessionId"]) == (
        "application/x-echo; v=1",
        "back",
        "s-1; Expires=2030-01-01T00:00:00Z",
    )
    assert "server-timing" not in passed


def test_a_response_header_beyond_the_limits_is_a_model_error(tmp_path: Path) -> None:
    with hosted(pretending("boasts", PATIENT), tmp_path) as local:
        plain = error_of(lambda: local.ask(b"x"))
        stream = error_of(lambda: local.client.invoke_endpoint_with_response_stream(EndpointName="local", Body=b"x"))
    for error in (plain, stream):
        assert (error["Error"]["Code"], error["OriginalStatusCode"]) == ("ModelError", 200)
        assert "CustomAttributes must be at most 1024" in error["OriginalMessage"]


def test_a_container_that_never_answers_is_error_zero(tmp_path: Path) -> None:
    with hosted(pretending("silent", within_start(SHORT)), tmp_path) as local:
        error = error_of(lambda: local.ask(b"x"))
    assert (error["Error"]["Code"], error["OriginalStatusCode"]) == ("ModelError", 0)
    assert "within 0.2 s" in error["OriginalMessage"]


def test_a_container_that_dies_gives_error_zero_and_a_log_line(tmp_path: Path) -> None:
    with hosted(pretending("dies", PATIENT), tmp_path) as local:
        assert error_of(lambda: local.ask(b"x"))["OriginalStatusCode"] == 0
        instance = local.hosting.container
        assert instance is not None
        instance.process.wait(30)
        watch = HealthMonitor(instance, local.hosting.address, PATIENT, local.events.append)
        assert not watch.check()
    assert any("the container ended" in event for event in local.events)


@pytest.mark.parametrize(("behaviour", "said"), [("breaks", "IncompleteRead"), ("trickles", "within 0.2 s")])
def test_a_failed_stream_ends_with_an_exception_event(tmp_path: Path, behaviour: str, said: str) -> None:
    with hosted(pretending(behaviour, within_start(SHORT)), tmp_path) as local:
        answer = local.client.invoke_endpoint_with_response_stream(EndpointName="local", Body=b"x")
        with closing(answer["Body"]) as body, pytest.raises(EventStreamError) as broken:
            list(body)
    error = broken.value.response["Error"]
    assert (error["Code"], said in error["Message"]) == ("ModelStreamError", True)


def test_a_stream_is_whole_when_nothing_fails(tmp_path: Path) -> None:
    with hosted(pretending("streams", PATIENT), tmp_path) as local:
        answer = local.client.invoke_endpoint_with_response_stream(EndpointName="local", Body=b"x")
        assert b"".join(event["PayloadPart"]["Bytes"] for event in answer["Body"]) == b"one\ntwo\nthree\n"


def test_a_truncated_response_raises_no_response(tmp_path: Path) -> None:
    with started(pretending("breaks", PATIENT), tmp_path) as hosting, pytest.raises(NoResponse):
        call(hosting.address, "POST", "/invocations", within_s=5)


def test_a_change_of_health_is_logged(tmp_path: Path) -> None:
    events: list[str] = []
    with started(pretending("moody", PATIENT), tmp_path) as hosting:
        assert hosting.container is not None
        watch = HealthMonitor(hosting.container, hosting.address, PATIENT, events.append)
        found = [(watch.check(), watch.problem) for _ in range(4)]
    assert found == [(True, "/ping returned 503"), (True, "/ping returned 503"), (True, None), (True, None)]
    assert events == ["unhealthy: /ping returned 503; the platform would replace the instance", "healthy again"]


def test_more_than_the_concurrency_of_a_serverless_endpoint_is_throttled(tmp_path: Path) -> None:
    limits = PlatformLimits(concurrent=1, stop_s=5)
    with hosted(pretending("echoes", limits), tmp_path) as local:
        with local.endpoint._slot():
            error = error_of(lambda: local.ask(b"x"))
        assert (error["Error"]["Code"], error["ResponseMetadata"]["HTTPStatusCode"]) == ("ThrottlingException", 429)
        assert local.ask(b"x")["ResponseMetadata"]["HTTPStatusCode"] == 200


def test_a_start_that_fails_says_the_containers_last_line(tmp_path: Path) -> None:
    with pytest.raises(DidNotStart, match=r"did not pass the ping health check: it ended with 1: .*a teapot"):
        Hosting(pretending("broken", PATIENT), tmp_path, lambda _: None).start()


def test_a_start_that_never_becomes_healthy_ends_with_the_reason_of_the_ping() -> None:
    instance = start_process({}, command=[sys.executable, FAKE, "unhealthy"])
    try:
        address = Address("127.0.0.1", instance.port, PATIENT.accept_s)
        said = "/ping returned 503 loading"
        eventually(lambda: ping(address, PATIENT) == said, "it listens")
        with pytest.raises(DidNotStart, match=f"did not pass the ping health check within 0.1 s: {said}"):
            wait_healthy(instance, address, PlatformLimits(startup_s=0.1))
    finally:
        instance.close()


def test_sigterm_ends_a_container_and_sigkill_a_stubborn_one(tmp_path: Path) -> None:
    polite = Hosting(pretending("echoes", PATIENT), tmp_path, lambda _: None)
    polite.start()
    assert polite.stop()[0] == 0
    stubborn = Hosting(pretending("stubborn", within_start(SHORT)), tmp_path, lambda _: None)
    stubborn.start()
    code, seconds = stubborn.stop()
    assert code == 137
    assert seconds >= SHORT.stop_s
    assert stubborn.container is not None
    assert not stubborn.container.running


def test_the_least_recently_used_target_is_evicted_and_a_slow_load_times_out(tmp_path: Path) -> None:
    models = tmp_path / "bucket"
    for name in ("a", "b", "c"):
        (models / name).mkdir(parents=True)
    with hosted(pretending("echoes", PATIENT, multi_model=True), tmp_path, models) as local:
        for name in ("a", "b", "a", "c"):
            said = json.loads(local.ask(b"x", TargetModel=name)["Body"].read())
        assert local.targets is not None
        assert local.targets.loaded == ["a", "c"]
        assert re.fullmatch(r"/models/[0-9a-f]{32}/invoke", said["path"])
        assert said["headers"]["x-amzn-sagemaker-target-model"] == "c"
    slow = pretending("loading", within_start(SHORT), multi_model=True)
    with hosted(slow, tmp_path / "slow", models) as local:
        error = error_of(lambda: local.ask(b"x", TargetModel="a"))
        assert error["Error"]["Code"] == "ModelNotReadyException"
        assert error["ResponseMetadata"]["HTTPStatusCode"] == 429


def transform(plan: HostingPlan, job: TransformJob, directory: Path) -> list[str]:
    """The events of a job."""
    events: list[str] = []
    with started(plan, directory) as hosting:
        terms = resolve_parameters(job, fetch_execution_parameters(hosting.address))
        TransformRun(job, hosting.address, terms, events.append).run()
    return events


def test_a_job_writes_a_line_for_each_line_and_a_file_for_each_file(tmp_path: Path) -> None:
    model = sample_models.fake(tmp_path / "model")
    given, out = tmp_path / "in", tmp_path / "out"
    (given / "deep").mkdir(parents=True)
    rows = 2_000
    (given / "many.csv").write_bytes(b"".join(b"id-%d,%d,2,3,4\n" % (n, n) for n in range(rows)))
    (given / "deep" / "one.csv").write_bytes(b"id-x,1,2,3,4")
    job = TransformJob(
        given,
        out,
        "text/csv",
        "text/csv",
        "Line",
        "Line",
        max_payload_in_mb=1,
        data_processing=DataProcessing("$[1:]", "$[0,1,-1]", "Input"),
    )
    transform(HostingPlan(model, environ=PROMPT, injected=job.environ()), job, tmp_path / "work")
    lines = (out / "many.csv.out").read_text("utf-8").splitlines()
    assert lines == [f"id-{n},{n},8.0" for n in range(rows)]
    assert (out / "deep" / "one.csv.out").read_bytes() == b"id-x,1,8.0\n"


@pytest.mark.parametrize("strategy", ["SingleRecord", "MultiRecord"])
def test_a_job_writes_a_record_for_each_record(tmp_path: Path, strategy: str) -> None:
    rows = np.arange(20 * sample_models.MLP_FEATURES, dtype=np.float32).reshape(20, -1)
    head = b"\x0a\x2e\x0a\x06values\x12\x24\x12\x22\x0a\x20"  # one dense tensor of eight float32
    (tmp_path / "in.rec").write_bytes(write_frames(head + row.tobytes() for row in rows))
    kind = "application/x-recordio-protobuf"
    job = TransformJob(tmp_path / "in.rec", tmp_path / "out", kind, kind, "RecordIO", batch_strategy=strategy)
    model = sample_models.mlp(tmp_path / "model" / "mlp.onnx")
    transform(HostingPlan(model.parent, environ=PROMPT, injected=job.environ()), job, tmp_path / "work")
    answers = [bytes(record) for _, record in read_frames((tmp_path / "out" / "in.rec.out").read_bytes())]
    found = [np.frombuffer(answer[-4 * sample_models.MLP_CLASSES :], "<f4") for answer in answers]
    assert np.allclose(np.array(found), sample_models.mlp_answer(rows), rtol=1e-5)


@pytest.mark.parametrize("payload_mb", [None, 0])
def test_a_job_fails_after_its_retries(tmp_path: Path, payload_mb: int | None) -> None:
    (tmp_path / "in").write_bytes(b"a\nb\n")
    job = TransformJob(
        tmp_path / "in", tmp_path / "out", "text/plain", batch_strategy="SingleRecord", split_type="Line",
        max_payload_in_mb=payload_mb,
    )  # fmt: skip
    transform(pretending("flaky", PATIENT), job, tmp_path)
    assert (tmp_path / "out" / "in.out").read_bytes() == b"a\nb\n"
    impatient = TransformJob(tmp_path / "in", tmp_path / "none", "text/plain", invocations_max_retries=1)
    with pytest.raises(TransformJobFailed, match=r"(?s)in: the container responded 503: .*after 1 retries"):
        transform(pretending("flaky", PATIENT), impatient, tmp_path)
    assert not (tmp_path / "none").exists()


def test_a_client_error_of_the_container_is_not_retried(tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"1,2\n")
    model = sample_models.fake(tmp_path / "model")
    job = TransformJob(tmp_path / "in", tmp_path / "out", "text/csv", split_type="Line")
    with pytest.raises(TransformJobFailed, match=r"in: the container responded 400: (?!.*retries)"):
        transform(HostingPlan(model, environ=PROMPT), job, tmp_path / "work")


def test_the_server_keeps_the_contract(tmp_path: Path) -> None:
    model = sample_models.fake(tmp_path / "model")
    hosting = Hosting(HostingPlan(model, environ=PROMPT), tmp_path / "work", lambda _: None)
    findings = list(contract.check_contract(hosting, lambda _: Sample(b"1,2,3,4", "text/csv", "a row")))
    assert [one.line for one in findings if one.level is not Level.OK] == []
    assert [one.subject for one in findings] == [
        *("start", "ping", "invoke", "headers", "type", "malformed", "large", "reuse", "batch", "stop")
    ]


def test_violations_of_the_contract_are_found(tmp_path: Path) -> None:
    def levels(behaviour: str, limits: PlatformLimits) -> dict[str, Level]:
        hosting = Hosting(pretending(behaviour, limits), tmp_path, lambda _: None)
        found = contract.check_contract(hosting, lambda _: Sample(b"1", "text/csv", "a row"))
        return {one.subject: one.level for one in found}

    assert levels("broken", PATIENT) == {"start": Level.FATAL}
    dead = levels("dies", within_start(SHORT))
    assert (dead["invoke"], dead["alive"]) == (Level.FATAL, Level.FATAL)
    stubborn = levels("stubborn", within_start(SHORT))
    assert (stubborn["type"], stubborn["stop"]) == (Level.WARN, Level.FATAL)


def test_the_command_serves_until_sigterm(tmp_path: Path) -> None:
    model = sample_models.fake(tmp_path / "model")
    command = [sys.executable, "-m", "container.local", "serve", str(model), "--port", "0"]
    process = subprocess.Popen(
        [*command, "--env", "SLIPWAY_DRAIN_GRACE_S=0"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("local: healthy after")
        assert "endpoint_url http://127.0.0.1:" in process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        assert re.search(r"the container ended with 0 after", process.stdout.read())
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.communicate()


def test_the_command_reports_a_model_that_cannot_be_served_in_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "container.local", "serve", str(tmp_path), "--port", "0"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "error: the container did not pass the ping health check: it ended with 1: cannot serve:" in done.stderr
