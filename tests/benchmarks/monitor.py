"""The figures of the monitor: ``python -m tests.benchmarks.monitor [alarms] [planted] [million]``.

``alarms``: checks of clean data that raise an alarm. ``planted``: planted drifts that are found. ``million``: the time
of a check of a million captured rows.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy import stats

from container.monitor.__main__ import main as monitor
from server.observe.capture.files import Files
from server.observe.capture.record import Encoder, Taken
from tests.monitored import COLUMNS, PLANTED, alarms, check

SIZES = ((2_000, 500), (300, 100))


def clean(checks: int) -> None:
    """False alarms over so many baselines, each with its own clean data, while any distance counts as drift."""
    for rows in SIZES:
        found = alarms(checks, rows, threshold=0.0)
        high = float(stats.binomtest(found, checks).proportion_ci(0.95).high)
        print(
            f"alarms: {found} of {checks:,} clean baselines of {rows[0]:,} rows and {len(COLUMNS)} columns, "
            f"checked with {rows[1]:,} rows: {found / checks:.2%} "
            f"(at most {high:.2%} with 95 % confidence; wanted: 1 %)"
        )


def planted(checks: int) -> None:
    """How often each planted drift is found."""
    for name, drifted in PLANTED.items():
        random = np.random.default_rng(7)
        column = next(iter(drifted))
        found = 0
        for _ in range(checks):
            findings = check(random, SIZES[0], drifted=drifted)
            found += any(one.violated and one.feature == column for one in findings)
        print(f"planted: {name}: found in {found} of {checks} checks of {SIZES[0][1]} rows")


def million(rows: int) -> None:
    """The time of a check of so many captured events of one row and ten columns, half JSON and half CSV."""
    with tempfile.TemporaryDirectory() as work:
        begun = time.perf_counter()
        for name, count, seed in (("before", 20_000, 0), ("now", rows, 1)):
            write(Path(work) / name, count, seed)
        print(f"million: {rows:,} events written in {time.perf_counter() - begun:.1f} s")
        place = str(Path(work) / "base")
        monitor(["baseline", str(Path(work) / "before"), "--out", place])
        begun, processor = time.perf_counter(), time.process_time()
        monitor(["check", str(Path(work) / "now"), "--baseline", place, "--out", str(Path(work) / "out")])
        took_s, processor_s = time.perf_counter() - begun, time.process_time() - processor
        print(
            f"million: {rows:,} captured rows checked in {took_s:.1f} s, {processor_s:.1f} s of one core (wanted: 60 s)"
        )


def write(folder: Path, count: int, seed: int) -> None:
    """Capture files as the server writes them."""
    random = np.random.default_rng(seed)
    files, encoder = Files(folder, 10**11), Encoder()
    values = random.normal(size=(count, 10)).round(4)
    for first in range(0, count, 1_000):
        lines = []
        for at in range(first, min(first + 1_000, count)):
            row = values[at].tolist()
            is_csv = at % 2
            body = ",".join(map(str, row)) if is_csv else json.dumps({"instances": [row]})
            asked = [(b"content-type", b"text/csv" if is_csv else b"application/json")]
            answer = b'{"predictions":[%.4f]}' % row[0]
            taken: Taken = (
                1_769_860_800_000_000_000 + at,
                "m",
                "1",
                asked,
                body.encode(),
                b"application/json",
                answer,
                [],
            )
            lines.append(encoder.line(taken))
        files.write("m", 1_769_860_800 + first / 1_000, b"".join(lines))
    files.close()


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.monitor", description=__doc__)
    parser.add_argument("figure", nargs="*", choices=["alarms", "planted", "million", []], default=[])
    parser.add_argument("--checks", type=int, default=1_000)
    parser.add_argument("--rows", type=int, default=1_000_000)
    options = parser.parse_args(argv)
    wanted = options.figure or ["alarms", "planted", "million"]
    if "alarms" in wanted:
        clean(options.checks)
    if "planted" in wanted:
        planted(min(options.checks, 100))
    if "million" in wanted:
        million(options.rows)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
