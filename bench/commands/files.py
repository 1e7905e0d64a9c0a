"""What a run leaves behind: the result, its raw rows and its page, and what it was held to for CI."""

from __future__ import annotations

import argparse

from ..report import junit, page
from ..result import record
from ..result.repeats import Columns


def write(asked: argparse.Namespace, result: record.RunRecord, columns: Columns) -> None:
    """Write what ``--output`` and ``--junit`` ask for. Raises Unusable when the disk refuses."""
    if asked.output is not None:
        record.write(asked.output, result, columns)
        page.write([asked.output], asked.output.with_suffix(".html"))
    if asked.junit is not None:
        seconds = sum(one.end_s - one.start_s for one in result.window.repeats)
        junit.write(asked.junit, f"bench run {result.target.url}", junit.checks_of(result, asked.max_errors), seconds)
