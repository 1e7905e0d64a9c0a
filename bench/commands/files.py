"""The files of a run: the result, its raw rows, its page, and its checks for CI."""

from __future__ import annotations

import argparse

from ..report import checks, junit, page
from ..result import record
from ..result.repeats import Columns


def write(args: argparse.Namespace, result: record.RunRecord, columns: Columns) -> None:
    """Write what ``--output`` and ``--junit`` ask for. Raises Unusable if a file cannot be written."""
    if args.output is not None:
        record.write(args.output, result, columns)
        page.write([args.output], args.output.with_suffix(".html"))
    if args.junit is not None:
        outcomes = checks.of_run(result, args.max_errors)
        junit.write(args.junit, f"bench run {result.target.url}", outcomes, result.window.seconds)
