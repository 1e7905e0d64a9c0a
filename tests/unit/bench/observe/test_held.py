"""What is held around a server: quotas and priorities, and that everything is put back."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from bench.errors import Unusable
from bench.observe import autogroup, held

VERSION_1, VERSION_2 = ("cpu.cfs_quota_us", "25000", "-1"), ("cpu.max", "25000 100000", "max")


def group(root: Path, version: tuple[str, str, str]) -> Path:
    """A control group with a quota, in which the process 7 is."""
    name, text, _ = version
    one = version == VERSION_1
    folder = root / "sys/fs/cgroup" / ("cpu" if one else ".") / "slow"
    folder.mkdir(parents=True)
    (folder / name).write_text(text)
    (root / "proc/7").mkdir(parents=True)
    (root / "proc/7/cgroup").write_text("4:cpu:/slow\n" if one else "0::/slow\n")
    return folder / name


PARENT = """
import subprocess, sys
for line in sys.stdin:
    print(subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE).pid, flush=True)
"""
"""Starts a child for each line."""
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root raises a priority")


@needs_root
def test_a_process_that_was_started_meanwhile_does_not_keep_the_priority() -> None:
    command = [sys.executable, "-c", PARENT]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        before = os.getpriority(os.PRIO_PROCESS, process.pid)
        with held.held(held.PRIORITY, [process.pid]):
            print(file=process.stdin, flush=True)
            child = int(process.stdout.readline())
            assert os.getpriority(os.PRIO_PROCESS, child) == held.RAISED_NICENESS
        assert os.getpriority(os.PRIO_PROCESS, child) == before
        process.kill()


def priorities(pid: int) -> list[int]:
    """The niceness of a process, and of its session where the kernel has one for it."""
    sessions = [path for files in autogroup.of([pid]).values() for path in files]
    return [os.getpriority(os.PRIO_PROCESS, pid), *(autogroup.read(path)[1] for path in sessions)]


HOLDS = """
import sys
from bench.observe import held
with held.held(held.PRIORITY, [int(sys.argv[1])]):
    print("holds", flush=True)
    input()
"""


@needs_root
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_priority_is_put_back_whatever_ends_the_process_that_holds_it(sleeper: int, number: int) -> None:
    before = priorities(sleeper)
    command = [sys.executable, "-c", HOLDS, str(sleeper)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "holds\n"
        assert set(priorities(sleeper)) == {held.RAISED_NICENESS}
        (holder,) = psutil.Process(process.pid).children()
        process.send_signal(number)
    holder.wait(20)
    assert priorities(sleeper) == before


@pytest.fixture
def sleeper() -> Iterator[int]:
    command = [sys.executable, "-c", "input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True) as process:
        yield process.pid
        process.kill()


@pytest.mark.parametrize("version", [VERSION_1, VERSION_2])
def test_a_quota_is_lifted_and_put_back(tmp_path: Path, version: tuple[str, str, str]) -> None:
    path = group(tmp_path, version)
    assert held.may_hold(held.QUOTA, [7], tmp_path)
    put_back = held.lift_quotas(7, tmp_path)
    assert path.read_text() == version[2]
    assert not held.may_hold(held.QUOTA, [7], tmp_path), "there is no quota left to lift"
    put_back()
    assert path.read_text() == version[1]


def test_a_quota_that_cannot_be_lifted_leaves_the_others_as_they_were(tmp_path: Path) -> None:
    path = group(tmp_path, VERSION_2)
    above = path.parents[1] / "cpu.max"
    above.symlink_to("/proc/version")  # no user may write it
    with pytest.raises(OSError):
        held.lift_quotas(7, tmp_path)
    assert path.read_text() == VERSION_2[1]


def test_no_process_means_nothing_to_hold() -> None:
    assert not held.may_hold(held.PRIORITY, [])
    assert not held.may_hold(held.QUOTA, [])


def test_a_priority_is_raised_while_the_block_runs_where_the_user_may(sleeper: int) -> None:
    before = os.getpriority(os.PRIO_PROCESS, sleeper)
    if held.may_hold(held.PRIORITY, [sleeper]):
        with held.held(held.PRIORITY, [sleeper]):
            assert os.getpriority(os.PRIO_PROCESS, sleeper) == held.RAISED_NICENESS
    else:
        with pytest.raises(Unusable, match="cannot be changed"), held.held(held.PRIORITY, [sleeper]):
            pass
    # The child puts it back after its input has ended, and the block waits for its end.
    assert os.getpriority(os.PRIO_PROCESS, sleeper) == before


def test_a_change_that_is_not_allowed_says_why() -> None:
    with pytest.raises(Unusable, match="the quota of the server cannot be changed: "), held.held(held.QUOTA, [-1]):
        pass
