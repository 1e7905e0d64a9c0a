"""Measure plants, all or some, into one file of results.

    python -m tests.benchmarks.bench.plants --results plants.jsonl --only FastAPI
    python -m tests.benchmarks.bench.plants --results plants.jsonl --only Slipway MLServer

Titles that the file has are not measured again without ``--again``. The environments of LitServe and MLServer are those
of ``bench peers --install``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from tests.benchmarks.bench.figure import table
from tests.benchmarks.bench.kept import Kept

from . import matrix
from .servers import Environments


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.bench.plants", description=__doc__)
    parser.add_argument("--only", nargs="*", default=[], metavar="TEXT", help="titles with one of these texts")
    parser.add_argument("--results", type=Path, metavar="FILE.jsonl", help="keep the results here")
    parser.add_argument("--again", action="store_true", help="measure titles that the file has")
    parser.add_argument("--records", type=Path, metavar="FOLDER", help="keep the records here")
    parser.add_argument("--judge", action="store_true", help="measure nothing, judge the kept records again")
    parser.add_argument("--cache", type=Path, default=Environments().cache, help="environments of other servers")
    asked = parser.parse_args()
    kept = Kept(asked.only, asked.results, asked.again)
    found = matrix.table(kept, Environments(asked.cache), asked.records, asked.judge)
    Console().print(table("Faults planted on real servers: the causes that a run names first", found))


if __name__ == "__main__":
    main()
