"""The command line: options with the names of the platform's API, and the plan and job that they describe."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from .association import ALL, DataProcessing
from .attributes import ENDPOINT_NAME
from .container import Resources
from .hosting import HostingPlan, InvalidPlan
from .limits import SERVERLESS_IMAGE_BYTES, SERVERLESS_MEMORY_MIB, TRANSFORM_TYPE_CHARACTERS, PlatformLimits
from .records import SPLIT
from .transform import STRATEGIES, TransformJob

SERVERLESS_CONCURRENCY = 5
EXAMPLE_IMAGE = "slipway:latest"


def parser() -> argparse.ArgumentParser:
    """All commands."""
    top = argparse.ArgumentParser(
        prog="python -m container.local",
        allow_abbrev=False,
        description="SageMaker on this machine: hosts an image, or the server of this checkout, as the platform does.",
    )
    commands = top.add_subparsers(dest="command", required=True)
    _serve(commands.add_parser("serve", allow_abbrev=False, help="serve an endpoint behind the runtime API"))
    _transform(commands.add_parser("transform", allow_abbrev=False, help="run a batch transform job over folders"))
    check = commands.add_parser(
        "check", allow_abbrev=False, help="check the container contract, one line for each check"
    )
    _hosted(check)
    check.add_argument("--body", type=Path, metavar="FILE", help="body of a request that the model should answer")
    check.add_argument("--content-type", default="application/json", help="its type (default: %(default)s)")
    return top


def plan(options: argparse.Namespace) -> HostingPlan:
    """The plan that the options describe. Raises InvalidPlan."""
    serverless, folder = getattr(options, "serverless", None), getattr(options, "multi_model", None)
    if not options.image and (options.memory or options.cpus):
        raise InvalidPlan("--memory and --cpus need --image: a process without docker has no limits")
    if (options.model is None) == (folder is None):
        raise InvalidPlan("give a model folder or model.tar.gz, or --multi-model FOLDER")
    if serverless is not None and (folder is not None or serverless not in SERVERLESS_MEMORY_MIB):
        raise InvalidPlan("--serverless takes 1024 to 6144 MB in steps of 1024, and no --multi-model")
    limits = PlatformLimits(startup_s=options.container_startup_health_check_timeout_in_seconds)
    if serverless is not None:
        limits = limits.serverless(options.max_concurrency)
    return HostingPlan(
        model=options.model,
        image=options.image,
        environ=_environment(options.env),
        multi_model=folder is not None,
        image_bytes=SERVERLESS_IMAGE_BYTES if serverless is not None else None,
        resources=Resources(serverless or options.memory, options.cpus, read_only=serverless is not None),
        limits=limits,
    )


def job(options: argparse.Namespace) -> TransformJob:
    """The transform job that the options describe."""
    return TransformJob(
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
    which.add_argument("--image", help=f"an image that the docker engine holds, such as {EXAMPLE_IMAGE}")
    which.add_argument(
        "--process", action="store_true", help="run the server of this checkout, without docker (default)"
    )
    parser.add_argument("--env", action="append", default=[], metavar="NAME=VALUE", help="Environment; repeatable")
    parser.add_argument("--memory", type=int, metavar="MB", help="limit of the container's memory")
    parser.add_argument("--cpus", type=float, metavar="N", help="limit of the container's processors")
    parser.add_argument(
        "--container-startup-health-check-timeout-in-seconds",
        type=IntegerRange(60, 3_600),
        default=PlatformLimits().startup_s,
        metavar="S",
        help="time until /ping must return 200 (default: %(default)g)",
    )


def _serve(parser: argparse.ArgumentParser) -> None:
    _hosted(parser)
    parser.add_argument(
        "--port", type=int, default=8081, help="port of the runtime API; 0 takes a free one (default: 8081)"
    )
    parser.add_argument(
        "--endpoint-name", type=_endpoint_name, default="local", help="EndpointName (default: %(default)s)"
    )
    parser.add_argument("--multi-model", type=Path, metavar="FOLDER", help="a folder of model.tar.gz: TargetModel")
    parser.add_argument("--serverless", type=int, metavar="MB", help="MemorySizeInMB: a serverless endpoint's limits")
    parser.add_argument(
        "--max-concurrency",
        type=IntegerRange(1, 200),
        default=SERVERLESS_CONCURRENCY,
        metavar="N",
        help="MaxConcurrency of a serverless endpoint (default: %(default)s)",
    )
    parser.add_argument(
        "--async-folder",
        type=Path,
        metavar="DIR",
        help="allow asynchronous invocation: s3://BUCKET/KEY is DIR/BUCKET/KEY",
    )
    parser.add_argument(
        "--max-concurrent-invocations-per-instance",
        type=IntegerRange(1, 1_000),
        default=4,
        metavar="N",
        help="concurrent asynchronous requests (default: %(default)s)",
    )


def _transform(parser: argparse.ArgumentParser) -> None:
    _hosted(parser)
    parser.add_argument("--input", type=Path, required=True, metavar="DIR", help="a folder of files, or a file")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="NAME.out is written for each NAME")
    parser.add_argument("--content-type", type=_media_type, default="", metavar="TYPE", help="ContentType of the input")
    parser.add_argument("--accept", type=_media_type, default="", metavar="TYPE", help="Accept of the output")
    parser.add_argument("--split-type", "--split", choices=SPLIT, default="None", help="(default: %(default)s)")
    parser.add_argument("--assemble-with", choices=("None", "Line"), default="None", help="(default: %(default)s)")
    parser.add_argument("--batch-strategy", choices=STRATEGIES, help="(default: as /execution-parameters says)")
    parser.add_argument(
        "--max-payload-in-mb", type=IntegerRange(0, 100), metavar="MB", help="0: chunks without a length"
    )
    parser.add_argument(
        "--max-concurrent-transforms", type=IntegerRange(1, 100), metavar="N", help="concurrent requests"
    )
    parser.add_argument("--invocations-timeout-in-seconds", type=IntegerRange(1, 3_600), default=600, metavar="S")
    parser.add_argument("--invocations-max-retries", type=IntegerRange(0, 3), default=3, metavar="N")
    parser.add_argument(
        "--input-filter", default=ALL, metavar="PATH", help="JSONPath of the part of a record that is sent"
    )
    parser.add_argument("--output-filter", default=ALL, metavar="PATH", help="JSONPath of the part that is written")
    parser.add_argument("--join-source", choices=("None", "Input"), default="None", help="(default: %(default)s)")


class IntegerRange:
    """The argparse type of an integer within bounds."""

    def __init__(self, minimum: int, maximum: int) -> None:
        self._minimum = minimum
        self._maximum = maximum

    def __call__(self, text: str) -> int:
        if not text.isdecimal() or not self._minimum <= int(text) <= self._maximum:
            raise argparse.ArgumentTypeError(f"{text!r} is not from {self._minimum} to {self._maximum}")
        return int(text)


def _endpoint_name(text: str) -> str:
    reason = ENDPOINT_NAME.problem(text)
    if reason is not None:
        raise argparse.ArgumentTypeError(reason)
    return text


def _media_type(text: str) -> str:
    if len(text) > TRANSFORM_TYPE_CHARACTERS:
        raise argparse.ArgumentTypeError(f"it must be at most {TRANSFORM_TYPE_CHARACTERS} characters")
    return text


def _environment(given: Sequence[str]) -> dict[str, str]:
    environ: dict[str, str] = {}
    for one in given:
        name, equals, value = one.partition("=")
        if not equals or not name:
            raise InvalidPlan(f"--env {one}: write NAME=VALUE")
        environ[name] = value
    return environ
