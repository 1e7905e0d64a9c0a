"""The command line: a search, ``show``, ``verify`` and ``package``; errors are one line and an exit code."""

from __future__ import annotations

import os
import shlex
import signal
import sys
import traceback
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import FrameType

from rich.console import Console

from server import archive
from server.errors import SlipwayError
from server.system import gpu

from . import hardware
from .command_line import OneLineParser
from .errors import BadInput, OptimizeError
from .hardware import Gpu
from .options import parse
from .sandbox.supervisor import supervise
from .target import CPU

INTERRUPTED = 130
LOG_WIDTH = 160


def main(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code."""
    # A log has no width, and wrapped tables are hard to search.
    console = Console(highlight=False, width=None if sys.stdout.isatty() else LOG_WIDTH)
    errors = Console(stderr=True, highlight=False)
    # A terminated run cleans up like an interrupted run.
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        if arguments[:1] == ["show"]:
            return _show(_directory(arguments), console)
        if arguments[:1] == ["verify"]:
            return _verify(_directory(arguments), console)
        if arguments[:1] == ["package"]:
            return _package(arguments, console)
        if arguments[:1] == ["rebuild"]:
            return _rebuild(arguments, console)
        return _optimize(arguments, console)
    except KeyboardInterrupt:
        kept = "--work" in (argument.partition("=")[0] for argument in arguments)
        hint = "; run the same command to continue from the search cache in --work" if kept else ""
        errors.print(f"interrupted: nothing was written{hint}", markup=False, soft_wrap=True)
        return INTERRUPTED
    except SlipwayError as error:
        remedy = error.remedy if isinstance(error, OptimizeError) else ""
        errors.print(f"error: {error}{'; ' if remedy else ''}{remedy}", markup=False, soft_wrap=True)
        return error.exit_code if isinstance(error, OptimizeError) else 1
    except Exception as error:  # noqa: BLE001 - the last resort: one line, and the place for the report
        place = traceback.extract_tb(error.__traceback__)[-1]
        reason = " ".join(str(error).split()) or "no reason given"
        errors.print(
            f"error: unexpected {type(error).__name__}: {reason} ({place.filename}:{place.lineno}); nothing was "
            "written. Please report this line with the command",
            markup=False,
            soft_wrap=True,
        )
        return 1


def _optimize(arguments: Sequence[str], console: Console) -> int:
    options = parse(arguments)
    # Imported late, so that --help and wrong options answer without loading the libraries.
    from . import pipeline
    from .package import experiment_record, report, verify
    from .package.artifact import REPORT
    from .progress import Display

    command = shlex.join(["python", "-m", "optimize", *arguments])
    with experiment_record.opened(options, command) as record:
        written = pipeline.run(options, command, Display(console), () if options.target == CPU else _gpus())
        console.print()
        console.print(verify.table(written.manifest))
        record.finish(written)
    console.print()
    console.print(report.verdict(written.manifest), style="bold", soft_wrap=True)
    console.print(f"Report: {written.root / REPORT}", soft_wrap=True)
    console.print(f"Serve:  python serve.py --model {shlex.quote(str(written.root))}", soft_wrap=True)
    return 0


def _show(path: Path, console: Console) -> int:
    from server import artifact

    from .package import report, verify

    manifest = artifact.read(path).manifest
    if not verify.has_evidence(manifest):
        raise BadInput(f"{path} was not written by a search: its manifest lists no candidates")
    console.print(verify.table(manifest))
    console.print()
    console.print(report.verdict(manifest), style="bold", soft_wrap=True)
    console.print(f"Command: {manifest.provenance['command']}", markup=False, soft_wrap=True)
    return 0


def _verify(path: Path, console: Console) -> int:
    from .package import verify

    result = verify.verify(path)
    for warning in result.warnings:
        console.print(f"note: {warning}", markup=False, soft_wrap=True)
    console.print(
        f"ok: all digests match; {result.rows} samples differ from the baseline by at most {result.difference:.3g} "
        f"(limit {result.allowed:.3g})",
        soft_wrap=True,
    )
    for speed in result.speeds:
        ratio = speed.here_us / speed.recorded_us
        console.print(f"batch {speed.batch_size}: {speed.here_us:,.1f} us here, {ratio:.2f} times the recorded time")
    return 0


def _rebuild(arguments: Sequence[str], console: Console) -> int:
    from . import target
    from .package import rebuild

    parser = OneLineParser(prog="python -m optimize rebuild")
    parser.add_argument("directory", type=Path, metavar="DIR", help="an artifact with an engine")
    parser.add_argument("--graph", type=Path, metavar="FILE", help="ONNX file with new weights for the same network")
    given = parser.parse_args(arguments[1:])
    if not given.directory.is_dir():
        raise BadInput(f"{given.directory} is not a directory")
    here = target.resolve("tensorrt", target.look(_gpus()))
    written = rebuild.rebuild(given.directory, here, given.graph)
    for cost in written.manifest.cost:
        console.print(f"batch {cost.batch_size}: {cost.p50_us:,.1f} us")
    versions = ", ".join(f"{name} {version}" for name, version in written.manifest.device.versions.items())
    console.print(f"ok: built for SM {here.sm / 10:.1f} with {versions}; the samples have the recorded answers")
    return 0


def _gpus() -> tuple[Gpu, ...]:
    """The GPUs that CUDA shows."""
    return hardware.gpus(gpu.read(), os.environ.get("CUDA_VISIBLE_DEVICES"))


def _package(arguments: Sequence[str], console: Console) -> int:
    parser = OneLineParser(prog="python -m optimize package")
    parser.add_argument("directory", type=Path, metavar="DIR", help="an artifact")
    parser.add_argument("--output", type=Path, metavar="FILE", help=f"default: {archive.NAME} next to the directory")
    parser.add_argument("--force", action="store_true", help="replace the file")
    given = parser.parse_args(arguments[1:])
    if not given.directory.is_dir():
        raise BadInput(f"{given.directory} is not a directory")
    target = given.output or given.directory.resolve().with_name(archive.NAME)
    if target.exists() and not given.force:
        raise BadInput(f"{target} exists: --force replaces it")
    written = archive.write(given.directory, target)
    console.print(f"{written}: {written.stat().st_size:,} bytes", markup=False, soft_wrap=True)
    return 0


def _directory(arguments: Sequence[str]) -> Path:
    parser = OneLineParser(prog=f"python -m optimize {arguments[0]}")
    parser.add_argument("directory", type=Path, metavar="DIR", help="an artifact")
    path: Path = parser.parse_args(arguments[1:]).directory
    if not path.is_dir():
        raise BadInput(f"{path} is not a directory")
    return path


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _leftovers(arguments: Sequence[str], process: int) -> list[Path]:
    """Return the incomplete artifact that the process of a crashed search left behind."""
    try:
        output = parse(arguments).output
    except (SlipwayError, SystemExit):
        return []
    return list(output.resolve().parent.glob(f".{output.name}.partial-{process}"))


if __name__ == "__main__":
    given = sys.argv[1:]
    sys.exit(supervise(partial(main, given), partial(_leftovers, given)))
