"""``python -m tests.gpu``: runs the stages of the GPU test, each in its own process, and reports after each.

A crash or a hang costs one stage. Files in ``--out``: ``result.json`` and ``table.txt``, written after every stage.
Exit code 0: every stage passed; 1: a stage failed; 2: a stage that counts did not run.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from . import report, stages
from .record import read

ROOT = Path(__file__).resolve().parents[2]
LEAST_S = 5.0
"""With less time than this left, a stage is not begun."""


def main(argv: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(argv)
    options.out.mkdir(parents=True, exist_ok=True)
    place = stages.Place(options.device, options.out / "work")
    place.work.mkdir(exist_ok=True)
    if options.stage:
        name, _, run = options.stage.partition("=")
        stages.run(run, place, options.out / f"{name}.json")
        return 0
    begun = time.monotonic()
    results: list[report.Result] = []
    for stage in stages.chosen(options.only, options.skip):
        left_s = options.budget_s - (time.monotonic() - begun)
        limit_s = min(stage.limit_s * options.patience, left_s)
        results.append(one(stage, place, options.out, limit_s, results))
        _write(results, options.device, time.monotonic() - begun, options.out)
        sys.stdout.write(report.table(results[-1:], options.device, results[-1].took_s))
        sys.stdout.flush()
    sys.stdout.write(report.table(results, options.device, time.monotonic() - begun).splitlines()[-1] + "\n")
    return report.exit_code(results)


def one(
    stage: stages.Stage, place: stages.Place, out: Path, limit_s: float, before: Sequence[report.Result]
) -> report.Result:
    """Run a stage in a child process for at most ``limit_s``."""
    path = out / f"{stage.name}.json"
    path.unlink(missing_ok=True)
    lacking = [result.name for result in before if result.name in stage.needs and not result.found.ended]
    if lacking or limit_s < LEAST_S:
        why = f"it needs {', '.join(lacking)}" if lacking else "the time budget was used up"
        return report.Result(stage.name, report.NOT_RUN, why, 0.0, read(path), stage.optional)
    log = out / f"{stage.name}.log"
    asked = f"{stage.name}={stage.run}"
    command = [sys.executable, "-m", "tests.gpu", "--stage", asked, "--device", place.device, "--out", str(out)]
    begun = time.monotonic()
    with log.open("wb") as output:
        child = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output, start_new_session=True)
        try:
            code: int | None = child.wait(limit_s)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            end_group(child)
    found = read(path)
    said = log.read_text(encoding="utf-8", errors="replace")
    status, why = report.judge(found, code, place.device, said)
    return report.Result(stage.name, status, why, time.monotonic() - begun, found, stage.optional)


def end_group(child: subprocess.Popen[bytes]) -> None:
    """Kill the stage's process with all that it has started, such as a server."""
    with contextlib.suppress(ProcessLookupError):  # all have ended
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def _write(results: Sequence[report.Result], device: str, total_s: float, out: Path) -> None:
    whole = {
        "device": device,
        "counts": device == "cuda",
        "seconds": total_s,
        "stages": [asdict(one) for one in results],
    }
    (out / "result.json").write_text(json.dumps(whole, indent=1, default=str), encoding="utf-8")
    (out / "table.txt").write_text(report.table(results, device, total_s), encoding="utf-8")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.gpu", description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--device",
        choices=("cuda", "fake", "cpu"),
        default="cuda",
        help="cuda: a GPU; fake: the real provider over a runtime that computes nothing; cpu: a rehearsal",
    )
    parser.add_argument(
        "--out", type=Path, default=Path("build/gpu"), help="folder of the results (default: %(default)s)"
    )
    parser.add_argument("--budget-s", type=float, default=520.0, help="seconds for all stages (default: %(default)s)")
    parser.add_argument(
        "--patience", type=float, default=1.0, metavar="X", help="factor on the limit of each stage, for a busy machine"
    )
    parser.add_argument("--only", default="", help="stages, separated by commas (default: all)")
    parser.add_argument("--skip", default="", help="stages that do not run, separated by commas")
    parser.add_argument("--stage", default="", help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
