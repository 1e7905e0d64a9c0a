"""The supervisor: exit codes pass through, and a crash is one line without leftovers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[4]

PROGRAM = """
import os, pathlib, signal, sys, tempfile
from optimize.sandbox import supervisor
{first}
def command():
    pathlib.Path(sys.argv[2], f"left-{{os.getpid()}}").mkdir()
    pathlib.Path(tempfile.mkdtemp(), "large").touch()
    print("working", flush=True)
    {body}

sys.exit(supervisor.supervise(command, lambda pid: [pathlib.Path(sys.argv[2], f"left-{{pid}}")]))
"""


LATE = """
forwarded = supervisor._forwarded
def late(child):
    while signal.SIGTERM not in signal.sigpending(): os.sched_yield()
    return forwarded(child)
supervisor._forwarded = late
"""
"""The signal comes before there is a handler for it."""


def run(body: str, folder: Path, first: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", PROGRAM.format(body=body, first=first), "x", str(folder)]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, env={"TMPDIR": str(folder), "PATH": "/usr/bin"}
    )


@pytest.mark.parametrize(
    ("body", "code"), [("return 0", 0), ("return 2", 2), ("sys.exit(3)", 3), ("raise ValueError('x')", 1)]
)
def test_the_exit_code_is_the_commands(body: str, code: int, tmp_path: Path) -> None:
    done = run(body, tmp_path)
    assert (done.returncode, done.stdout) == (code, "working\n")


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGABRT", "SIGKILL"])
def test_a_crash_is_one_line_and_leaves_nothing(name: str, tmp_path: Path) -> None:
    done = run(f"os.kill(os.getpid(), signal.{name})", tmp_path)
    assert done.returncode == 1
    assert name in done.stderr
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("first", ["", LATE], ids=["at any time", "before it can be forwarded"])
def test_a_terminated_command_ends_its_child(first: str, tmp_path: Path) -> None:
    done = run("os.kill(os.getppid(), signal.SIGTERM); signal.pause()", tmp_path, first)
    assert "SIGTERM" in done.stderr


def test_the_path_of_a_socket_fits_where_the_path_of_the_temporary_folder_is_long(tmp_path: Path) -> None:
    folder = tmp_path / ("t" * 150)
    folder.mkdir()
    body = "import socket; socket.socket(socket.AF_UNIX).bind(tempfile.mktemp('x' * 30)); return 0"
    done = run(body, folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert [one.name for one in folder.iterdir() if one.name.startswith("slipway-")] == []
