"""One plant: its server is started and loaded by ``bench run``, and the verdict's causes are printed as JSON.

    python -m tests.benchmarks.bench.plants.one TITLE FOLDER CACHE SECONDS [OPTION ...]

leaves the record in ``FOLDER/record.json``. ``CACHE`` is the folder with the environments of other servers, and the
options are those of ``bench run``. Without a package of the plant's model it prints ``{"unavailable": why}``.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from bench.observe import tree
from tests.zoo.public.packages import Unavailable

from . import drawn, servers
from .around import ROOT, above_others, other_client
from .held_out import HELD_OUT
from .plant import Plant
from .servers import Environments
from .tuned import TUNED

RECORD = "record.json"


def find(title: str) -> Plant:
    """The plant with this title. Raises KeyError."""
    return {one.title: one for one in (*TUNED, *HELD_OUT)}.get(title) or drawn.find(title)


def run(plant: Plant, folder: Path, envs: Environments, lasts_s: float) -> Path:
    """Load the planted server for so long; the path of the record."""
    output = folder / RECORD
    with ExitStack() as stack:
        url = servers.start(plant, folder, stack, envs)
        bodies = servers.bodies(plant, folder)
        other = plant.other_body(_folder(folder / "other"))[0] if plant.other_body is not None else bodies[0]
        with _outside(plant, url, other) as seen:
            command = [*plant.client, sys.executable, "-m", "bench", "run", seen, "--payload", *map(str, bodies)]
            command += ["--users", str(plant.users)] if plant.users is not None else ["--rate", str(plant.rate)]
            command += ["--duration", str(lasts_s), "--warmup", str(plant.warmup_s), "--json", "--output", str(output)]
            done = subprocess.run([*command, *plant.options], cwd=ROOT, capture_output=True, text=True, check=False)
    if not output.exists():
        raise RuntimeError(done.stderr)
    return output


def _folder(path: Path) -> Path:
    path.mkdir(exist_ok=True)
    return path


@contextmanager
def _outside(plant: Plant, url: str, body: Path) -> Iterator[str]:
    """The URL to load, while the faults from outside are there."""
    with ExitStack() as stack:
        if plant.other_rate:
            stack.enter_context(other_client(url, body, plant.other_rate, plant.other_burst))
        if plant.around is not None:
            root, _, path = url.removeprefix("http://").partition("/")
            inside = stack.enter_context(plant.around(f"http://{root}", processes(url)))
            url = f"{inside}/{path}" if inside else url
        yield url


def processes(url: str) -> tuple[int, ...]:
    """The processes of the server, the one that listens first."""
    port = int(url.removeprefix("http://").partition("/")[0].rpartition(":")[2])
    end_s = time.monotonic() + servers.READY_WITHIN_S
    while not (found := tree.family(tree.listeners(port))):
        if time.monotonic() > end_s:
            raise RuntimeError(f"nobody listens on port {port}")
        time.sleep(0.05)  # the port is known before the server listens on it
    return found


def main() -> None:
    title, folder, cache, lasts_s, *options = sys.argv[1:]
    above_others()
    try:
        plant = replace(find(title), options=tuple(options))
        path = run(plant, Path(folder), Environments(Path(cache)), float(lasts_s))
    except Unavailable as why:
        print(json.dumps({"unavailable": str(why)}))
        return
    record = json.loads(path.read_text(encoding="utf-8"))
    verdict = record["verdict"]
    print(
        json.dumps({"causes": verdict["causes"], "ruled_out": verdict["ruled_out"], "valid": record["validity"]["ok"]})
    )


if __name__ == "__main__":
    main()
