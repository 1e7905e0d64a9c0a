"""Arguments that several commands share, and the configuration of a run that they describe."""

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
from .experiments.config import RunConfig
from .experiments.sweep import to_json, write_json
from .load import arrivals, fleet, generate, payload_set, probe, sagemaker, target, wire
from .load.payload import Payload
from .load.payload_set import PayloadSet
from .load.presets import PRESETS
from .load.raw_run import Watch
from .load.server_timing import CARRIERS
from .progress import ProgressLine
from .result import objective

_progress_lines: list[ProgressLine] = []
"""The progress line that stands on the terminal, if one does."""
Watches = Callable[[], Watch | None]
CONNECTIONS = 256
DEFAULT_DURATION_S = 30.0
DEFAULT_WARMUP_S = 2.0
RUN_OUTPUT = "the result, its raw rows (.npz) and its page (.html)"
Subparsers = argparse._SubParsersAction  # argparse has no public name for what add_subparsers returns


def add_described(
    commands: Subparsers[argparse.ArgumentParser], name: str, words: str, epilog: str
) -> argparse.ArgumentParser:
    """A command whose help ends with ``epilog``, in its lines."""
    form = argparse.RawDescriptionHelpFormatter
    return commands.add_parser(name, help=words, epilog=epilog, formatter_class=form)


def add_request(command: argparse.ArgumentParser) -> None:
    """Add the URL and the arguments of the request body."""
    command.add_argument("url", metavar="URL", help="the server (/invocations if it has no path), or sagemaker:NAME")
    add_body(command)


def add_body(command: argparse.ArgumentParser) -> None:
    """Add the arguments of the request body."""
    command.add_argument(
        "--payload",
        nargs="+",
        default=[],
        metavar="BODY[:WEIGHT]",
        help="FILE, FOLDER (each file one body), lines:FILE (each line one), generate or generate@ROWS (from the "
        "model's metadata or --samples)",
    )
    command.add_argument("--content-type", metavar="TYPE", help="default: from the payload's suffix")
    command.add_argument("--samples", type=Path, metavar="PATH", help="an artifact or samples.npz to generate from")
    command.add_argument("--model", metavar="NAME", help="the model to generate for, if the URL names none")
    command.add_argument("--binary", action="store_true", help="generate Open Inference bodies with binary tensors")
    command.add_argument("--method", default="POST", help="default: POST")
    command.add_argument("--header", action="append", default=[], metavar="'NAME: VALUE'", help="may be given again")
    command.add_argument(
        "--template", type=Path, metavar="FILE", help=f"a body around the payload, with {', '.join(wire.PLACEHOLDERS)}"
    )
    command.add_argument("--region", metavar="NAME", help="the region of a sagemaker: URL (default: boto3's)")
    command.add_argument("--endpoint-url", metavar="URL", help="an address to use instead of Amazon's")


def add_conditions(command: argparse.ArgumentParser, duration_s: float, warmup_s: float) -> None:
    """Add duration, warm-up, time-out, processes, engine and seed."""
    command.add_argument("--duration", type=positive, metavar="S", help=f"measured seconds (default: {duration_s:g})")
    command.add_argument(
        "--warmup",
        type=warmup,
        default=warmup_s,
        metavar="S",
        help=f"seconds of warm-up, or auto (default: {warmup_s:g})",
    )
    command.add_argument(
        "--timeout", type=positive, default=10.0, metavar="S", help="seconds from the intended instant (default: 10)"
    )
    command.add_argument(
        "--connections", type=count, metavar="N", help=f"at most N connections (default: {CONNECTIONS}, or one a user)"
    )
    command.add_argument(
        "--processes", type=count, default=1, metavar="N", help="generator processes (default: %(default)s)"
    )
    command.add_argument("--engine", choices=fleet.ENGINES, default=fleet.FAST, help="default: %(default)s")
    command.add_argument("--seed", type=int, default=1, help="seed of arrivals and payloads (default: %(default)s)")
    command.add_argument(
        "--carrier",
        choices=CARRIERS,
        help="how the server returns stage times (default: header; custom-attributes passes SageMaker)",
    )
    command.add_argument(
        "--link-mbit",
        type=positive,
        metavar="R",
        help="nominal Mbit/s of the link (default: the rate that its interface reports)",
    )
    command.add_argument("--skip-calibration", action="store_true", help="skip the second of load on an echo server")


