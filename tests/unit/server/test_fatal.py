"""The fatal cause: one line, whatever was raised, and found again in a log."""

from __future__ import annotations

import pytest

from server import fatal
from server.errors import BadSetting


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (BadSetting("no such port"), "cannot serve: no such port"),
        (BadSetting("over\n  two lines"), "cannot serve: over two lines"),
        (ModuleNotFoundError("No module named 'x'"), "cannot serve: ModuleNotFoundError: No module named 'x'"),
        (KeyError(), "cannot serve: KeyError"),
        (SystemExit(3), "cannot serve: the model's code ended the process (sys.exit(3))"),
    ],
)
def test_the_line_says_the_kind_only_of_errors_that_are_not_ours(error: BaseException, said: str) -> None:
    assert fatal.line(error) == said


def test_the_line_is_found_in_a_log_without_what_surrounds_it() -> None:
    log = f"INFO listening\n2026 CRITICAL slipway: {fatal.line(BadSetting('this'))}\nTraceback\n"
    assert fatal.found_in(log) == "this"
    assert fatal.found_in("INFO listening\n") is None
    assert fatal.found_in("") is None
