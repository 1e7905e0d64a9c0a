"""The GPU test loses one stage by a crash or a hang, and counts nothing as passed that has not run on a GPU."""

from __future__ import annotations

import importlib
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.gpu import report
from tests.gpu.__main__ import end_group, main, one
from tests.gpu.record import Check, Found, Record, read
from tests.gpu.stages import STAGES, Place, Stage, chosen

OK = Check("it works", True, "")
WRONG = Check("it agrees", False, "12 dB")
OPEN = Check("values", None, "")


@pytest.mark.parametrize(
    ("found", "code", "device", "status"),
    [
        (Found([OK], ended=True), 0, "cuda", report.PASSED),
        (Found([OK], ended=True), 0, "cpu", report.REHEARSED),
        (Found([OK, OPEN], ended=True), 0, "fake", report.REHEARSED),
        (Found([OK, WRONG], ended=True), 0, "cuda", report.FAILED),
        (Found([OK, WRONG]), None, "cuda", report.FAILED),
        (Found([OK]), None, "cuda", report.TIMED_OUT),
        (Found([OK]), 0, "cuda", report.CRASHED),
        (Found([OK], ended=True), -11, "cuda", report.CRASHED),
        (Found(ended=True), 0, "cuda", report.FAILED),
        (Found([OPEN], ended=True), 0, "cuda", report.FAILED),
        (Found([OK], not_run="no GPU", ended=True), 0, "cuda", report.NOT_RUN),
    ],
)
def test_a_stage_passes_only_by_checks_on_a_gpu_that_it_has_finished(
    found: Found, code: int | None, device: str, status: str
) -> None:
    assert report.judge(found, code, device, "")[0] == status


def test_what_has_not_run_is_no_success() -> None:
    passed = report.Result("a", report.PASSED, "", 1.0, Found([OK], ended=True))
    missing = report.Result("b", report.NOT_RUN, "no time", 0.0, Found())
    optional = report.Result("c", report.NOT_RUN, "no TensorRT", 0.0, Found(), optional=True)
    failed = report.Result("d", report.FAILED, "", 1.0, Found([WRONG], ended=True))
    assert [report.exit_code(one) for one in ([passed], [passed, optional], [passed, missing], [missing, failed])] == [
        *(0, 0, 2, 1)
    ]
    assert "1 passed, 1 not run" in report.table([passed, missing], "cuda", 1.0)


def test_a_crash_names_the_error_and_keeps_what_was_found(tmp_path: Path) -> None:
    result = one(Stage("crash", f"{__name__}:crashes", 30), _place(tmp_path), tmp_path, 30, [])
    assert result.status == report.CRASHED
    assert "ZeroDivisionError" in result.why
    assert [check.name for check in result.found.checks] == ["before the crash"]


@pytest.mark.timeout(30)
def test_a_stage_is_killed_with_what_it_started() -> None:
    starts = "import subprocess; p = subprocess.Popen(['sleep', '600']); print('started', flush=True); p.wait()"
    child = subprocess.Popen([sys.executable, "-c", starts], stdout=subprocess.PIPE, start_new_session=True)
    assert child.stdout is not None
    with child.stdout as said:
        assert said.readline() == b"started\n"
        end_group(child)
        # The end of the pipe comes when no process holds it any more.
        assert said.read() == b""
    assert child.returncode == -signal.SIGKILL


def test_a_stage_without_its_files_or_time_is_not_run(tmp_path: Path) -> None:
    stage = Stage("second", f"{__name__}:crashes", 30, ("first",))
    first = report.Result("first", report.CRASHED, "", 1.0, Found([OK]))
    assert one(stage, _place(tmp_path), tmp_path, 30, [first]).why == "it needs first"
    assert "budget" in one(Stage("late", f"{__name__}:crashes", 30), _place(tmp_path), tmp_path, 1, []).why
    assert not list(tmp_path.glob("*.log"))


def test_a_run_writes_its_result_and_its_table(tmp_path: Path) -> None:
    code = main(["--device", "cpu", "--out", str(tmp_path), "--only", "tensorrt", "--patience", "20"])
    result = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))
    assert (code, result["counts"], result["stages"][0]["status"]) == (0, False, report.NOT_RUN)
    assert "TensorRT" in (tmp_path / "table.txt").read_text(encoding="utf-8")


def test_every_stage_exists_and_needs_what_stands_before_it() -> None:
    names: list[str] = []
    for stage in STAGES:
        module, _, function = stage.run.partition(":")
        assert callable(getattr(importlib.import_module(module), function))
        assert set(stage.needs) <= set(names)
        names.append(stage.name)
    assert len(set(names)) == len(names)
    assert [stage.name for stage in chosen("versions,provider", "provider")] == ["versions"]
    with pytest.raises(ValueError, match="no stage nonsense"):
        chosen("nonsense", "")


def test_a_record_is_complete_after_every_entry(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    record = Record(path, computes=False)
    record.check("a value", False, of_values=True)
    record.figure("rate", 2, "rows/s")
    assert [check.passed for check in read(path).checks] == [None]
    assert read(path).figures[0].value == 2.0
    assert read(tmp_path / "none.json") == Found()


def _place(work: Path) -> Place:
    return Place("cuda", work)


def crashes(place: Place, record: Record) -> None:
    record.check("before the crash", True)
    record.figure("never", 1 / 0, "")
