"""Autogroups: niceness counts within a session, so that the session itself is raised, and put back."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.observe import autogroup, held, tree

CAN, CANNOT = "CapEff:\t0000000000800000\n", "CapEff:\t0000000000000000\n"


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with two sessions: of the processes 7 and 8, which is bench or the server, and of 9."""
    (tmp_path / autogroup.ENABLED).parent.mkdir(parents=True)
    (tmp_path / autogroup.ENABLED).write_text("1\n")
    for pid, session in ((7, 70), (8, 70), (9, 90)):
        (tmp_path / f"proc/{pid}").mkdir()
        (tmp_path / f"proc/{pid}/autogroup").write_text(f"/autogroup-{session} nice 0\n")
        (tmp_path / f"proc/{pid}/cgroup").write_text("1:cpu:/\n0::/\n")
    (tmp_path / "proc/self").mkdir()
    (tmp_path / "proc/self/status").write_text(CAN)
    monkeypatch.setattr(tree, "with_children", lambda pids: tuple(pids))
    monkeypatch.setattr(tree, "ancestors", lambda _pids: {1})
    monkeypatch.setattr(held, "_threads", lambda _pids: [])
    return tmp_path


def niceness(root: Path, pid: int) -> str:
    return (root / f"proc/{pid}/autogroup").read_text()


