"""The command line's options: defaults, and one line for what is impossible."""

from __future__ import annotations

from pathlib import Path

import pytest

from optimize.errors import BadInput
from optimize.options import parse

LEAST = ["here:there", "--eval", "e.npz", "--output", "build/small"]


def test_defaults() -> None:
    options = parse(LEAST)
    assert options.name == "small"
    assert options.batch_sizes == (1, 2, 4, 8, 16, 32)
    assert options.threads[0] == 1
    assert (options.metric, options.max_drop, options.objective, options.seed) == ("", "1%", "throughput", 0)


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("90s", 90), ("1.5m", 90), ("1h", 3600)])
def test_a_budget_has_units(text: str, seconds: float) -> None:
    assert parse([*LEAST, "--budget", text]).budget_s == seconds


def test_lists_are_sorted_and_without_repetition() -> None:
    assert parse([*LEAST, "--batch-sizes", "8,1,8"]).batch_sizes == (1, 8)
    assert parse([*LEAST, "--threads", "2"]).threads == (2,)


def test_labels_from_the_command_line_or_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    path.write_text("cat\n\ndog\n")
    assert parse([*LEAST, "--labels", str(path)]).labels == ("cat", "dog")
    assert parse([*LEAST, "--labels", "cat, dog"]).labels == ("cat", "dog")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "SOURCE"),
        ([*LEAST, "--batchsizes", "1"], "unrecognized arguments: --batchsizes"),
        ([*LEAST, "--objective", "speed"], "invalid choice"),
        ([*LEAST, "--batch-sizes", "one"], "whole numbers"),
        ([*LEAST, "--batch-sizes", "0,1"], "from 1 to"),
        ([*LEAST, "--threads", "1,,2"], "whole numbers"),
        ([*LEAST, "--rounds", "0"], "at least 1"),
        ([*LEAST, "--budget", "nan"], "90s, 5m or 1h"),
        ([*LEAST, "--budget", "0.1s"], "at least 1"),
        ([*LEAST, "--seed", "x"], "invalid int"),
        ([*LEAST, "--seed", "-1"], "at least 0"),
        ([*LEAST, "--name", "a/b"], "URL"),
        ([*LEAST, "--version", "a b"], "URL"),
    ],
)
def test_impossible_options_are_reported_in_one_line(arguments: list[str], words: str) -> None:
    with pytest.raises(BadInput, match=words) as caught:
        parse(arguments)
    assert "\n" not in str(caught.value)
