"""The entry point of the figures of ``bench``."""

from __future__ import annotations

import pytest

from tests.benchmarks.bench import __main__ as entry_point
from tests.benchmarks.bench import figure


def test_a_missed_figure_is_marked_and_sets_the_exit_status(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = figure.at_least("good", 3, 3), figure.at_most("bad", 3, 2)
    monkeypatch.setitem(entry_point.FIGURES, "report", lambda: [good, figure.Figure("beside", "5")])
    assert entry_point.main(["report"]) == 0
    monkeypatch.setitem(entry_point.FIGURES, "slo", lambda: [bad])
    assert entry_point.main(["slo", "report"]) == 1
    assert "MISSED" in capsys.readouterr().out
