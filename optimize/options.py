"""The options of a search: parsed, checked, and resolved for this machine."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from server.system.cores import available_cores

from . import pruning
from .command_line import parser
from .errors import BadInput
from .pruning import Cut
from .search.decide import Objective, thread_counts
from .sources import axes
from .sources.axes import Axis
from .target import Asked

MOST_BATCH = 4096

Number = TypeVar("Number", int, float)


@dataclass(frozen=True, slots=True)
class Options:
    """The checked options of a search. ``threads`` are resolved for this machine."""

    source: str
    evaluation: Path | None
    output: Path
    weights: Path | None
    dynamic: tuple[Axis, ...]
    allow_pickle: bool
    isolated: bool
    source_memory_gib: float
    source_time_s: float
    calibration: Path | None
    metric: str
    max_drop: str
    objective: Objective
    batch_sizes: tuple[int, ...]
    threads: tuple[int, ...]
    rounds: int
    budget_s: float
    memory_bytes: int | None
    candidates: tuple[str, ...]
    work: Path | None
    name: str
    version: str
    labels: tuple[str, ...]
    outputs: tuple[str, ...]
    seed: int
    force: bool
    portable: bool
    prune: tuple[Cut, ...] = ()
    train: str = ""
    fixed: tuple[str, ...] = ()
    keep_float: tuple[str, ...] = ()
    arguments: Mapping[str, Any] = field(default_factory=dict)
    mlflow: str = ""
    experiment: str = ""
    target: Asked = "auto"


def parse(arguments: Sequence[str]) -> Options:
    """Parse the command line. Raises BadInput. ``--help`` ends the process."""
    given = parser().parse_args(arguments)
    output: Path = given.output
    if given.train and not given.prune:
        raise BadInput("--train trains a pruned module: give --prune too, for example --prune 0.3")
    return Options(
        source=given.source,
        evaluation=given.eval,
        output=output,
        weights=given.weights,
        dynamic=axes.parse(given.dynamic),
        allow_pickle=given.allow_pickle,
        isolated=given.isolated,
        source_memory_gib=_at_least("--source-memory", given.source_memory, 1),
        source_time_s=_at_least("--source-time", given.source_time, 1),
        calibration=given.calibration,
        metric=given.metric,
        max_drop=given.max_drop,
        objective=given.objective,
        batch_sizes=_sizes("--batch-sizes", given.batch_sizes),
        threads=_sizes("--threads", given.threads) if given.threads else thread_counts(available_cores()),
        rounds=_at_least("--rounds", given.rounds, 1),
        budget_s=_at_least("--budget", _seconds("--budget", given.budget), 1),
        memory_bytes=round(1e9 * _at_least("--memory", given.memory, 0)) if given.memory else None,
        candidates=_names(given.candidates),
        work=given.work,
        name=_word("--name", given.name or output.resolve().name),
        version=_word("--version", given.version),
        labels=_labels(given.labels),
        outputs=_names(given.outputs),
        seed=_at_least("--seed", given.seed, 0),
        force=given.force,
        portable=given.portable,
        prune=pruning.parse(given.prune),
        train=given.train,
        fixed=_names(given.fixed),
        keep_float=_names(given.keep_float),
        arguments=_arguments(given.arguments),
        mlflow=given.mlflow,
        experiment=given.experiment,
        target=given.target,
    )


def _sizes(option: str, text: str) -> tuple[int, ...]:
    try:
        sizes = sorted({int(part) for part in text.split(",")})
    except ValueError as error:
        raise BadInput(f"{option} {text!r}: give whole numbers separated by commas, for example 1,2,4") from error
    if sizes[0] < 1 or sizes[-1] > MOST_BATCH:
        raise BadInput(f"{option} {text!r}: give numbers from 1 to {MOST_BATCH}")
    return tuple(sizes)


def _seconds(option: str, text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(s|m|h|)", text.strip())
    if match is None:
        raise BadInput(f"{option} {text!r}: give a time, for example 90s, 5m or 1h")
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]]


def _names(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _arguments(pairs: Sequence[str]) -> dict[str, Any]:
    """Parse ``hidden=64``: the value is a Python literal, or a text."""
    found: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name.isidentifier():
            raise BadInput(f"--argument {pair!r}: write name=value, for example hidden=64")
        try:
            found[name] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            found[name] = text
    return found


def _at_least(option: str, number: Number, least: int) -> Number:
    if not least <= number < math.inf:
        raise BadInput(f"{option} {number}: must be at least {least}")
    return number


def _word(option: str, text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_.-]+", text):
        raise BadInput(
            f"{option} {text!r}: only letters, digits, '-', '_' and '.' are allowed, because the name is part of a URL"
        )
    return text


def _labels(text: str) -> tuple[str, ...]:
    if "," not in text and Path(text).is_file():
        return tuple(line.strip() for line in Path(text).read_text(encoding="utf-8").splitlines() if line.strip())
    return tuple(part.strip() for part in text.split(",") if part.strip())
