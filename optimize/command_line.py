"""The command line of a search: every option with its default and its help text."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NoReturn

from .errors import BadInput
from .target import TARGETS

DESCRIPTION = """\
Takes a trained model, finds the fastest variant that meets your accuracy target on this machine, and writes an artifact
for the server: the model, its batching, and the evidence (manifest.json, report.html).

  python -m optimize SOURCE --eval eval.npz --max-drop 1% --output build/name
  python -m optimize show DIR      show all candidates and the reason for the choice
  python -m optimize verify DIR    check the digests, and compare the samples with the recorded outputs
  python -m optimize rebuild DIR   build a TensorRT engine again for the GPU and the libraries of this host
  python -m optimize package DIR   write model.tar.gz for SageMaker"""

EPILOG = """\
Data files are .npz files. Each input of the model is an array under its name, with rows on axis 0. Metrics that need
labels read an array "labels". A candidate passes if the 95 % interval of its drop stays within --max-drop.
Exit codes: 0 done, 1 the model cannot be optimized, 2 an option or a file is unusable, 3 this host
lacks the target, 130 interrupted."""


class OneLineParser(argparse.ArgumentParser):
    """An argument parser that raises BadInput with one line instead of printing its usage."""

    def error(self, message: str) -> NoReturn:
        raise BadInput(f"{message}; see python -m optimize --help")


def parser() -> argparse.ArgumentParser:
    """Return the parser of a search. Its errors are BadInput."""
    made = OneLineParser(
        prog="python -m optimize",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    made.add_argument(
        "source", metavar="SOURCE", help="a file, a folder, or module:attribute; docs/optimize.md lists the kinds"
    )
    _add_source(made.add_argument_group("source"))
    _add_data(made.add_argument_group("data and names"))
    _add_target(made.add_argument_group("target"))
    _add_measurement(made.add_argument_group("search"))
    _add_pruning(made.add_argument_group("pruning"))
    _add_artifact(made.add_argument_group("artifact"))
    _add_record(made.add_argument_group("record"))
    return made


def _add_source(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "--weights",
        type=Path,
        metavar="FILE",
        help="weights of a module:attribute, loaded strictly: safetensors, or a state_dict of torch.save",
    )
    add(
        "--dynamic",
        default="",
        metavar="AXES",
        help="axes besides the batch whose size differs between requests: ids:1=tokens,mask:1=tokens",
    )
    add(
        "--fixed",
        default="",
        metavar="AXES",
        help="axes that keep the size of the data although the model leaves them free: names, input:position, or all",
    )
    add(
        "--argument",
        dest="arguments",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="keyword argument of a module:attribute, as a Python literal or a text; may be repeated",
    )
    add("--allow-pickle", action="store_true", help="open a pickle, which runs the code in it")
    add("--isolated", action="store_true", help="create the environment that TensorFlow, Keras and Paddle models need")
    add(
        "--source-memory",
        type=float,
        default=16.0,
        metavar="GIB",
        help="address space of the process that opens an untrusted file; default: %(default)g",
    )
    add(
        "--source-time",
        type=float,
        default=300.0,
        metavar="SECONDS",
        help="time limit of that process; default: %(default)g",
    )


def _add_data(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "--eval",
        type=Path,
        metavar="FILE",
        help="held-out rows to evaluate candidates on; without it, candidates of a Hugging Face text model are "
        "compared with the baseline on synthetic rows",
    )
    add(
        "--calibration",
        type=Path,
        metavar="FILE",
        help="rows for quantization ranges; without it, a seeded fifth of --eval (at most 512 rows) calibrates and is "
        "not evaluated on",
    )
    add("--outputs", default="", metavar="NAMES", help="names of the outputs, if the model does not name them")
    add("--labels", default="", metavar="NAMES", help="names of the classes: a,b,c or a file with one per line")


def _add_target(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "--target",
        choices=TARGETS,
        default="auto",
        help="device to optimize for: cpu, cuda (ONNX Runtime on the first GPU), tensorrt (that and TensorRT), or "
        "auto: the most that this host has; default: %(default)s",
    )
    add(
        "--metric",
        default="",
        help="accuracy, top5, f1, auroc, mse, mae, r2 (these need labels), agreement, cosine, detections (compared "
        "with the baseline), or module:function, which takes (outputs by name, labels) and returns one score per row "
        "or one score; default: what fits the outputs and labels, as the command says",
    )
    add(
        "--max-drop",
        default="1%",
        metavar="DROP",
        help="1%% of the baseline's score, or 0.01 in the unit of the metric; default: 1%%",
    )
    add(
        "--objective",
        choices=("throughput", "latency"),
        default="throughput",
        help="throughput: most rows per second over all batch sizes; latency: shortest run of the smallest batch size; "
        "default: %(default)s",
    )


def _add_measurement(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--batch-sizes", default="1,2,4,8,16,32", metavar="LIST", help="default: %(default)s")
    add("--threads", default="", metavar="LIST", help="default: powers of two up to the number of cores")
    add("--rounds", type=int, default=20, help="interleaved rounds over all candidates; default: %(default)s")
    add(
        "--budget",
        default="5m",
        metavar="TIME",
        help="total time from loading to the artifact: 90s, 5m or 1h; default: %(default)s",
    )
    add("--memory", type=float, metavar="GB", help="memory limit of one candidate; default: 80%% of the free memory")
    add(
        "--candidates",
        default="",
        metavar="NAMES",
        help="only these candidates, for example dynamic_*,float16; default: all usual ones",
    )
    add(
        "--keep-float",
        default="",
        metavar="NODES",
        help="nodes that stay in float in every candidate, by name or by the name of their output, for example "
        "/head/Concat,scores",
    )
    add(
        "--work",
        type=Path,
        metavar="DIR",
        help="search cache: a folder that keeps finished candidates, so that a later search can reuse them",
    )
    add("--seed", type=int, default=0, help="seed of all random choices; default: %(default)s")


def _add_pruning(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "--prune",
        default="",
        metavar="SHARES",
        help="also try a module:attribute without this share of the channels of each layer, as 0.3,0.5; or with this "
        "share of its weights set to zero, as magnitude:0.8, which makes no model faster",
    )
    add(
        "--train",
        default="",
        metavar="MODULE:FUNCTION",
        help="function that trains the pruned torch module in place; it has no network and cannot write files, and "
        "its time counts toward --budget",
    )


def _add_artifact(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--output", type=Path, required=True, metavar="DIR", help="directory to write")
    add("--force", action="store_true", help="replace the directory if it is not empty")
    add(
        "--portable",
        action="store_true",
        help="write one file for all processors, instead of weights packed for this processor, which load faster",
    )
    add("--name", default="", help="name that the server uses; default: the name of the directory")
    add("--version", default="1", help="version that the server uses; default: %(default)s")


def _add_record(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "--mlflow",
        default="",
        metavar="URI",
        help="also write the experiment record to MLflow: http://HOST:PORT, sqlite:///FILE, or env for its variables",
    )
    add("--experiment", default="slipway", help="name of the MLflow experiment; default: %(default)s")
