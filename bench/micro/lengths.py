"""MiniLM with texts of mixed lengths: padding where the cost table says so, against padding in arrival order."""

from __future__ import annotations

import json
import random
import shutil
import statistics
from pathlib import Path

from bench.micro.processes import Load, Unmeasurable, free_port, served, slipway, wrk
from examples.embeddings.build import LONGEST, SIZES, MissingWeights, build

CONNECTIONS = 64
SHORTEST_TOKENS, LONGEST_TOKENS = 8, 128
TEXTS = 512
WORDS = ("time", "year", "people", "way", "day", "man", "thing", "woman", "life", "child", "world", "school", "state")
"""Each is one token; two more stand around every text."""


def lengths(work: Path, rounds: int, seconds: int, model: Path | None = None) -> float:
    """Texts a second of the same server with lengths kept apart and with one bucket for all, in turns; their ratio.

    The opponent is the same build, encoder, threads and allowed batch sizes, and chooses its batch size by its own
    measured costs; it has one bucket for every length, so that a batch is what came first, padded to its longest.
    """
    ours, opponent = artifacts(work, model)
    script = wrk_script(work / "texts.lua")
    ports = free_port(), free_port()
    loads: tuple[list[Load], list[Load]] = ([], [])
    with (
        served(slipway(ours, ports[0], "--max-queue-ms", "60000"), ports[0], work / "ours.log"),
        served(slipway(opponent, ports[1], "--max-queue-ms", "60000"), ports[1], work / "opponent.log"),
    ):
        for port in ports:
            wrk(port, script, CONNECTIONS, seconds)  # the cost tables learn what these texts cost
        for _ in range(rounds):
            for port, seen in zip(ports, loads, strict=True):
                seen.append(wrk(port, script, CONNECTIONS, seconds))
    failures = sum(one.failures for seen in loads for one in seen)
    if failures:
        print(f"lengths: {failures} answers were not 200")
    rates = [statistics.median(one.rate for one in seen) for seen in loads]
    ratio = statistics.median(one.rate / other.rate for one, other in zip(*loads, strict=True))
    print(
        f"lengths: {SHORTEST_TOKENS} to {LONGEST_TOKENS} tokens, {CONNECTIONS} connections: {rates[0]:,.1f} texts/s "
        f"against {rates[1]:,.1f} padded to the longest in arrival order: {ratio:.2f} times (wanted: 1.50)"
    )
    return ratio


def artifacts(work: Path, model: Path | None) -> tuple[Path, Path]:
    """The pipeline, and the same one with a single bucket. ``model``: one that was built before, to save its export."""
    ours, opponent = work / "lengths", work / "arrival"
    try:
        if model is None:
            build(ours)
        else:
            shutil.copytree(model, ours)
    except MissingWeights as error:
        raise Unmeasurable(str(error)) from error
    except OSError as error:
        raise Unmeasurable(f"{model} cannot be copied: {error}") from error
    shutil.copytree(ours, opponent)
    path = opponent / "encoder" / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    if manifest["padding"]["sizes"] != list(SIZES):
        raise Unmeasurable(f"{model} is not what examples.embeddings.build writes: build it again")
    manifest["padding"]["sizes"] = [LONGEST]
    path.write_text(json.dumps(manifest), encoding="utf-8")
    outer = opponent / "manifest.json"
    listed = json.loads(outer.read_text(encoding="utf-8"))
    listed["files"] = []
    outer.write_text(json.dumps(listed), encoding="utf-8")
    return ours, opponent


def wrk_script(path: Path) -> Path:
    """A wrk script that posts texts of uniformly mixed lengths, always the same ones in the same order."""
    source = random.Random(7)
    texts = []
    for _ in range(TEXTS):
        words = source.randint(SHORTEST_TOKENS - 2, LONGEST_TOKENS - 2)
        texts.append(" ".join(source.choice(WORDS) for _ in range(words)))
    bodies = ",\n".join(f'wrk.format("POST", nil, nil, "{text}")' for text in texts)
    path.write_text(
        'wrk.headers["Content-Type"] = "text/plain"\n'
        'wrk.headers["Accept"] = "application/x-npy"\n'
        "local at, bodies = 0, nil\n"
        f"init = function(args)\n  bodies = {{{bodies}}}\nend\n"
        f"request = function()\n  at = at % {TEXTS} + 1\n  return bodies[at]\nend\n",
        encoding="ascii",
    )
    return path
