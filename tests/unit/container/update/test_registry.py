"""The watched registry, against a stand-in for the service in this process."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from container.update.errors import Unreachable
from container.update.registry import Registry, aws_client

BUCKET, GROUP = "models", "digits"


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, "none")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with mock_aws():
        boto3.client("s3").create_bucket(Bucket=BUCKET)
        service = boto3.client("sagemaker")
        service.create_model_package_group(ModelPackageGroupName=GROUP)
        yield service


def register(service: Any, content: bytes, status: str = "Approved", archive: bytes | None = None) -> None:
    """Add a version whose archive has one file."""
    key = f"{len(content)}-{status}.tar.gz"
    if archive is None:
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz") as opened:
            member = tarfile.TarInfo("model.onnx")
            member.size = len(content)
            opened.addfile(member, io.BytesIO(content))
        archive = packed.getvalue()
    boto3.client("s3").put_object(Bucket=BUCKET, Key=key, Body=archive)
    service.create_model_package(
        ModelPackageGroupName=GROUP,
        ModelApprovalStatus=status,
        InferenceSpecification={
            "Containers": [{"Image": "image", "ModelDataUrl": f"s3://{BUCKET}/{key}"}],
            "SupportedContentTypes": ["text/csv"],
            "SupportedResponseMIMETypes": ["text/csv"],
        },
    )


def test_the_newest_approved_version_is_downloaded_once(aws: Any, tmp_path: Path) -> None:
    registry = Registry(GROUP, tmp_path / "downloads", aws_client)
    assert registry.look() is None
    register(aws, b"first")
    register(aws, b"waiting", "PendingManualApproval")
    first = registry.look()
    assert first is not None
    assert (first.path / "model.onnx").read_bytes() == b"first"
    assert registry.look() == first
    register(aws, b"the second")
    second = registry.look()
    assert second is not None
    assert (second.path / "model.onnx").read_bytes() == b"the second"
    assert second.digest != first.digest


def test_a_version_without_a_usable_model_is_waited_out(aws: Any, tmp_path: Path) -> None:
    register(aws, b"x", archive=b"no archive")
    registry = Registry(GROUP, tmp_path / "downloads", aws_client)
    with pytest.raises(Unreachable, match="is no model"):
        registry.look()
    register(aws, b"good")
    found = registry.look()
    assert found is not None
    assert (found.path / "model.onnx").read_bytes() == b"good"
    with pytest.raises(Unreachable, match="does not respond"):
        Registry("none", tmp_path, lambda _: object()).look()
