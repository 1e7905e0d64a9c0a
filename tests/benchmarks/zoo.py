"""Answers of the whole zoo under load: ``python -m tests.benchmarks.zoo --answers 100000``.

All models are loaded into one server. Waves of requests are sent at once, half of a wave to one model, the rest to
models drawn at random, one in sixteen with hostile values. Each answer is compared with the source's. Wrong answers and
requests without an end are printed for each model; the exit status is 1 if there are any.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.zoo import contract
from tests.zoo.contract import Fault
from tests.zoo.exchange import Response, Sent
from tests.zoo.served import Connections, Resident, build, served
from tests.zoo.v2_client import v2_binary
from tests.zoo.zoo import ZOO

AT_ONCE = 16
CASES = 12
"""Distinct requests of a model; their right answers are computed once."""
SHOWN = 3


@dataclass(frozen=True, slots=True)
class Question:
    """One request, and the right answer; None where the values are hostile and the answer is computed when needed."""

    resident: Resident
    inputs: dict[str, NDArray[Any]]
    expected: dict[str, NDArray[Any]] | None
    sent: Sent


@dataclass(slots=True)
class Tally:
    """Counts by model."""

    answers: Counter[str] = field(default_factory=Counter)
    wrong: Counter[str] = field(default_factory=Counter)
    endless: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[Fault]] = field(default_factory=dict)

    def add(self, question: Question, response: Response | None) -> None:
        name = question.resident.name
        self.answers[name] += 1
        if response is None:
            self.endless[name] += 1
            return
        faults = list(_faults(question, response))
        if response.status != 200:
            self.refused[name] += 1
        if faults:
            self.wrong[name] += 1
            examples = self.examples.setdefault(name, [])
            if len(examples) < SHOWN:
                examples.extend(faults)


def _faults(question: Question, response: Response) -> list[Fault]:
    if question.expected is None:
        return list(contract.judge_hostile(question.resident, question.inputs, response, "hostile"))
    return list(contract.judge(question.resident, contract.BINARY, question.expected, response, "under load"))


def questions(resident: Resident) -> list[Question]:
    """The distinct requests of a model: ordinary ones, and some with hostile values."""
    counts = resident.zoo.row_counts
    made = []
    for inputs, expected in resident.cases(
        [(70_000 + number, counts[number % len(counts)]) for number in range(CASES)]
    ):
        made.append(Question(resident, inputs, expected, v2_binary(resident.name, inputs, expected)))
    for number, value in enumerate(contract.HOSTILE):
        inputs = resident.zoo.inputs(np.random.default_rng(80_000 + number), max(counts[:2]))
        spoiled = contract.spoil(resident.zoo, inputs, value)
        if spoiled is not None:
            made.append(Question(resident, spoiled, None, v2_binary(resident.name, spoiled, {})))
    return made


def run(answers: int, seed: int, names: list[str]) -> Tally:
    """Ask until there are ``answers`` responses."""
    random = np.random.default_rng(seed)
    zoo = [one for one in ZOO if not one.load_error and (not names or one.name in names)]
    tally = Tally()
    with tempfile.TemporaryDirectory() as folder:
        residents = build(zoo, Path(folder) / "models")
        with served(residents, Path(folder)) as server, Connections(server.port, AT_ONCE) as connections:
            pool = []
            for one in residents:
                if one.loaded is None or one.loaded.status != 200:
                    print(f"not loaded: {one.name}: {one.loaded and one.loaded.body!r}")
                    tally.wrong[one.name] += 1
                else:
                    pool.append(questions(one))
            begun = time.monotonic()
            while tally.answers.total() < answers:
                # Every model is asked in turn; its neighbours are drawn.
                main = pool[tally.answers.total() // AT_ONCE % len(pool)]
                wave = [_drawn(main, random) for _ in range(AT_ONCE // 2)]
                wave += [_drawn(pool[random.integers(len(pool))], random) for _ in range(AT_ONCE - len(wave))]
                order = random.permutation(AT_ONCE)
                mixed = [wave[place] for place in order]
                for question, response in zip(mixed, connections.send([one.sent for one in mixed]), strict=True):
                    tally.add(question, response)
            seconds = time.monotonic() - begun
    print(f"{tally.answers.total():,} answers of {len(pool)} models in {seconds:.0f} s")
    return tally


def _drawn(choices: list[Question], random: np.random.Generator) -> Question:
    """One of 16 is hostile, if the model has hostile requests."""
    hostile = len(choices) > CASES and random.random() < 1 / 16
    return choices[int(random.integers(CASES, len(choices)) if hostile else random.integers(CASES))]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.zoo", description=__doc__)
    parser.add_argument("--answers", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--models", default="", help="names, separated by commas; default: all")
    given = parser.parse_args()
    tally = run(given.answers, given.seed, [name for name in given.models.split(",") if name])
    bad = sorted(set(tally.wrong) | set(tally.endless))
    for name in bad:
        print(f"{name}: {tally.wrong[name]} wrong and {tally.endless[name]} without an end of {tally.answers[name]}")
        for fault in tally.examples.get(name, []):
            print(f"    {fault}")
    print(
        f"wrong answers: {tally.wrong.total()}; requests without an end: {tally.endless.total()}; "
        f"refused hostile requests: {tally.refused.total()}"
    )
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
