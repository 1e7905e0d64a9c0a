"""Progress: plain lines in a log, a live line on a terminal."""

from __future__ import annotations

import io

from rich.console import Console

from optimize.progress import Display
from tests.fakes import FakeClock


def test_a_log_gets_plain_lines_and_not_too_many() -> None:
    text, clock = io.StringIO(), FakeClock()
    with Display(Console(file=text, width=100), clock.seconds).stage("Building") as stage:
        stage.say("first [candidate]")
        for done in range(1, 21):
            clock.now_s += 0.5
            stage.count(done, 20)
        stage.result = "done"
    assert text.getvalue().splitlines() == [
        "Building",
        "  first [candidate]",
        "  10 of 20",
        "  20 of 20",
        "  done, 10.0 s",
    ]


def test_a_terminal_keeps_one_line_for_each_stage() -> None:
    text = io.StringIO()
    console = Console(file=text, force_terminal=True, width=100, color_system=None)
    with Display(console, FakeClock().seconds).stage("Building") as stage:
        stage.say("candidate")
        stage.count(1, 2)
        stage.result = "done"
    assert text.getvalue().rstrip().endswith("✓ Building  done, 0.0 s")
