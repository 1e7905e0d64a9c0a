"""Watched files: a change is seen once, and files that cannot be used change nothing."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from server.errors import BadSetting
from server.watched_files import WatchedFiles


def test_a_change_is_seen_once(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_text("1")
    files = WatchedFiles("keys", [one, other], lambda: None)
    assert not files.changed()
    other.write_text("new")
    assert files.changed()
    assert not files.changed()
    (tmp_path / "fresh").write_text("2")
    (tmp_path / "fresh").replace(one)  # of the same size: another file
    assert files.changed()
    one.unlink()
    assert files.changed()
    assert not files.changed()


def test_what_cannot_be_read_is_logged_and_tried_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    faults = [BadSetting("not a key")]

    def read() -> None:
        if faults:
            raise faults.pop()

    files = WatchedFiles("API keys", [tmp_path / "keys"], read)
    with caplog.at_level(logging.INFO):
        files.reread()
        files.reread()
    assert ["not a key" in line for line in caplog.messages] == [True, False]
    assert caplog.messages[1] == "files read again what=API keys"
