"""The files of a run: the result, its raw rows, its page, and its checks for CI."""

from __future__ import annotations

import argparse

from ..report import checks, junit, page
from ..result import record
from ..result.repeats import Columns


def write(asked: argparse.Namespace, result: record.RunRecord, columns: Columns) -> None:
    """Write what ``--output`` and ``--junit`` ask for. Raises Unusable when the disk refuses."""
    if asked.output is not None:
        record.write(asked.output, result, columns)
        page.write([asked.output], asked.output.with_suffix(".html"))
    if asked.junit is not None:
        found = checks.of_run(result, asked.max_errors)
        junit.write(asked.junit, f"bench run {result.target.url}", found, result.window.seconds)
