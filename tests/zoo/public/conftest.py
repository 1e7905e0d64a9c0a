"""The public models: skipped without ``--run-public-models``, and a table of the results at the end."""

from __future__ import annotations

import json

import pytest

from tests import on_request
from tests.zoo.public.packages import BUILD

COLUMNS = (
    *("model", "chosen", "claimed_speed_up", "bare_speed_up"),
    *("worst_cosine", "largest_difference", "same_decision", "refusal"),
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--run-public-models", action="store_true", help="run the long tests with public models")
    parser.addoption("--public-candidates", help="candidates of optimize for every model (default: all usual ones)")
    parser.addoption("--public-budget", default="120s", help="budget of optimize for each model (default: 120s)")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    asked = config.getoption("--run-public-models", default=False)
    on_request.skip(items, "public_models", lambda: None if asked else "public models take an hour: make test-models")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if not config.getoption("--run-public-models", default=False):
        return
    terminalreporter.section("public models")
    terminalreporter.line("| " + " | ".join(COLUMNS) + " |")
    for path in sorted((BUILD / "results").glob("*.json")):
        result = json.loads(path.read_text("utf-8"))
        cells = (result[column] for column in COLUMNS)
        shown = (f"{cell:.4g}" if isinstance(cell, float) else str(cell if cell is not None else "-") for cell in cells)
        terminalreporter.line("| " + " | ".join(shown) + " |")
