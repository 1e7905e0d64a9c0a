"""The effective parameters of a transform job, and the plans and jobs that a command line describes."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from container.local import arguments
from container.local.api_error import ApiError
from container.local.association import DataProcessing
from container.local.container import Mount, Resources, create_arguments
from container.local.hosting import InvalidPlan, check_environment, check_image
from container.local.limits import MIB
from container.local.model import InvalidModel, prepare
from container.local.store import ObjectStore
from container.local.transform import TransformJob, TransformJobFailed, TransformParameters, resolve_parameters

FOLDER = Path("x")
ADVICE: dict[str, object] = {"MaxConcurrentTransforms": 8, "BatchStrategy": "SINGLE_RECORD", "MaxPayloadInMB": 2}


def test_the_job_wins_over_the_advice_and_the_advice_over_the_usual() -> None:
    silent = TransformJob(FOLDER, FOLDER)
    assert resolve_parameters(silent, {}) == TransformParameters("MultiRecord", 6 * MIB, 1)
    assert resolve_parameters(silent, ADVICE) == TransformParameters("SingleRecord", 2 * MIB, 8)
    said = TransformJob(FOLDER, FOLDER, batch_strategy="MultiRecord", max_payload_in_mb=0, max_concurrent_transforms=3)
    assert resolve_parameters(said, ADVICE) == TransformParameters("MultiRecord", None, 3)
    assert said.environ() == {
        "SAGEMAKER_BATCH": "true",
        "SAGEMAKER_MAX_PAYLOAD_IN_MB": "0",
        "SAGEMAKER_BATCH_STRATEGY": "MULTI_RECORD",
        "SAGEMAKER_MAX_CONCURRENT_TRANSFORMS": "3",
    }


def test_advice_that_makes_no_sense_is_not_taken() -> None:
    odd: dict[str, object] = {"MaxConcurrentTransforms": "8", "BatchStrategy": 1, "MaxPayloadInMB": -1}
    assert resolve_parameters(TransformJob(FOLDER, FOLDER), odd) == TransformParameters("MultiRecord", 6 * MIB, 1)


def test_terms_that_the_platform_refuses_are_refused() -> None:
    with pytest.raises(TransformJobFailed, match="more than 100"):
        resolve_parameters(TransformJob(FOLDER, FOLDER, max_payload_in_mb=51, max_concurrent_transforms=2), {})
    with pytest.raises(TransformJobFailed, match="SplitType Line"):
        resolve_parameters(
            TransformJob(FOLDER, FOLDER, split_type="RecordIO", data_processing=DataProcessing(join_source="Input")), {}
        )


def test_a_container_gets_what_the_platform_gives_it() -> None:
    mounts = [Mount(Path("/a"), "/opt/ml/model")]
    assert create_arguments("image:1", {"A": "b=c"}, mounts, Resources(2_048, 1.5, read_only=True)) == [
        *("--pull", "never", "--publish", "127.0.0.1::8080", "--shm-size", "64m"),
        *("--volume", "/a:/opt/ml/model:ro", "--env", "A=b=c"),
        *("--memory", "2048m", "--memory-swap", "2048m", "--cpus", "1.5", "--read-only", "--tmpfs", "/tmp", "image:1"),
    ]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("serve", "give a model folder"),
        ("serve m --multi-model f", "give a model folder"),
        ("serve m --memory 512", "need --image"),
        ("serve m --serverless 1500", "in steps of 1024"),
        ("serve m --env X", "NAME=VALUE"),
    ],
)
def test_an_invalid_plan_names_the_reason(line: str, said: str) -> None:
    with pytest.raises(InvalidPlan, match=said):
        arguments.plan(arguments.parser().parse_args(line.split()))


@pytest.mark.parametrize(
    "line",
    [
        "serve m --endpoint-name a_b",
        "serve m --endpoint-name " + "x" * 64,
        "serve m --max-concurrency 201",
        "serve m --max-concurrent-invocations-per-instance 1001",
        "serve m --container-startup-health-check-timeout-in-seconds 59",
        "transform m --input i --output o --content-type " + "x" * 257,
        "transform m --input i --output o --accept " + "x" * 257,
        "transform m --input i --output o --max-payload-in-mb 101",
        "transform m --input i --output o --invocations-timeout-in-seconds 3601",
        "transform m --input i --output o --invocations-max-retries 4",
    ],
)
def test_options_beyond_the_limits_of_the_api_are_refused(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        arguments.parser().parse_args(line.split())
    assert ended.value.code == 2
    assert "error: argument" in capsys.readouterr().err


def test_a_serverless_plan_has_that_modes_limits() -> None:
    line = "serve m --image i --serverless 2048 --max-concurrency 2"
    plan = arguments.plan(arguments.parser().parse_args(line.split()))
    assert plan.resources == Resources(2_048, None, read_only=True)
    assert plan.image_bytes == 10_000_000_000
    assert (plan.limits.payload_bytes, plan.limits.concurrent, plan.limits.startup_s) == (4 * MIB, 2, 180.0)


@pytest.mark.parametrize(
    "environ",
    [
        {f"N{n}": "" for n in range(101)},
        {"N": "x" * 1_025},
        {"2N": ""},
        {"A-B": ""},
        {"A" * 1_025: ""},
        {f"N{n}": "x" * 1_000 for n in range(33)},
    ],
)
def test_an_environment_that_create_model_refuses_is_refused(environ: dict[str, str]) -> None:
    with pytest.raises(InvalidPlan):
        check_environment(environ)


def test_an_archive_is_unpacked_and_one_with_links_refused(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"x")
    (tmp_path / "link").symlink_to("model.onnx")
    good, bad = tmp_path / "good.tar.gz", tmp_path / "bad.tar.gz"
    with tarfile.open(good, "w:gz") as archive:
        archive.add(tmp_path / "model.onnx", "model.onnx")
    with tarfile.open(bad, "w:gz") as archive:
        archive.add(tmp_path / "link", "link")
    assert (prepare(good, tmp_path / "here") / "model.onnx").read_bytes() == b"x"
    with pytest.raises(InvalidModel, match="link is a link"):
        prepare(bad, tmp_path / "there")
    with pytest.raises(InvalidModel, match="no gzip tar"):
        prepare(tmp_path / "link", tmp_path / "there")
    with pytest.raises(InvalidModel, match="no such file"):
        prepare(tmp_path / "absent", tmp_path / "there")
    with tarfile.open(bad, "w:gz") as archive:
        archive.add(tmp_path / "model.onnx", "../outside")
    with pytest.raises(InvalidModel, match="at the top of the archive"):
        prepare(bad, tmp_path / "there")


def test_addresses_stay_in_their_bucket(tmp_path: Path) -> None:
    store = ObjectStore(tmp_path)
    assert store.path("s3://bucket/a/b.csv") == tmp_path / "bucket/a/b.csv"
    assert store.path("file:///x%20y") == Path("/x y")
    for elsewhere in ("s3://bucket/../other/x", "https://host/x", "s3://", "bucket/x", "file://host/x"):
        with pytest.raises(ApiError):
            store.path(elsewhere)


def test_an_image_that_is_too_large_for_serverless_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "docker").write_text("#!/bin/sh\necho 10000000001\n", encoding="ascii")
    (tmp_path / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(InvalidPlan, match="10000000001 bytes"):
        check_image("large:1", 10_000_000_000)
    check_image("large:1", 10_000_000_001)
