"""Temporary folders: private, and gone when the last one that needs them has let go."""

from __future__ import annotations

import subprocess
import sys

import pytest

from server.temporary_folder import SentFolder

HOLDER = """
import sys, pathlib
from server.temporary_folder import SentFolder
folder = SentFolder(pathlib.Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def test_the_last_holder_removes_the_folder() -> None:
    first = SentFolder()
    assert first.path.stat().st_mode & 0o077 == 0
    (first.path / "1").mkdir()
    second = SentFolder(first.path)
    first.remove()
    first.remove()
    assert first.path.is_dir()
    second.remove()
    assert not first.path.exists()
    with pytest.raises(FileNotFoundError):
        SentFolder(first.path)


def test_a_holder_that_nobody_refers_to_lets_go() -> None:
    first, path = SentFolder(), None
    path = first.path
    del first
    assert not path.exists()


def test_another_process_holds_it_until_it_is_killed() -> None:
    folder = SentFolder()
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        folder.remove()
        assert folder.path.is_dir()
        ours = SentFolder(folder.path)
        holder.kill()
    ours.remove()
    assert not folder.path.exists()
