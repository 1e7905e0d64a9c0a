"""The commands: baseline, check and report over folders and S3, quality against late labels, and clear failures."""

from __future__ import annotations

import gzip
import io
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from container.monitor.__main__ import main
from container.monitor.places import MAX_LINE_BYTES, Place
from server.observe.capture.record import Encoder

HOUR_S = 1_769_860_800  # 2026-01-31 12:00


class FakeS3:
    """Objects in memory, behind the calls that the monitor makes."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], bytes] = {}

    def get_paginator(self, _name: str) -> FakeS3:
        return self

    def paginate(self, Bucket: str, Prefix: str) -> Iterator[dict[str, Any]]:  # noqa: N803 - names of the service
        keys = sorted(key for bucket, key in self.objects if bucket == Bucket and key.startswith(Prefix))
        for key in keys:  # a page each
            yield {"Contents": [{"Key": key}]}

    def get_object(self, Bucket: str, Key: str) -> dict[str, Any]:  # noqa: N803 - names of the service
        return {"Body": io.BytesIO(self.objects[Bucket, Key])}

    def put_object(self, Bucket: str, Key: str, Body: bytes) -> None:  # noqa: N803 - names of the service
        self.objects[Bucket, Key] = Body


def capture_lines(count: int, seed: int, shift: float = 0.0, wrong: float = 0.0) -> tuple[list[bytes], list[bytes]]:
    """Captured events of a classifier of one row, and the labels of each by its inference id.

    ``shift``: added to the first column. ``wrong``: share of labels that are not the prediction.
    """
    random, encoder = np.random.default_rng(seed), Encoder()
    lines, labels = [], []
    for at in range(count):
        row = [round(float(random.normal(shift)), 4), str(random.choice(["red", "blue"]))]
        scores = random.dirichlet([1, 1]).round(4).tolist()
        identity = f"{seed}-{at}"
        asked = [(b"content-type", b"text/csv"), (b"x-amzn-sagemaker-inference-id", identity.encode())]
        body, answer = f"{row[0]},{row[1]}\n".encode(), json.dumps({"predictions": [scores]}).encode()
        lines.append(encoder.line(((HOUR_S + at) * 10**9, "m", "1", asked, body, b"application/json", answer, [])))
        truth = int(np.argmax(scores)) ^ int(random.random() < wrong)
        label = {"groundTruthData": {"data": str(truth), "encoding": "CSV"}, "eventMetadata": {"eventId": identity}}
        labels.append(json.dumps({**label, "eventVersion": "0"}).encode() + b"\n")
    return lines, labels


def write(folder: Path, lines: list[bytes], hour: str = "12") -> Path:
    path = folder / "m" / "AllTraffic" / "2026" / "01" / "31" / hour / "00-00-000-x.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(lines))
    return folder


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def run(*arguments: object, **more: Any) -> int:
    return main([str(one) for one in arguments], {}, **more)


def test_a_check_finds_a_shifted_column_and_worse_predictions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, labels = capture_lines(1_000, 1)
    worse, later = capture_lines(600, 2, shift=0.6, wrong=0.2)
    for name, lines in (("good", good), ("good-labels", labels), ("bad", worse), ("bad-labels", later[:500])):
        write(tmp_path / name, [*lines, b"no json\n"])
    base, out = tmp_path / "base", tmp_path / "out"
    columns = ["--columns", "height,colour"]
    assert run("baseline", tmp_path / "good", "--labels", tmp_path / "good-labels", "--out", base, *columns) == 0
    statistics = read(base / "statistics.json")
    assert statistics["dataset"]["item_count"] == 1_000
    kinds = {one["name"]: one["inferred_type"] for one in statistics["features"]}
    assert kinds == {
        "height": "Fractional", "colour": "String", "output._c0": "Fractional", "output._c1": "Fractional"
    }  # fmt: skip
    quality = read(base / "quality_statistics.json")["binary_classification_metrics"]
    assert quality["accuracy"] == {"value": 1.0, "standard_deviation": 0.0015}
    arguments = ("check", tmp_path / "bad", "--baseline", base, "--labels", tmp_path / "bad-labels", "--out", out)
    assert run(*arguments) == 0
    assert run(*arguments, "--fail") == 3
    rows = read(out / "constraint_violations.json")["violations"]
    assert [(row["feature_name"], row["constraint_check_type"]) for row in rows] == [("height", "baseline_drift_check")]
    assert re.search(r"distance 0\.\d+ \(0\.\d+ to 0\.\d+\)", rows[0]["description"])
    accuracy = read(out / "quality_statistics.json")["binary_classification_metrics"]["accuracy"]
    assert 0.7 < accuracy["value"] < 0.9
    assert 0 < accuracy["standard_deviation"] < 0.05
    assert {"accuracy"} <= {row["metric_name"] for row in read(out / "quality_violations.json")["violations"]}
    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families((out / "slipway_monitor.prom").read_text())
        for sample in family.samples
    }
    assert samples["slipway_monitor_violations", "baseline_drift_check"] == 1
    assert samples["slipway_monitor_drift_ratio", "low", "height"] > 0
    assert samples["slipway_monitor_bad_lines",] == 1
    page = (out / "report.html").read_text()
    assert "height" in page
    assert "no labels" not in page
    assert "100 events have none yet" in page
    assert "http" not in re.sub(r"http://www.w3.org/\S+", "", page)
    said = capsys.readouterr().out
    assert "violation: height: baseline_drift_check" in said
    assert "1 lines skipped (1 no JSON)" in said


def test_clean_data_has_no_violations_and_the_report_is_made_again(tmp_path: Path) -> None:
    write(tmp_path / "good", capture_lines(800, 3)[0])
    write(tmp_path / "now", capture_lines(400, 4)[0])
    assert run("baseline", tmp_path / "good", "--out", tmp_path / "base") == 0
    assert run("check", tmp_path / "now", "--baseline", tmp_path / "base", "--out", tmp_path / "out", "--fail") == 0
    page = (tmp_path / "out" / "report.html").read_text()
    assert "no violations" in page
    (tmp_path / "out" / "report.html").unlink()
    assert run("report", tmp_path / "out") == 0
    assert len((tmp_path / "out" / "report.html").read_text()) > len(page) * 0.9


def test_a_baseline_from_training_data_names_the_columns_of_requests(tmp_path: Path) -> None:
    random = np.random.default_rng(5)
    rows = [f"{random.normal():.4f},{random.choice(['red', 'blue'])}\n" for _ in range(900)]
    (tmp_path / "train.csv").write_text("height,colour\n" + "".join(rows))
    write(tmp_path / "now", capture_lines(400, 6, shift=1.0)[0])
    assert run("baseline", tmp_path / "train.csv", "--format", "csv", "--out", tmp_path / "base") == 0
    assert run("check", tmp_path / "now", "--baseline", tmp_path / "base", "--out", tmp_path / "out") == 0
    rows_found = read(tmp_path / "out" / "constraint_violations.json")["violations"]
    assert [row["feature_name"] for row in rows_found] == ["height"]


def test_s3_and_the_variables_of_a_monitoring_job(tmp_path: Path) -> None:
    s3 = FakeS3()
    for hour in ("11", "12"):
        lines = capture_lines(300, int(hour), shift=5.0 if hour == "11" else 0.0)[0]
        s3.objects["b", f"cap/m/AllTraffic/2026/01/31/{hour}/x.jsonl"] = b"".join(lines)
    twelve = ("--start", "2026-01-31T12:00", "--end", "2026-01-31T13:00")
    assert run("baseline", "s3://b/cap", "--out", "s3://b/base", *twelve, client=lambda: s3) == 0
    environ = {
        "dataset_source": "s3://b/cap",
        "output_path": "s3://b/out",
        "baseline_statistics": "s3://b/base/statistics.json",
        "baseline_constraints": "s3://b/base/constraints.json",
        "start_time": "2026-01-31T12:00:00Z",
        "end_time": "2026-01-31T13:00:00Z",
    }
    assert main(["check", "--fail"], environ, lambda: s3) == 0
    assert json.loads(s3.objects["b", "out/statistics.json"])["dataset"]["item_count"] == 300
    assert main(["check", "--fail"], {**environ, "start_time": "2026-01-31T11:00:00Z"}, lambda: s3) == 3


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["baseline", "{}/nothing", "--out", "{}/o"], "is no file and no folder"),
        (["baseline", "{}/empty", "--out", "{}/o"], "has no .jsonl"),
        (["baseline", "{}/nonsense", "--out", "{}/o"], "no captured event (2 lines: no JSON)"),
        (["baseline", "{}/good", "--out", "/proc/no"], "cannot be written"),
        (["check", "{}/good", "--baseline", "{}/empty", "--out", "{}/o"], "cannot be read"),
        (["check", "{}/good", "--baseline", "{}/broken", "--out", "{}/o"], "is no JSON"),
        (["baseline", "{}/good", "--labels", "{}/good", "--out", "{}/o"], "has no labels"),
        (["baseline", "s3://", "--out", "{}/o"], "names no bucket"),
        (["report", "{}/empty"], "cannot be read"),
    ],
)
def test_a_failure_is_one_sentence(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    write(tmp_path / "good", capture_lines(3, 7)[0])
    write(tmp_path / "nonsense", [b"a\n", b"b\n"])
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "statistics.json").write_text("{")
    assert run(*(one.replace("{}", str(tmp_path)) for one in arguments), client=FakeS3) == 1
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_a_long_line_is_skipped_without_being_held(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(b"a\n" + b"x" * (2 * MAX_LINE_BYTES + 5) + b"\nb\n")
    place = Place(str(path), FakeS3)
    assert [line for _, line in place.lines()] == [b"a\n", b"b\n"]
    assert place.long_lines == 1


def test_a_compressed_file_that_is_cut_off_counts_as_far_as_it_goes(tmp_path: Path) -> None:
    whole = gzip.compress(b"".join(capture_lines(50, 8)[0]))
    (tmp_path / "a.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "b.jsonl.gz").write_bytes(b"no gzip")
    (tmp_path / "c.jsonl.gz").write_bytes(whole)
    assert run("baseline", tmp_path, "--out", tmp_path / "base") == 0
    assert 50 <= read(tmp_path / "base" / "statistics.json")["dataset"]["item_count"] < 100


def test_hours_limit_the_files(tmp_path: Path) -> None:
    for hour in ("10", "11", "12"):
        write(tmp_path, [hour.encode() + b"\n"], hour)
    place = Place(str(tmp_path), FakeS3, datetime(2026, 1, 31, 11, tzinfo=UTC), datetime(2026, 1, 31, 12, tzinfo=UTC))
    assert [line for _, line in place.lines()] == [b"11\n"]
