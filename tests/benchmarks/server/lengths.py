"""MiniLM with texts of mixed lengths: batches by the cost table, against batches in order of arrival."""

from __future__ import annotations

import contextlib
import random
import statistics
from pathlib import Path

from examples.embeddings.build import MissingWeights, build
from tests.benchmarks.server.processes import Load, Unmeasurable, free_port, served, slipway, wait_until_up, wrk

CONNECTIONS = 64
SHORTEST_TOKENS, LONGEST_TOKENS = 8, 128
TEXTS = 512
BATCHES = (8, 32)
WORDS = ("time", "year", "people", "way", "day", "man", "thing", "woman", "life", "child", "world", "school", "state")
"""Each is one token; two more stand around every text."""


def lengths(work: Path, rounds: int, seconds: int, model: Path | None = None) -> float:
    """Texts a second against a server that batches in order of arrival and pads to the longest, in turns; their ratio.

    The reference has the same tokenizer, encoder, pooling and threads under the same uvicorn, and takes up to
    ``BATCHES`` waiting texts: the better of the two counts. ``model``: a pipeline that was built before, which saves
    its export.
    """
    ours = model or built(work / "lengths")
    script = wrk_script(work / "texts.lua")
    servers = {0: slipway(ours, free_port(), "--max-queue-ms", "60000")}
    servers |= {
        batch: ["-m", "tests.benchmarks.server.arrival", str(free_port()), str(ours), str(batch)] for batch in BATCHES
    }
    loads: dict[int, list[Load]] = {batch: [] for batch in servers}
    with contextlib.ExitStack() as stack:
        ports, processes, logs = {}, {}, {}
        for batch, arguments in servers.items():
            ports[batch] = int(arguments[4] if batch == 0 else arguments[2])
            log = logs[batch] = work / f"batches-{batch}.log"
            processes[batch] = stack.enter_context(served(arguments, ports[batch], log))
            wrk(ports[batch], script, CONNECTIONS, seconds)  # the cost tables learn the costs of these texts
            wait_until_up(ports[batch], processes[batch], log)
        for _ in range(rounds):
            for batch, port in ports.items():
                loads[batch].append(wrk(port, script, CONNECTIONS, seconds))
                wait_until_up(port, processes[batch], logs[batch])
    failures = sum(one.failures for seen in loads.values() for one in seen)
    if failures:
        print(f"lengths: {failures} answers were not 200")
    rates = {batch: statistics.median(one.rate for one in seen) for batch, seen in loads.items()}
    best = max(BATCHES, key=lambda batch: rates[batch])
    ratio = statistics.median(one.rate / other.rate for one, other in zip(loads[0], loads[best], strict=True))
    others = ", ".join(f"{rates[batch]:,.1f} in batches to {batch}" for batch in BATCHES)
    print(
        f"lengths: {SHORTEST_TOKENS} to {LONGEST_TOKENS} tokens, {CONNECTIONS} connections: {rates[0]:,.1f} texts/s "
        f"against {others}, padded to the longest in order of arrival: {ratio:.2f} times the better (wanted: 1.50)"
    )
    return ratio


def built(folder: Path) -> Path:
    """The example's pipeline. Raises Unmeasurable where its weights are not installed."""
    try:
        build(folder)
    except MissingWeights as error:
        raise Unmeasurable(str(error)) from error
    return folder


def wrk_script(path: Path) -> Path:
    """Write a wrk script that posts texts of uniformly mixed lengths, the same ones in the same order each time."""
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
