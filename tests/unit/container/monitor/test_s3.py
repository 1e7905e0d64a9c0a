"""Capture to S3 and checks of S3 with the real client, against a stand-in for the service in this process."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from container.monitor.__main__ import main
from server.observe.capture.files import Files
from server.observe.capture.record import Encoder, Taken
from server.observe.capture.upload import Uploads, s3_client

BUCKET = "captures"
HOUR_S = 1_769_860_800


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, "none")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with mock_aws():
        client = boto3.client("s3")
        client.create_bucket(Bucket=BUCKET)
        yield client


def test_captured_requests_go_to_s3_and_are_checked_there(s3: Any, tmp_path: Path) -> None:
    uploads = Uploads(BUCKET, "cap", tmp_path, s3_client)
    files, encoder = Files(tmp_path, 10**9, uploads.add), Encoder()
    headers = [(b"content-type", b"text/csv")]
    for at in range(400):
        taken: Taken = (HOUR_S * 10**9, "m", "1", headers, f"{at % 17},x\n".encode(), b"text/csv", b"1\n", [])
        files.write("m", HOUR_S, encoder.line(taken))
    files.close()
    uploads.run()
    assert uploads.failed == 0
    assert list(tmp_path.rglob("*.jsonl")) == []
    (found,) = s3.list_objects_v2(Bucket=BUCKET)["Contents"]
    assert found["Key"].startswith("cap/m/AllTraffic/2026/01/31/12/")
    place, base, out = f"s3://{BUCKET}/cap/m", f"s3://{BUCKET}/base", f"s3://{BUCKET}/out"
    assert main(["baseline", place, "--out", base], {}) == 0
    assert main(["check", place, "--baseline", base, "--out", out, "--fail"], {}) == 0
    statistics = json.loads(s3.get_object(Bucket=BUCKET, Key="out/statistics.json")["Body"].read())
    assert statistics["dataset"]["item_count"] == 400


def test_a_bucket_that_is_not_there(s3: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    uploads = Uploads("none", "", tmp_path, s3_client)
    path = tmp_path / "x.jsonl"
    path.write_bytes(b"1\n")
    uploads.add(path)
    uploads.run()
    assert (uploads.failed, path.exists()) == (1, True)
    assert main(["check", "s3://none/x", "--baseline", "s3://none/b", "--out", str(tmp_path)], {}) == 1
    assert main(["baseline", "s3://none/x", "--out", str(tmp_path)], {}) == 1
    assert capsys.readouterr().err.count("\n") == 2