@pytest.fixture
def kernel(machine: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Writes as the kernel takes them, which shows a group's niceness in the file of each of its processes.

    The numbers of the errors that the next writes meet.
    """
    errors: list[int] = []

    def write(path: Path, text: str, encoding: str) -> int:
        if errors and (number := errors.pop(0)):
            raise OSError(number, os.strerror(number))
        name, _ = autogroup.read(path)
        for other in machine.glob("proc/*/autogroup"):
            if autogroup.read(other)[0] == name:
                with other.open("w", encoding=encoding) as file:
                    file.write(f"{name} nice {text}\n")
        return len(text)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", write)
        yield errors


@pytest.mark.usefixtures("kernel")
def test_the_session_of_a_process_is_raised_and_put_back(machine: Path) -> None:
    put_back = held.run_ahead([7], root=machine)
    assert niceness(machine, 7) == niceness(machine, 8) == f"/autogroup-70 nice {held.RAISED_NICENESS}\n"
    assert niceness(machine, 9) == "/autogroup-90 nice 0\n"
    put_back()
    assert niceness(machine, 7) == niceness(machine, 8) == "/autogroup-70 nice 0\n"


@pytest.mark.usefixtures("kernel")
def test_a_session_is_put_back_by_a_process_that_is_left_in_it(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_back = held.run_ahead([7], root=machine)
    monkeypatch.setattr(tree, "with_children", lambda _pids: (8,))
    (machine / "proc/7/autogroup").unlink()
    put_back()
    assert niceness(machine, 8) == "/autogroup-70 nice 0\n"


@pytest.mark.usefixtures("kernel")
def test_a_session_with_other_programs_is_not_raised_for_the_generator(machine: Path) -> None:
    held.run_ahead([7], alone=True, root=machine)
    assert niceness(machine, 7) == "/autogroup-70 nice 0\n"
    held.run_ahead([7, 8], alone=True, root=machine)
    assert niceness(machine, 7) == f"/autogroup-70 nice {held.RAISED_NICENESS}\n"


def test_a_session_that_may_not_be_raised_leaves_the_others_as_they_were(machine: Path, kernel: list[int]) -> None:
    kernel += [0, errno.EPERM]
    with pytest.raises(PermissionError):
        held.run_ahead([7, 9], root=machine)
    assert niceness(machine, 7) == "/autogroup-70 nice 0\n"


def test_a_change_that_comes_too_soon_for_the_kernel_is_made_again(machine: Path, kernel: list[int]) -> None:
    waited: list[float] = []
    files = autogroup.of([7], machine)["/autogroup-70"]
    kernel += [errno.EAGAIN, errno.EAGAIN]
    assert autogroup.set_niceness("/autogroup-70", files, -15, waited.append) == 0
    assert waited == [autogroup.WAIT_S] * 2
    assert niceness(machine, 7) == "/autogroup-70 nice -15\n"
    kernel += [errno.EAGAIN] * autogroup.ATTEMPTS
    with pytest.raises(BlockingIOError):
        autogroup.set_niceness("/autogroup-70", files, 0, waited.append)


def test_processes_that_left_their_session_are_not_changed(machine: Path) -> None:
    files = autogroup.of([7], machine)["/autogroup-70"]
    (machine / "proc/7/autogroup").write_text("/autogroup-71 nice 0\n")
    assert autogroup.set_niceness("/autogroup-70", files, -15) is None
    assert niceness(machine, 7) == "/autogroup-71 nice 0\n"


def test_where_the_kernel_makes_no_autogroups_there_is_none(machine: Path) -> None:
    (machine / autogroup.ENABLED).write_text("0\n")
    assert autogroup.of([7], machine) == {}
    (machine / autogroup.ENABLED).unlink()
    assert autogroup.of([7], machine) == {}


def test_a_priority_is_raised_with_the_right_to_do_so_alone(machine: Path) -> None:
    assert held.may_hold(held.PRIORITY, [7, 8], machine)
    (machine / "proc/self/status").write_text(CANNOT)
    assert not held.may_hold(held.PRIORITY, [7, 8], machine)
    (machine / "proc/self/status").unlink()
    assert not held.may_hold(held.PRIORITY, [7, 8], machine)


def test_a_session_that_this_user_may_not_change_is_not_raised(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, _mode: path != machine / "proc/8/autogroup")
    assert held.may_hold(held.PRIORITY, [7], machine)
    assert not held.may_hold(held.PRIORITY, [7, 8], machine)


@pytest.mark.parametrize(
    ("lines", "group", "may"),
    [
        ("1:cpu,cpuacct:/box\n", "cpu,cpuacct/box/cpu.shares", False),
        ("0::/box/inner\n", "box/cpu.weight", False),
        ("0::/box\n", "box/cgroup.procs", True),
        ("1:cpu:/\n", "cpu/cpu.shares", True),
        ("0::/\n", "cpu.weight", True),
    ],
)
def test_a_group_with_a_weight_of_its_own_makes_priorities_void(
    machine: Path, lines: str, group: str, may: bool
) -> None:
    """The top of a mount is that of the machine, or of the container with all processes in it."""
    path = machine / "sys/fs/cgroup" / group
    path.parent.mkdir(parents=True)
    path.write_text("100\n")
    (machine / "sys/fs/cgroup/box/inner").mkdir(parents=True, exist_ok=True)
    (machine / "proc/8/cgroup").write_text(lines)
    assert held.may_hold(held.PRIORITY, [7, 8], machine) == may


needs_autogroups = pytest.mark.skipif(
    not autogroup.of([os.getpid()]) or not held.may_hold(held.PRIORITY, [os.getpid()]),
    reason="the kernel makes no autogroups, or this user may not change them",
)


@needs_autogroups
def test_the_kernel_raises_and_puts_back_a_session() -> None:
    ready, wait = os.pipe()
    hold, release = os.pipe()
    if not (pid := os.fork()):
        with contextlib.suppress(BaseException):
            os.setsid()
            os.write(wait, b".")
            os.close(release)
            os.read(hold, 1)
        os._exit(0)
    os.read(ready, 1)
    path = Path(f"/proc/{pid}/autogroup")
    try:
        _, before = autogroup.read(path)
        with held.held(held.PRIORITY, [pid]):
            assert autogroup.read(path)[1] == held.RAISED_NICENESS
        assert autogroup.read(path)[1] == before
    finally:
        for end in (ready, wait, hold, release):
            os.close(end)
        os.waitpid(pid, 0)
