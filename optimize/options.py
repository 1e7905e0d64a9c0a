"""The options of a search: every one once, with its default, its help and its check."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, TypeVar

from server.system.cores import available_cores

from . import pruning
from .errors import BadInput
from .pruning import Cut
from .search.decide import Objective, thread_counts
from .sources import axes
from .sources.axes import Axis

DESCRIPTION = """\
Takes a trained model, finds its fastest form that is still right on this machine, and writes an artifact that the
server runs: the model, how to batch it, and the evidence (manifest.json, report.html).

  python -m optimize SOURCE --eval eval.npz --max-drop 1% --output build/name
  python -m optimize show DIR      what was tried, and why the winner won
  python -m optimize verify DIR    digests, and the samples against the reference's recorded answers
  python -m optimize package DIR   model.tar.gz, as SageMaker takes it"""

EPILOG = """\
Data files are .npz: an array for each input of the model under its name, rows on axis 0, and an array "labels" where
the metric needs it. A candidate passes the metric when the 95 % interval of its drop stays within --max-drop.
Exit codes: 0 done, 1 the model cannot be optimized, 2 something given cannot be used, 130 interrupted."""

MOST_BATCH = 4096

Number = TypeVar("Number", int, float)


@dataclass(frozen=True, slots=True)
class Options:
    """What the user asked for, checked. ``threads`` are resolved for this machine."""

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
    mlflow: str = ""
    experiment: str = ""


class OneLineParser(argparse.ArgumentParser):
    """An argument parser whose errors are ours: one line, without the usage in front of it."""

    def error(self, message: str) -> NoReturn:
        raise BadInput(f"{message}; see python -m optimize --help")


def parse(arguments: Sequence[str]) -> Options:
    """Read the command line. Raises BadInput; ends the process for ``--help``."""
    given = _parser().parse_args(arguments)
    output: Path = given.output
    if given.train and not given.prune:
        raise BadInput("--train is what a pruned network is trained with again: give --prune too, for example 0.3")
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
        metric=given.metric or ("accuracy" if given.eval else "cosine"),
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
        mlflow=given.mlflow,
        experiment=given.experiment,
    )


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(
        prog="python -m optimize",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("source", metavar="SOURCE", help="a file, a folder, or module:attribute; docs/optimize.md lists the kinds")
    _add_source(parser.add_argument_group("source"))
    model = parser.add_argument_group("data and names")
    model.add_argument(
        "--eval",
        type=Path,
        metavar="FILE",
        help="held-out rows to judge candidates on; a Hugging Face text model without it is compared with itself on "
        "made-up rows",
    )
    model.add_argument(
        "--calibration",
        type=Path,
        metavar="FILE",
        help="rows for quantization ranges; without it a seeded fifth of --eval (512 rows at most) is reserved for "
        "that and not evaluated on",
    )
    model.add_argument("--outputs", default="", metavar="NAMES", help="names of the outputs, if the model gives none")
    model.add_argument("--labels", default="", metavar="NAMES", help="names of the classes: a,b,c or a file of lines")
    _add_choice(parser.add_argument_group("what counts"))
    _add_measurement(parser.add_argument_group("search"))
    _add_pruning(parser.add_argument_group("pruning"))
    artifact = parser.add_argument_group("artifact")
    artifact.add_argument("--output", type=Path, required=True, metavar="DIR", help="directory to write")
    artifact.add_argument("--force", action="store_true", help="replace the directory when it is not empty")
    artifact.add_argument(
        "--portable",
        action="store_true",
        help="one file for all processors, instead of weights that are packed for this one and load faster",
    )
    artifact.add_argument("--name", default="", help="name to serve it under; default: the directory's name")
    artifact.add_argument("--version", default="1", help="version to serve it under; default: %(default)s")
    _add_tracking(parser.add_argument_group("record"))
    return parser


def _add_source(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--weights",
        type=Path,
        metavar="FILE",
        help="of a module:attribute, loaded strictly: safetensors, or what torch.save wrote of a state_dict",
    )
    group.add_argument(
        "--dynamic",
        default="",
        metavar="AXES",
        help="sizes that may change from request to request, besides the batch: ids:1=tokens,mask:1=tokens",
    )
    group.add_argument("--allow-pickle", action="store_true", help="open a pickle, which runs whatever it says")
    group.add_argument(
        "--isolated", action="store_true", help="create the environment that TensorFlow, Keras and Paddle models need"
    )
    group.add_argument(
        "--source-memory",
        type=float,
        default=16.0,
        metavar="GIB",
        help="address space of the process that opens a file that is not trusted; default: %(default)g",
    )
    group.add_argument(
        "--source-time", type=float, default=300.0, metavar="SECONDS", help="and its time; default: %(default)g"
    )


def _add_choice(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--metric",
        default="",
        help="accuracy, top5, f1, auroc, mse, mae, r2 (need labels), agreement, cosine (against the reference), or "
        "module:function with (outputs by name, labels) to one score per row or one for all; default: accuracy, and "
        "cosine without --eval",
    )
    group.add_argument(
        "--max-drop",
        default="1%",
        metavar="DROP",
        help="1%% of the reference's score, or 0.01 in the metric's own unit; default: 1%%",
    )
    group.add_argument(
        "--objective",
        choices=("throughput", "latency"),
        default="throughput",
        help="most rows a second over all batch sizes, or shortest run of the smallest one; default: %(default)s",
    )


def _add_measurement(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--batch-sizes", default="1,2,4,8,16,32", metavar="LIST", help="default: %(default)s")
    group.add_argument(
        "--threads", default="", metavar="LIST", help="default: powers of two up to this machine's cores"
    )
    group.add_argument("--rounds", type=int, default=20, help="interleaved rounds over all; default: %(default)s")
    group.add_argument(
        "--budget",
        default="5m",
        metavar="TIME",
        help="time for everything, from loading to the artifact, as 90s, 5m or 1h; default: %(default)s",
    )
    group.add_argument(
        "--memory", type=float, metavar="GB", help="that one candidate may take; default: 80%% of what is free"
    )
    group.add_argument(
        "--candidates",
        default="",
        metavar="NAMES",
        help="only these, for example dynamic_*,float16; default: all usual",
    )
    group.add_argument(
        "--work",
        type=Path,
        metavar="DIR",
        help="folder to keep finished candidates in: an interrupted search goes on there, a changed one reuses them",
    )
    group.add_argument("--seed", type=int, default=0, help="of everything random; default: %(default)s")


def _add_pruning(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--prune",
        default="",
        metavar="SHARES",
        help="also try a module:attribute without this share of the channels of each layer, as 0.3,0.5; or without "
        "this share of its weights, as magnitude:0.8, which makes zeros and nothing faster",
    )
    group.add_argument(
        "--train",
        default="",
        metavar="MODULE:FUNCTION",
        help="called with the pruned torch module in training mode: trains it again, in place, without the network and "
        "without writing files; its time counts in --budget",
    )


def _add_tracking(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--mlflow",
        default="",
        metavar="URI",
        help="also keep the record in MLflow: http://HOST:PORT, sqlite:///FILE, or the word env for its own variables",
    )
    group.add_argument("--experiment", default="slipway", help="name of the experiment there; default: %(default)s")


def _sizes(option: str, text: str) -> tuple[int, ...]:
    try:
        sizes = sorted({int(part) for part in text.split(",")})
    except ValueError as error:
        raise BadInput(f"{option} {text!r}: whole numbers with commas between them, for example 1,2,4") from error
    if sizes[0] < 1 or sizes[-1] > MOST_BATCH:
        raise BadInput(f"{option} {text!r}: numbers from 1 to {MOST_BATCH}")
    return tuple(sizes)


def _seconds(option: str, text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(s|m|h|)", text.strip())
    if match is None:
        raise BadInput(f"{option} {text!r}: a time, for example 90s, 5m or 1h")
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]]


def _names(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _at_least(option: str, number: Number, least: int) -> Number:
    if not least <= number < math.inf:
        raise BadInput(f"{option} {number}: at least {least}")
    return number


def _word(option: str, text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_.-]+", text):
        raise BadInput(f"{option} {text!r}: letters, digits, '-', '_' and '.' are what fits into a URL")
    return text


def _labels(text: str) -> tuple[str, ...]:
    if "," not in text and Path(text).is_file():
        return tuple(line.strip() for line in Path(text).read_text(encoding="utf-8").splitlines() if line.strip())
    return tuple(part.strip() for part in text.split(",") if part.strip())
