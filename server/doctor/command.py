"""The command ``serve.py doctor``: examines settings, model and host in the order in which the server would fail."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..system import cgroup
from . import device, disk, given, host, trial
from .findings import Finding, Level, as_json, as_text, verdict

ROOT = Path("/")


def main(argv: Sequence[str], environ: Mapping[str, str], root: Path = ROOT) -> int:
    """Examine, print, and return the exit code: 0 when nothing is fatal, else 1."""
    options, server_flags = _parser().parse_known_args(argv)
    findings = examine(server_flags, environ, root, limit_s=0 if options.no_start else options.limit_s)
    sys.stdout.write((as_json(findings) if options.json else as_text(findings)) + "\n")
    return verdict(findings)[0]


def examine(argv: Sequence[str], environ: Mapping[str, str], root: Path, *, limit_s: float) -> list[Finding]:
    """All findings. ``limit_s``: how long the trial start may take; 0: there is none."""
    settings, findings = given.examine(argv, environ, root)
    on_disk, about_models = disk.examine(settings)
    findings += about_models
    findings.append(host.memory(on_disk.bytes, root))
    findings.append(host.processors(settings, on_disk.batching, root))
    findings += device.examine(settings, environ, on_disk.artifacts)
    findings += host.port(settings, environ)
    findings += host.places(root)
    unsuitable = any(one.level is Level.FATAL and one.subject != "port" for one in findings)
    if limit_s and not unsuitable:
        limits = trial.TrialLimits(limit_s, cgroup.of(root=root).memory_limit_bytes())
        findings += trial.examine(argv, environ, on_disk.artifacts, limits)
    return findings


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="serve.py doctor",
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Examines settings, model, memory, processors, GPU, port. Then starts the server on a free port\n"
        "and sends the model its own sample. The last line is the first fatal cause, as the server logs it.\n"
        "Exit code 0: the server can serve; 1: it cannot.",
        epilog="All flags and variables of the server count: serve.py doctor --model build/digits",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    parser.add_argument("--no-start", action="store_true", help="do not start the server; load no model")
    parser.add_argument(
        "--limit-s", type=float, default=120.0, metavar="S", help="most seconds of the trial start (default: 120)"
    )
    return parser
