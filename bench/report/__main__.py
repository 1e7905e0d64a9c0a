"""The command line of the report: ``python -m bench.report RECORD.json [...] --output report.html``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ..errors import Unusable
from . import page, source

OK, UNUSABLE = 0, 2


def write(records: Sequence[Path], output: Path, objective_ms: float | None = None) -> None:
    """Write the report of one or several records. Raises Unusable for what is no record, or cannot be written."""
    text = page.render([source.read(path) for path in records], objective_ms)
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise Unusable(f"cannot write the report to {str(output)!r}: {error.strerror or error}") from error


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status: 0 written, 2 not possible (one line says why)."""
    parser = argparse.ArgumentParser(prog="python -m bench.report", description="One page for one or several runs.")
    parser.add_argument("records", nargs="+", type=Path, metavar="RECORD.json")
    parser.add_argument("--output", type=Path, default=Path("report.html"), metavar="FILE.html")
    parser.add_argument("--objective", type=float, metavar="MS", help="draw a line at this latency")
    asked = parser.parse_args(arguments)
    try:
        write(asked.records, asked.output, asked.objective)
    except Unusable as error:
        print(f"bench: {error}", file=sys.stderr)
        return UNUSABLE
    print(f"written: {asked.output}", file=sys.stderr)
    return OK


if __name__ == "__main__":
    sys.exit(main())
