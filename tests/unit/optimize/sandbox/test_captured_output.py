"""Silence: warnings, log records and prints end in the record, and everything is as before afterwards."""

from __future__ import annotations

import logging
import sys
import warnings

import pytest

from optimize.sandbox import captured_output as quiet


def test_everything_said_is_recorded_once(capsys: pytest.CaptureFixture[str]) -> None:
    with quiet.captured() as said:
        for _ in range(2):
            warnings.warn("old", FutureWarning, stacklevel=1)
            logging.warning("please consider")
            sys.stdout.write("collecting\n")
            sys.stderr.write("to stderr\n")
    assert said == ["FutureWarning: old", "root: please consider", "collecting", "to stderr"]
    assert capsys.readouterr() == ("", "")


def test_the_record_survives_a_failure_and_handlers_come_back() -> None:
    before = list(logging.root.handlers)
    heard: list[list[str]] = []

    def step() -> None:
        with quiet.captured() as said:
            heard.append(said)
            sys.stdout.write("before the fall\n")
            raise ValueError("step")

    with pytest.raises(ValueError, match="step"):
        step()
    assert heard == [["before the fall"]]
    assert logging.root.handlers == before
