"""The matrix of plants: which cause came first on each, and the share that is right, by server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from rich.table import Table

from bench.experiments import run
from bench.explain.verdict import LIKELY, PROVEN
from bench.result import record
from tests.benchmarks.bench.figure import Figure, at_least
from tests.benchmarks.bench.kept import Kept, Row

from .around import ROOT
from .held_out import HELD_OUT
from .one import RECORD
from .plant import SERVERS, SLIPWAY, Plant
from .servers import Environments
from .tuned import SHORT, TUNED

NEEDED_ON_SLIPWAY, NEEDED_ELSEWHERE = 0.95, 0.80
SETS = {"tuned": TUNED, "held-out": HELD_OUT}
WITHIN_S = 150.0
"""Of one plant: a start, a load, a probe."""
IN_NAMESPACE = "ip link set lo mtu 1500 up && tc qdisc add dev lo root {} && exec {}"


def measure(plants: Sequence[Plant], kept: Kept, envs: Environments, keep: Path | None = None) -> None:
    """Run the wanted plants. ``keep``: a folder for their records, by title; None: they are removed."""
    missing = {server: envs.missing(server) for server in {one.server for one in plants}}
    for plant in plants:
        if not kept.wants(plant.title):
            continue
        why = missing[plant.server]
        if why is not None:
            print(f"{plant.title}: not run: {why}", flush=True)
            continue
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place) if keep is None else _folder(keep, plant)
            folder.mkdir(parents=True, exist_ok=True)
            row = _row(plant, folder, envs)
        if "unavailable" in row:
            print(f"{plant.title}: not run: {row['unavailable']}", flush=True)
            continue
        kept.add(row)
        print(line(row), flush=True)


def judge(plants: Sequence[Plant], kept: Kept, records: Path) -> None:
    """Judge the records that were kept with the rules of this checkout, without a load."""
    for plant in plants:
        path = _folder(records, plant) / RECORD
        if path.exists() and kept.wants(plant.title):
            found, columns = record.read(path)
            judged = run.judged(found, columns).verdict
            assert judged is not None
            said = {"causes": [asdict(one) for one in judged.causes], "ruled_out": list(judged.ruled_out)}
            kept.add({**_planted(plant), **said})
            print(line(next(kept.rows([plant.title]))), flush=True)


def _folder(records: Path, plant: Plant) -> Path:
    return records / plant.title.replace(": ", "_").replace(" ", "_").replace("/", "_per_")


def _row(plant: Plant, folder: Path, envs: Environments) -> Row:
    command = [sys.executable, "-m", f"{__package__}.one", plant.title, str(folder), str(envs.cache)]
    command += [str(envs.run_s), *plant.options]
    if plant.link:
        quoted = " ".join(f"'{word}'" for word in command)
        command = ["unshare", "--net", "sh", "-c", IN_NAMESPACE.format(plant.link, quoted)]
    try:
        said = json.loads(_output(command))
    except (subprocess.SubprocessError, ValueError) as error:
        why = getattr(error, "stderr", "") or str(error)
        said = {"causes": [], "ruled_out": [], "valid": False, "error": str(why)[-500:]}
    return {**_planted(plant), **said}


def _planted(plant: Plant) -> Row:
    return {"title": plant.title, "server": plant.server, "right": list(plant.right), "why": plant.why}


def _output(command: Sequence[str]) -> str:
    """What a plant prints. Its server ends with it, also after too long a time: a process that is left would hold the
    pipes, and its reader would wait for ever. Raises SubprocessError."""
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            out, err = process.communicate(timeout=WITHIN_S)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command, out, err)
    return out


def named(row: Row) -> list[str]:
    """The names of the causes, the first one first; empty for a plant that could not be run."""
    return [one["name"] for one in row["causes"]]


def is_right(row: Row) -> bool:
    """Whether the first cause is right."""
    return named(row)[:1] != [] and named(row)[0] in row["right"]


def line(row: Row) -> str:
    """A plant as text; beside a wrong one, why other names are right."""
    causes = ", ".join(f"{one['name']} ({one['confidence']})" for one in row["causes"]) or row.get("error", "")
    said = f"  {row['title']:44} {' or '.join(row['right']):24} {causes}"
    return f"right{said}" if is_right(row) else f"WRONG{said}\n       {row.get('why', '')}".rstrip()


def figures(rows: Sequence[Row], what: str) -> list[Figure]:
    """Each plant, the shares by server, and those that were proven without being there. ``what``: of the plants."""
    found = []
    for row in rows:
        causes = ", ".join(f"{one['name']} ({one['confidence']})" for one in row["causes"])
        found.append(Figure(row["title"], causes or row.get("error", ""), " or ".join(row["right"]), is_right(row)))
    for server in SERVERS:
        of = [is_right(row) for row in rows if row["server"] == server]
        if of:
            found.append(Figure(f"{what}, {server}: right first", f"{sum(of)} of {len(of)}"))
    for name, least, mine in (("Slipway", NEEDED_ON_SLIPWAY, True), ("other servers", NEEDED_ELSEWHERE, False)):
        of = [is_right(row) for row in rows if (row["server"] == SLIPWAY) == mine]
        if of:
            found.append(at_least(f"{what}, {name}: right first", sum(of) / len(of), least, "{:.0%}"))
    false = [row["title"] for row in rows if false_proofs(row)]
    return [*found, Figure(f"{what}: proven, but not planted", ", ".join(false) or "0", "0", not false)]


def confusion(rows: Sequence[Row], what: str) -> Table:
    """A line for each planted cause and a column for each that came first, with counts. ``what``: of the plants.

    Right ones are in brackets.
    """
    counts: dict[tuple[str, ...], Counter[str]] = {}
    for row in rows:
        counts.setdefault(tuple(row["right"]), Counter())[(named(row) or ["no verdict"])[0]] += 1
    columns = sorted({name for line in counts.values() for name in line})
    grid = Table(box=None, padding=(0, 1), title=f"{what}: planted, and named first", title_justify="left")
    for head in ("", *columns):
        grid.add_column(head, justify="right" if head else "left")
    for right, line in sorted(counts.items()):
        cells = [f"({line[name]})" if name in right else str(line[name]) for name in columns]
        shown = [cell if line[name] else "" for name, cell in zip(columns, cells, strict=True)]
        grid.add_row(" or ".join(right), *shown)
    return grid


def short(envs: Environments) -> list[Figure]:
    """The short form: a few plants, each loaded for some seconds, and once more if its cause was not named.

    A plant passes if its cause is among those that are likely or proven. Those that were measured twice are no excuse
    for a false proof.
    """
    found: list[Figure] = []
    for plant in SHORT:
        rows = [_once(plant, envs)]
        if not is_named(rows[-1]):
            rows.append(_once(plant, envs))
        causes = "; ".join(line(row) for row in rows)
        met = is_named(rows[-1]) and not any(false_proofs(row) for row in rows)
        found.append(Figure(plant.title, causes, f"{' or '.join(plant.right)}, likely or proven", met))
    return found


def _once(plant: Plant, envs: Environments) -> Row:
    with tempfile.TemporaryDirectory() as place:
        row = _row(plant, Path(place), envs)
    print(line(row), flush=True)
    return row


def is_named(row: Row) -> bool:
    """Whether a right cause is among those that are likely or proven."""
    return any(one["name"] in row["right"] and one["confidence"] in (LIKELY, PROVEN) for one in row["causes"])


def false_proofs(row: Row) -> list[str]:
    """The causes that are called proven, and are not there."""
    return [one["name"] for one in row["causes"] if one["confidence"] == PROVEN and one["name"] not in row["right"]]


def table(
    kept: Kept, envs: Environments, sets: Mapping[str, Sequence[Plant]], keep: Path | None = None, again: bool = False
) -> list[Figure]:
    """The plants of these sets, by name, measured where ``kept`` wants it.

    ``again``: judge the records in ``keep`` instead.
    """
    found: list[Figure] = []
    for what, plants in sets.items():
        if again and keep is not None:
            judge(plants, kept, keep)
        else:
            measure(plants, kept, envs, keep)
        rows = rows_of(plants, kept)
        found += figures(rows, what) if rows else []
    return found


def rows_of(plants: Sequence[Plant], kept: Kept) -> list[Row]:
    """The results of these plants."""
    return list(kept.rows([one.title for one in plants]))
