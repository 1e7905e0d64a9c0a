"""The commands that prove a cause: each is one of bench, is complete, and writes over no result."""

from __future__ import annotations

import argparse
import functools
import shlex
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bench.__main__ import parser, with_command
from bench.commands import explain
from bench.explain import judgement
from bench.explain.changes import Change
from bench.explain.facts import Facts
from bench.explain.verdict import NONE, Verdict
from tests.unit.bench.explain.test_rules import PLANTS
from tests.unit.bench.planted_facts import facts

PREFIX = ["python", "-m", "bench"]
RUNS = (
    "run http://127.0.0.1:8080 --rate 40",
    "run http://127.0.0.1:8080 --rate 40 --output 'my runs/a.json' --junit j.xml",
    "run http://127.0.0.1:8080 --rate=40 --output=a.json",
    "run http://127.0.0.1:8080",
    "run http://127.0.0.1:8080 --users 4 --confirm",
    "run http://127.0.0.1:8080 --preset offline --output a.json",
    "run http://127.0.0.1:8080 --arrivals steps:50x60,200x60",
    "replay a.trace http://127.0.0.1:8080 --payload body.json",
)
"""Commands that leave a verdict."""


def verdicts() -> Iterator[tuple[str, str | None, Facts | None, Verdict]]:
    for command in RUNS:
        for record in (None, "/elsewhere/moved run.json"):
            for known in (None, *(planted for _, planted in PLANTS.values())):
                line = shlex.join([*PREFIX, *shlex.split(command)])
                yield line, record, known, judgement.judge(known, line, record)


def test_every_command_that_proves_a_cause_can_be_run_as_it_stands() -> None:
    seen, bench = set(), parser()

    @functools.cache
    def parsed(line: str) -> argparse.Namespace:
        words = shlex.split(line)
        assert words[: len(PREFIX)] == PREFIX, line
        return bench.parse_args(with_command(words[len(PREFIX) :]))

    for command, record, known, found in verdicts():
        for cause in found.causes:
            asked = parsed(cause.prove)
            seen.add(cause.name)
            if cause.name == NONE:
                continue
            if asked.execute is explain.run:
                assert asked.confirm, cause.prove
                assert asked.record == (Path(record) if record else parsed(command).output), cause.prove
            elif asked.confirm:
                assert record is None, cause.prove
            else:
                assert known is not None
                assert asked.rate == pytest.approx((known.load.offered_per_s or 0) / 2, rel=0.01), cause.prove
                assert (asked.output, asked.junit) == (None, None), cause.prove
    assert seen == set(judgement.REMEDIES)


def test_a_high_rate_has_no_exponent() -> None:
    _, planted = PLANTS["more requests than it can answer"]
    loaded = replace(planted, load=replace(planted.load, offered_per_s=46_914.0))
    (first, *_) = judgement.judge(loaded, "python -m bench run http://h --rate 46914").causes
    assert first.prove == "python -m bench run http://h --rate 23500"


def test_a_verdict_on_too_few_requests_names_the_run() -> None:
    line = "python -m bench run http://127.0.0.1:8080 --rate 40"
    assert judgement.judge(None, line).causes[0].prove == line
    assert judgement.judge(facts(), line).causes[0].prove == line


@pytest.mark.parametrize(
    "change",
    [
        Change(max_batch_size=8, max_queue_delay_us=0),
        Change(instances=2, threads=1),
        Change(binary=True),
        Change(rate=0.5),
        Change(compute=0.5, candidate="int8 instead of float32"),
        Change(cache=0.25, extra_us=500),
    ],
)
def test_the_flags_of_a_change_are_those_that_verify_takes(change: Change) -> None:
    flags = " ".join(change.flags(Path("my artifact")))
    asked = parser().parse_args(["verify", "run.json", *shlex.split(flags)])
    assert asked.artifact == (Path("my artifact") if change.candidate else None)


def test_a_cause_that_no_experiment_here_can_test_names_the_run_to_compare_with() -> None:
    line = "python -m bench run http://127.0.0.1:8080 --rate 40 --confirm --output a.json"
    planted = PLANTS["other programs"][1]
    for testable, prove in (((), "python -m bench run http://127.0.0.1:8080 --rate 40"), (("neighbour",), None)):
        first = judgement.judge(planted, line, None, testable).causes[0]
        assert first.name == "neighbour"
        assert first.prove == (prove or "python -m bench explain a.json --confirm")