def add_arrivals(command: argparse.ArgumentParser) -> None:
    """Add the arrival process of an open loop."""
    command.add_argument("--arrivals", metavar="PROCESS", help=f"default: poisson. {arrivals.SPECS}")


def add_verdict(command: argparse.ArgumentParser) -> None:
    """Add the checks of a run: objective, errors, JUnit."""
    command.add_argument("--objective", metavar="p99:50ms", help="the latency objective; exit with 1 if it is missed")
    command.add_argument(
        "--max-errors",
        type=not_negative,
        default=1.0,
        metavar="PERCENT",
        help="exit with 1 if more requests fail (default: 1)",
    )
    add_junit(command)


def add_junit(command: argparse.ArgumentParser) -> None:
    """Add the JUnit file."""
    command.add_argument(
        "--junit", type=Path, metavar="FILE.xml", help="write all checks and their outcome here, for CI"
    )


def add_output(command: argparse.ArgumentParser, result: str = "the result", card: bool = False) -> None:
    """Add the output file and the form on standard output. ``card``: the command can print a result card to a pipe."""
    command.add_argument("--output", type=Path, metavar="FILE.json", help=f"write {result} here")
    form = command.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print the result as JSON (the default in a pipe)")
    if card:
        form.add_argument("--card", action="store_true", help="print the result card (the default on a terminal)")


def prints_json(asked: argparse.Namespace) -> bool:
    """Whether standard output gets JSON: on request, and in a pipe without ``--card``."""
    return bool(asked.json) or not (getattr(asked, "card", False) or sys.stdout.isatty())


def give(asked: argparse.Namespace, result: object, show: Callable[[], object]) -> None:
    """Write the result where ``--output`` says, and print it. Raises Unusable if the file cannot be written."""
    if asked.output is not None:
        write_json(asked.output, result)
    print_result(asked, result, show)


def print_result(asked: argparse.Namespace, result: object, show: Callable[[], object]) -> None:
    """Print the result on standard output: as JSON, or as ``show`` prints it."""
    if prints_json(asked):
        sys.stdout.write(to_json(result).decode())
    else:
        show()


def run_config(
    asked: argparse.Namespace, arguments: Sequence[str], default_duration_s: float = DEFAULT_DURATION_S
) -> RunConfig:
    """The configuration of the run that the arguments describe. Raises Unusable for arguments that contradict."""
    users, rate = getattr(asked, "users", None), getattr(asked, "rate", None)
    preset = PRESETS.get(getattr(asked, "preset", None) or "")
    how = getattr(asked, "arrivals", None)
    if preset is not None and users is None and rate is None and how is None:
        users = preset.users
    if users is not None and how is not None:
        raise Unusable("--arrivals needs an open loop: leave out --users, or leave out --arrivals")
    connections = asked.connections or max(CONNECTIONS, users or 0)
    if users is not None and users > connections:
        raise Unusable(
            f"{users} users need {users} connections, and --connections is {asked.connections}: raise --connections"
        )
    is_endpoint = asked.url.startswith(sagemaker.PREFIX)
    endpoint = sagemaker.parse(asked.url, asked.region, asked.endpoint_url) if is_endpoint else None
    place = target.parse(asked.url) if endpoint is None else endpoint.target()
    if how is not None:
        arrivals.parse(how)  # reports a wrong argument before the server is asked for anything
    default_s = preset.duration_s if preset is not None else default_duration_s
    if endpoint is None and _generates(asked) and place.model is None:
        place = _with_model(asked, place)
    form = wire.template(asked.method, asked.header, _template(asked.template))
    if endpoint is not None and form != wire.PLAIN:
        raise Unusable(
            "InvokeEndpoint has a fixed form: leave out --method, --header and --template with a sagemaker: URL"
        )
    limit = getattr(asked, "objective", None)
    return RunConfig(
        target=place,
        payload=payloads(asked, place, rows=preset.rows if preset is not None else 1),
        rate_per_s=rate,
        users=users,
        arrivals=how or "poisson",
        duration_s=asked.duration or default_s,
        warmup_s=asked.warmup,
        seed=asked.seed,
        timeout_s=asked.timeout,
        connections=connections,
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
        burst=not getattr(asked, "no_burst", True),
    )


