"""The command line: flags named as the options of the platform's API, and what of a hosting they make."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from .association import ALL, DataProcessing
from .hosting import BadPlan, Plan
from .instance import Resources
from .limits import SERVERLESS_BYTES, Limits
from .records import SPLIT
from .transform import STRATEGIES, Job

SERVERLESS_STARTUP_S = 180.0
SERVERLESS_CONCURRENCY = 5
ALREADY_THERE = "slipway:latest"


def parser() -> argparse.ArgumentParser:
    """All commands."""
    top = argparse.ArgumentParser(
        prog="python -m container.local",
        allow_abbrev=False,
        description="SageMaker on this machine: hosts an image, or the server of this checkout, as the platform does.",
    )
    commands = top.add_subparsers(dest="command", required=True)
    _serve(commands.add_parser("serve", allow_abbrev=False, help="an endpoint, and the runtime API before it"))
    _transform(commands.add_parser("transform", allow_abbrev=False, help="a batch transform job over folders"))
    check = commands.add_parser("check", allow_abbrev=False, help="walk along the container contract, a line each")
    _hosted(check)
    check.add_argument("--body", type=Path, metavar="FILE", help="a request that the model should answer")
    check.add_argument("--content-type", default="application/json", help="its type (default: %(default)s)")
    return top


def plan(options: argparse.Namespace) -> Plan:
    """What the options ask for. Raises BadPlan."""
    serverless, folder = getattr(options, "serverless", None), getattr(options, "multi_model", None)
    if not options.image and (options.memory or options.cpus):
        raise BadPlan("--memory and --cpus need --image: a bare process has no limits of its own")
    if (options.model is None) == (folder is None):
        raise BadPlan("give a model folder or model.tar.gz, or --multi-model FOLDER")
    if serverless is not None and (folder is not None or serverless not in range(1_024, 6_145, 1_024)):
        raise BadPlan("--serverless takes 1024 to 6144 MB in steps of 1024, and no --multi-model")
    limits = Limits(startup_s=options.container_startup_health_check_timeout_in_seconds)
    if serverless is not None:
        limits = replace(
            limits,
            startup_s=min(limits.startup_s, SERVERLESS_STARTUP_S),
            payload_bytes=SERVERLESS_BYTES,
            concurrent=options.max_concurrency,
        )
    return Plan(
        model=options.model,
        image=options.image,
        environ=_environment(options.env),
        multi_model=folder is not None,
        resources=Resources(serverless or options.memory, options.cpus, frozen=serverless is not None),
        limits=limits,
    )


def job(options: argparse.Namespace) -> Job:
    """The transform job that the options ask for."""
    return Job(
        options.input,
        options.output,
        options.content_type,
        options.accept,
        options.split_type,
        options.assemble_with,
        options.batch_strategy,
        options.max_payload_in_mb,
        options.max_concurrent_transforms,
        options.invocations_timeout_in_seconds,
        options.invocations_max_retries,
        DataProcessing(options.input_filter, options.output_filter, options.join_source),
    )


def _hosted(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, nargs="?", metavar="MODEL", help="model folder or model.tar.gz")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--image", help=f"an image that the docker engine holds, such as {ALREADY_THERE}")
    which.add_argument("--process", action="store_true", help="the server of this checkout, no docker (default)")
    parser.add_argument("--env", action="append", default=[], metavar="NAME=VALUE", help="Environment; repeatable")
    parser.add_argument("--memory", type=int, metavar="MB", help="limit of the container's memory")
    parser.add_argument("--cpus", type=float, metavar="N", help="limit of the container's processors")
    parser.add_argument(
        "--container-startup-health-check-timeout-in-seconds",
        type=Within(60, 3_600),
        default=Limits().startup_s,
        metavar="S",
        help="until /ping must say 200 (default: %(default)g)",
    )


def _serve(parser: argparse.ArgumentParser) -> None:
    _hosted(parser)
    parser.add_argument("--port", type=int, default=8081, help="of the runtime API; 0 takes a free one (default: 8081)")
    parser.add_argument("--endpoint-name", default="local", help="EndpointName (default: %(default)s)")
    parser.add_argument("--multi-model", type=Path, metavar="FOLDER", help="a folder of model.tar.gz: TargetModel")
    parser.add_argument("--serverless", type=int, metavar="MB", help="MemorySizeInMB: a serverless endpoint's limits")
    parser.add_argument(
        "--max-concurrency",
        type=Within(1, 200),
        default=SERVERLESS_CONCURRENCY,
        metavar="N",
        help="of a serverless endpoint (default: %(default)s)",
    )
    parser.add_argument(
        "--async-folder", type=Path, metavar="DIR", help="allow asynchronous calls: s3://BUCKET/KEY is DIR/BUCKET/KEY"
    )
    parser.add_argument(
        "--max-concurrent-invocations-per-instance",
        type=Within(1, 1_000),
        default=4,
        metavar="N",
        help="asynchronous calls at the same time (default: %(default)s)",
    )


def _transform(parser: argparse.ArgumentParser) -> None:
    _hosted(parser)
    parser.add_argument("--input", type=Path, required=True, metavar="DIR", help="a folder of files, or a file")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="NAME.out is written for each NAME")
    parser.add_argument("--content-type", default="", metavar="TYPE", help="ContentType of the input")
    parser.add_argument("--accept", default="", metavar="TYPE", help="Accept of the output")
    parser.add_argument("--split-type", "--split", choices=SPLIT, default="None", help="(default: %(default)s)")
    parser.add_argument("--assemble-with", choices=("None", "Line"), default="None", help="(default: %(default)s)")
    parser.add_argument("--batch-strategy", choices=STRATEGIES, help="(default: the container's advice)")
    parser.add_argument("--max-payload-in-mb", type=Within(0, 100), metavar="MB", help="0: chunks without a length")
    parser.add_argument("--max-concurrent-transforms", type=Within(1, 100), metavar="N", help="requests side by side")
    parser.add_argument("--invocations-timeout-in-seconds", type=Within(1, 3_600), default=600, metavar="S")
    parser.add_argument("--invocations-max-retries", type=Within(0, 3), default=3, metavar="N")
    parser.add_argument("--input-filter", default=ALL, metavar="PATH", help="JSONPath of what is sent")
    parser.add_argument("--output-filter", default=ALL, metavar="PATH", help="JSONPath of what is written")
    parser.add_argument("--join-source", choices=("None", "Input"), default="None", help="(default: %(default)s)")


class Within:
    """A whole number with bounds; argparse shows the bounds when they are missed."""

    def __init__(self, least: int, most: int) -> None:
        self._least = least
        self._most = most

    def __call__(self, text: str) -> int:
        if not text.isdecimal() or not self._least <= int(text) <= self._most:
            raise argparse.ArgumentTypeError(f"{text!r} is not from {self._least} to {self._most}")
        return int(text)


def _environment(given: Sequence[str]) -> dict[str, str]:
    environ: dict[str, str] = {}
    for one in given:
        name, equals, value = one.partition("=")
        if not equals or not name:
            raise BadPlan(f"--env {one}: write NAME=VALUE")
        environ[name] = value
    return environ
