"""The arguments that several commands share, and the plan of a run that they make."""

from __future__ import annotations

import argparse
import math
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from .errors import Unusable
from .exits import INTERRUPTED, INVALID
from .experiments.run import Plan
from .load import arrivals, fleet, generate, payload_set, probe, sagemaker, target, wire
from .load.payload import Payload
from .load.payload_set import PayloadSet
from .load.presets import PRESETS
from .load.raw_run import Watch
from .load.server_timing import CARRIERS
from .progress import ProgressLine
from .result import objective

Watches = Callable[[], Watch | None]
DEFAULT_DURATION_S = 30.0
DEFAULT_WARMUP_S = 2.0
RUN_OUTPUT = "the result, with its raw rows (.npz) and a page (.html) beside it,"
Subparsers = argparse._SubParsersAction  # argparse has no public name for what add_subparsers returns


def add_request(command: argparse.ArgumentParser) -> None:
    """Where to, and with what."""
    command.add_argument("url", metavar="URL", help="the server (/invocations if it has no path), or sagemaker:NAME")
    add_body(command)


def add_body(command: argparse.ArgumentParser) -> None:
    """With what."""
    command.add_argument(
        "--payload",
        nargs="+",
        default=[],
        metavar="WHAT[:WEIGHT]",
        help="FILE, FOLDER (each file one body), lines:FILE (each line one), generate or generate@ROWS (from the "
        "model's metadata, or --samples)",
    )
    command.add_argument("--content-type", metavar="TYPE", help="default: from the payload's suffix")
    command.add_argument("--samples", type=Path, metavar="PATH", help="an artifact or samples.npz to generate from")
    command.add_argument("--model", metavar="NAME", help="whose metadata to generate from, where the URL names none")
    command.add_argument("--binary", action="store_true", help="generate Open Inference bodies with binary tensors")
    command.add_argument("--method", default="POST", help="default: POST")
    command.add_argument("--header", action="append", default=[], metavar="'NAME: VALUE'", help="may be given again")
    command.add_argument(
        "--template", type=Path, metavar="FILE", help=f"a body around the payload, with {', '.join(wire.PLACEHOLDERS)}"
    )
    command.add_argument("--region", metavar="NAME", help="of a sagemaker: target (default: as boto3 finds it)")
    command.add_argument("--endpoint-url", metavar="URL", help="a stand-in for Amazon's address")


def add_conditions(command: argparse.ArgumentParser, duration_s: float, warmup_s: float) -> None:
    """How long, how patiently, from how many processes."""
    command.add_argument("--duration", type=positive, metavar="S", help=f"seconds measured (default: {duration_s:g})")
    command.add_argument(
        "--warmup", type=warmup, default=warmup_s, metavar="S", help=f"seconds before, or auto (default: {warmup_s:g})"
    )
    command.add_argument(
        "--timeout", type=positive, default=10.0, metavar="S", help="from the intended instant (default: 10)"
    )
    command.add_argument("--connections", type=count, default=256, metavar="N", help="at most (default: %(default)s)")
    command.add_argument("--processes", type=count, default=1, metavar="N", help="that send (default: %(default)s)")
    command.add_argument("--engine", choices=fleet.ENGINES, default=fleet.FAST, help="default: %(default)s")
    command.add_argument("--seed", type=int, default=1, help="of arrivals and payloads (default: %(default)s)")
    command.add_argument(
        "--carrier",
        choices=CARRIERS,
        help="how stage times come back (default: header; custom-attributes passes SageMaker)",
    )
    command.add_argument(
        "--link-mbit", type=positive, metavar="R", help="the link's nominal Mbit/s (default: what its interface says)"
    )
    command.add_argument("--skip-calibration", action="store_true", help="start without the second of echo load")


def add_arrivals(command: argparse.ArgumentParser) -> None:
    command.add_argument("--arrivals", metavar="HOW", help=f"default: poisson. {arrivals.SPECS}")


def add_verdict(command: argparse.ArgumentParser) -> None:
    """What a run is held to."""
    command.add_argument("--objective", metavar="p99:50ms", help="what latency should be; exit with 1 when missed")
    command.add_argument("--max-errors", type=not_negative, metavar="PERCENT", help="exit with 1 when more fail")
    add_junit(command)


def add_junit(command: argparse.ArgumentParser) -> None:
    command.add_argument("--junit", type=Path, metavar="FILE.xml", help="write what this was held to here, for CI")


def add_output(command: argparse.ArgumentParser, what: str = "the result") -> None:
    command.add_argument("--output", type=Path, metavar="FILE.json", help=f"write {what} here")
    command.add_argument("--json", action="store_true", help="print the result as JSON (always so when piped)")


