"""Capture files: names by hour, completion by size and age, the bound on the folder, and uploads that are retried."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from server.observe.capture import files as module
from server.observe.capture.files import DiskFull, Files, capture_files, safe
from server.observe.capture.upload import Uploads, bucket_and_prefix
from tests.fakes import FakeClock

NOON_S = 1_769_860_800.0


def names(root: Path) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path, _ in capture_files(root))


def test_lines_go_to_a_file_of_their_model_and_hour(tmp_path: Path) -> None:
    clock = FakeClock(NOON_S + 61.5)
    files = Files(tmp_path, 10**9, clock=clock.seconds)
    files.write("a/b", NOON_S, b"1\n")
    files.write("a/b", NOON_S, b"2\n")
    files.write("a/b", NOON_S + 3600, b"3\n")
    files.close()
    first, second = names(tmp_path)
    assert re.fullmatch(r"a%2Fb/AllTraffic/2026/01/31/12/01-01-500-[0-9a-f-]{36}\.jsonl", first)
    assert second.startswith("a%2Fb/AllTraffic/2026/01/31/13/")
    assert (tmp_path / first).read_bytes() == b"1\n2\n"


def test_a_file_is_complete_at_its_age_and_at_its_size(tmp_path: Path) -> None:
    clock = FakeClock(NOON_S)
    complete: list[Path] = []
    files = Files(tmp_path, 4_000, complete.append, clock.seconds)
    files.write("m", NOON_S, b"x" * 10)
    clock.now_s += module.FILE_S - 1
    files.tick()
    assert complete == []
    clock.now_s += 1
    files.tick()
    assert len(complete) == 1
    files.write("m", NOON_S, b"x" * 1_000)
    assert len(complete) == 2


def test_the_oldest_files_are_deleted_and_no_others(tmp_path: Path) -> None:
    other = tmp_path / "m" / "notes.jsonl"
    other.parent.mkdir()
    other.write_bytes(b"y" * 50_000)
    os.utime(other, (1, 1))
    clock = FakeClock(NOON_S)
    complete: list[Path] = []
    files = Files(tmp_path, 4_000, complete.append, clock.seconds)
    for number in range(20):
        clock.now_s += 1
        files.write("m", clock.now_s, b"x" * 1_000)
        os.utime(complete[-1], (clock.now_s, clock.now_s))
        assert sum(stat.st_size for _, stat in capture_files(tmp_path)) <= 4_000, number
    assert files.deleted == 16
    assert [path for path in complete if path.exists()] == complete[-4:]
    assert other.exists()


def test_nothing_is_written_to_a_disk_that_is_nearly_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LEAST_FREE", 1.1)
    with pytest.raises(DiskFull):
        Files(tmp_path, 10**6).write("m", NOON_S, b"x")
    assert names(tmp_path) == []


def test_many_models_do_not_keep_many_files_open(tmp_path: Path) -> None:
    files = Files(tmp_path, 10**9)
    before = len(os.listdir("/proc/self/fd"))
    for number in range(3 * module.MOST_OPEN):
        files.write(f"m{number}", NOON_S, b"x\n")
    assert len(os.listdir("/proc/self/fd")) <= before + module.MOST_OPEN
    files.close()
    assert len(names(tmp_path)) == 3 * module.MOST_OPEN


@pytest.mark.parametrize("name", ["..", ".", "../../etc", "a/b", "x" * 300, "\u00e4\n"])
def test_a_model_s_name_is_one_part_of_a_path(name: str, tmp_path: Path) -> None:
    part = safe(name)
    assert (tmp_path / part).resolve().parent == tmp_path.resolve()
    assert len(part) <= 200


class Bucket:
    """An S3 client that keeps what it gets, and fails when it is told to."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], bytes] = {}
        self.fails = False

    def upload_file(self, path: str, bucket: str, key: str) -> None:
        if self.fails:
            raise ConnectionError("no network")
        self.objects[bucket, key] = Path(path).read_bytes()


def test_complete_files_move_to_the_bucket_and_failed_ones_are_tried_again(tmp_path: Path) -> None:
    bucket = Bucket()
    uploads = Uploads("b", "some/prefix", tmp_path, lambda: bucket)
    files = Files(tmp_path, 10**9, uploads.add)
    files.write("m", NOON_S, b"1\n")
    uploads.run()
    assert bucket.objects == {}  # the file is not complete
    files.close()
    bucket.fails = True
    uploads.run()
    uploads.run()
    assert uploads.failed == 2
    assert len(names(tmp_path)) == 1
    bucket.fails = False
    uploads.run()
    ((place, key),) = bucket.objects
    assert place == "b"
    assert re.fullmatch(r"some/prefix/m/AllTraffic/2026/01/31/12/.*\.jsonl", key)
    assert names(tmp_path) == []


def test_bucket_and_prefix() -> None:
    assert bucket_and_prefix("s3://b/c/d/") == ("b", "c/d")
    assert bucket_and_prefix("s3://b") == ("b", "")
