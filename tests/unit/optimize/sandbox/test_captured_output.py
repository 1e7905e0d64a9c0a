"""Captured output: warnings, log records and prints are collected, and the handlers are restored."""

from __future__ import annotations

import logging
import sys
import warnings

import pytest

from optimize.sandbox.captured_output import captured


def test_output_is_collected_without_duplicates(capsys: pytest.CaptureFixture[str]) -> None:
    with captured() as said:
        for _ in range(2):
            warnings.warn("old", FutureWarning, stacklevel=1)
            logging.warning("please consider")
            sys.stdout.write("collecting\n")
            sys.stderr.write("to stderr\n")
    assert said == ["FutureWarning: old", "root: please consider", "collecting", "to stderr"]
    assert capsys.readouterr() == ("", "")


def test_a_failing_block_keeps_its_output_and_restores_handlers() -> None:
    before = list(logging.root.handlers)
    heard: list[list[str]] = []

    def step() -> None:
        with captured() as said:
            heard.append(said)
            sys.stdout.write("before the fall\n")
            raise ValueError("step")

    with pytest.raises(ValueError, match="step"):
        step()
    assert heard == [["before the fall"]]
    assert logging.root.handlers == before