def plan(asked: argparse.Namespace, arguments: Sequence[str], default_duration_s: float = DEFAULT_DURATION_S) -> Plan:
    """The run that the arguments ask for. Raises Unusable."""
    users, rate = getattr(asked, "users", None), getattr(asked, "rate", None)
    preset = PRESETS.get(getattr(asked, "preset", None) or "")
    how = getattr(asked, "arrivals", None)
    if preset is not None and users is None and rate is None and how is None:
        users = preset.users
    if users is not None and how is not None:
        raise Unusable("--arrivals are those of an open loop: with --users, callers arrive when they are answered")
    if users is not None and users > asked.connections:
        raise Unusable(f"{users} users need as many connections: raise --connections from {asked.connections}")
    named = asked.url.startswith(sagemaker.PREFIX)
    endpoint = sagemaker.parse(asked.url, asked.region, asked.endpoint_url) if named else None
    place = target.parse(asked.url) if endpoint is None else endpoint.target()
    if how is not None:
        arrivals.parse(how)  # what is wrong with them needs no server to be told
    default_s = preset.duration_s if preset is not None else default_duration_s
    form = wire.template(asked.method, asked.header, _template(asked.template))
    if endpoint is not None and form != wire.PLAIN:
        raise Unusable("--method, --header and --template do not go with sagemaker: InvokeEndpoint has its own form")
    limit = getattr(asked, "objective", None)
    return Plan(
        target=place,
        payload=payloads(asked, place, rows=preset.rows if preset is not None else 1),
        rate_per_s=rate,
        users=users,
        arrivals=how or "poisson",
        duration_s=asked.duration or default_s,
        warmup_s=asked.warmup,
        seed=asked.seed,
        timeout_s=asked.timeout,
        connections=asked.connections,
        carrier=CARRIERS[asked.carrier or ("header" if endpoint is None else "custom-attributes")],
        calibrate=not asked.skip_calibration,
        command=shlex.join(["python", "-m", "bench", *arguments]),
        repeats=getattr(asked, "repeat", 1),
        processes=asked.processes,
        engine=asked.engine,
        template=form,
        endpoint=endpoint,
        objective=objective.parse(limit) if limit else None,
        link_mbit=asked.link_mbit,
    )


def payloads(asked: argparse.Namespace, place: target.Target, rows: int = 1) -> PayloadSet:
    """What ``--payload`` and its companions name; generated where nothing is named. Raises Unusable."""

    def generated(asked_rows: int) -> list[Payload]:
        wanted = asked_rows if asked_rows > 1 else rows
        if asked.samples is not None:
            return generate.sample_bodies(asked.samples, wanted, binary=asked.binary)
        told = probe.metadata(place, asked.model)
        if told is None:
            probe.reach(place)  # a server that is not there has no metadata either, and that is not its fault
            raise Unusable(
                f"{place.root} tells no metadata to generate a payload from: give --payload FILE, --samples ARTIFACT, "
                "or --model NAME of a model that it serves"
            )
        return generate.random_bodies(generate.inputs(told), wanted, binary=asked.binary, seed=asked.seed)

    named = asked.payload or ([payload_set.GENERATE] if asked.method != "GET" else [])
    if not named:
        return payload_set.single(Payload("nothing", "application/octet-stream", b""))
    return payload_set.read(named, asked.content_type, generated)


def _template(path: Path | None) -> bytes | None:
    try:
        return path.read_bytes() if path is not None else None
    except OSError as error:
        raise Unusable(f"cannot read the template {str(path)!r}: {error.strerror or error}") from error


@contextmanager
def progress(total_s: float) -> Iterator[Watches]:
    """Makes progress lines of loads that take so long, on a terminal; the last one is taken away at the end."""
    lines: list[ProgressLine] = []

    def next_line() -> Watch | None:
        clear()
        if not sys.stderr.isatty():
            return None
        lines.append(ProgressLine(sys.stderr, total_s))
        return lines[-1]

    def clear() -> None:
        while lines:
            lines.pop().clear()

    try:
        yield next_line
    finally:
        clear()


def ended_early(why: KeyboardInterrupt | Unusable, what: str) -> int:
    """Says that a command of several runs shows only ``what`` it has; the exit status."""
    if isinstance(why, KeyboardInterrupt):
        say(f"interrupted: {what}")
        return INTERRUPTED
    say(f"ended early: {what}. {why}")
    return INVALID


def say(text: str) -> None:
    """A line on standard error: what a command of several runs is at."""
    print(f"bench: {text}", file=sys.stderr, flush=True)


def check_output(path: Path | None) -> None:
    """Before the load and not after it. Raises Unusable."""
    check_directory(path)
    if path is not None and path.suffix in (".npz", ".html"):
        raise Unusable("the result is JSON; raw rows (.npz) and page (.html) lie beside it: name the output FILE.json")


def check_directory(path: Path | None) -> None:
    """Whether a file can be written there. Raises Unusable."""
    if path is not None and not path.parent.is_dir():
        raise Unusable(f"there is no directory {str(path.parent)!r} for {path.name!r}")


def positive(text: str) -> float:
    number = float(text)
    if not (math.isfinite(number) and number > 0):
        raise argparse.ArgumentTypeError(f"must be a positive number, not {text}")
    return number


def not_negative(text: str) -> float:
    number = float(text)
    if not (math.isfinite(number) and number >= 0):
        raise argparse.ArgumentTypeError(f"must be zero or a positive number, not {text}")
    return number


def percent(text: str) -> float:
    """``5%`` or ``5`` as 0.05."""
    return not_negative(text.removesuffix("%")) / 100


def count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {text}")
    return number


def warmup(text: str) -> float | None:
    return None if text == "auto" else not_negative(text)