def _generates(asked: argparse.Namespace) -> bool:
    """Whether a body is made from the metadata of a model."""
    from_metadata = not asked.payload or any(one.startswith(payload_set.GENERATE) for one in asked.payload)
    return from_metadata and asked.samples is None and asked.method != "GET"


def _with_model(asked: argparse.Namespace, place: target.Target) -> target.Target:
    """The path of the model that ``--model`` or the repository index names. Raises Unusable where it is not clear."""
    named = getattr(asked, "model", None)
    found = (named,) if named else probe.models(place)
    if found is None or place.path != target.DEFAULT_PATH:
        return place
    if len(found) != 1:
        known = ", ".join(found) or "none"
        raise Unusable(f"which model of {place.root}? It has {known}: pass --model NAME")
    return target.of_model(place, found[0])


def payloads(asked: argparse.Namespace, place: target.Target, rows: int = 1) -> PayloadSet:
    """The bodies that ``--payload`` names, or generated ones. Raises Unusable if they cannot be read or generated."""

    def generated(row_count: int) -> list[Payload]:
        wanted = row_count if row_count > 1 else rows
        if asked.samples is not None:
            return generate.sample_bodies(asked.samples, wanted, binary=asked.binary)
        metadata = probe.metadata(place, asked.model)
        if metadata is None:
            probe.reach(place)  # an unreachable server has an error of its own
            name, known = asked.model or place.model, probe.models(place)
            if name is not None and known is not None and name not in known:
                raise Unusable(f"{place.root} has no model {name!r} (404); it has {', '.join(known) or 'none'}")
            raise Unusable(
                f"{place.root} has no /v2 metadata to generate a payload from; pass --payload FILE, --samples "
                "ARTIFACT, or --model NAME of a served model"
            )
        return generate.random_bodies(generate.inputs(metadata), wanted, binary=asked.binary, seed=asked.seed)

    bodies = asked.payload or ([payload_set.GENERATE] if asked.method != "GET" else [])
    if not bodies:
        return payload_set.single(Payload("nothing", "application/octet-stream", b""))
    return payload_set.read(bodies, asked.content_type, generated)


def _template(path: Path | None) -> bytes | None:
    try:
        return path.read_bytes() if path is not None else None
    except OSError as error:
        raise Unusable(f"cannot read the template {str(path)!r}: {error.strerror or error}") from error


@contextmanager
def progress(total_s: float) -> Iterator[Watches]:
    """A maker of progress lines for loads of ``total_s``, on a terminal only. The last line is removed at the end."""
    lines = _progress_lines

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


def ended_early(why: KeyboardInterrupt | Unusable, consequence: str) -> int:
    """Report on standard error that a command of several runs is incomplete; return the exit status."""
    if isinstance(why, KeyboardInterrupt):
        say(f"interrupted: {consequence}")
        return INTERRUPTED
    say(f"ended early: {consequence}. {why}")
    return INVALID


def say(text: str) -> None:
    """Print a line on standard error, on which a progress line may stand."""
    for shown in _progress_lines:
        shown.clear()
    print(f"bench: {text}", file=sys.stderr, flush=True)


def check_output(path: Path | None, record: Path | None = None) -> None:
    """Check the name of the output file before the load. ``record``: a file that must stay. Raises Unusable."""
    check_directory(path)
    if path is not None and record is not None and path.resolve() == record.resolve():
        raise Unusable(f"--output {str(path)!r} would overwrite the record: write to another file")
    if path is not None and path.suffix in (".npz", ".html"):
        raise Unusable(
            "--output names the JSON file, and its raw rows (.npz) and page (.html) get the same name: pass FILE.json"
        )


def check_directory(path: Path | None) -> None:
    """Check that the directory of an output file exists. Raises Unusable."""
    if path is not None and not path.parent.is_dir():
        raise Unusable(f"no directory {str(path.parent)!r} for {path.name!r}: create it first")


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
