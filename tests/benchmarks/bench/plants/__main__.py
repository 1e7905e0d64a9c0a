"""Measure plants, all or some, into one file of results.

    python -m tests.benchmarks.bench.plants --results plants.jsonl --only FastAPI
    python -m tests.benchmarks.bench.plants --results plants.jsonl --only Slipway MLServer
    python -m tests.benchmarks.bench.plants --results plants.jsonl --set held-out
    python -m tests.benchmarks.bench.plants --results plants.jsonl --drawn 7 --count 40

Titles that the file has are not measured again without ``--again``. The environments of LitServe and MLServer are those
of ``bench peers --install``.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rich.console import Console

from tests.benchmarks.bench.figure import table
from tests.benchmarks.bench.kept import Kept

from . import drawn, matrix
from .servers import Environments

WIDE = 200
"""Characters a line in a file: the confusion table has a column for each cause."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.bench.plants", description=__doc__)
    parser.add_argument("--only", nargs="*", default=[], metavar="TEXT", help="titles with one of these texts")
    parser.add_argument("--set", nargs="*", default=list(matrix.SETS), choices=list(matrix.SETS), dest="sets")
    parser.add_argument("--drawn", type=int, metavar="SEED", help="plants that this seed draws, instead of the sets")
    parser.add_argument("--count", type=int, default=40, help="of the drawn ones")
    parser.add_argument("--results", type=Path, metavar="FILE.jsonl", help="keep the results here")
    parser.add_argument("--again", action="store_true", help="measure titles that the file has")
    parser.add_argument("--records", type=Path, metavar="FOLDER", help="keep the records here")
    parser.add_argument("--judge", action="store_true", help="measure nothing, judge the kept records again")
    parser.add_argument("--cache", type=Path, default=Environments().cache, help="environments of other servers")
    parser.add_argument("--seconds", type=float, default=Environments().run_s, help="of each load")
    parser.add_argument("--short", action="store_true", help="a few plants alone; exits with 1 if one is missed twice")
    asked = parser.parse_args()
    kept = Kept(asked.only, asked.results, asked.again)
    envs = Environments(asked.cache, asked.seconds)
    console, title = (
        Console(width=None if sys.stdout.isatty() else WIDE),
        "Faults planted on real servers: the causes that a run names first",
    )
    if asked.short:
        found = matrix.short(envs)
        console.print(table(title, found))
        return int(any(one.met is False for one in found))
    sets = {what: matrix.SETS[what] for what in asked.sets}
    if asked.drawn is not None:
        sets = {f"drawn from {asked.drawn}": drawn.plants(asked.drawn, asked.count)}
    console.print(table(title, matrix.table(kept, envs, sets, asked.records, asked.judge)))
    for what, plants in sets.items():
        console.print(matrix.confusion(matrix.rows_of(plants, kept), what))
    return 0


if __name__ == "__main__":
    sys.exit(main())
