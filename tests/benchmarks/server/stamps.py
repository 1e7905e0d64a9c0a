"""What the stamps for the explanation cost a request that asks for none: one server, with them and without, in turns.

``python -m tests.benchmarks.server stamps`` starts ``python -m tests.benchmarks.server.stamps FILE FLAGS``: the server
of this checkout, which takes its stamps out for a block of requests, and puts them back for the next. A block is so
short that the machine is the same in two that follow each other; two servers, or two loads, differ by more than the
stamps cost.
"""

from __future__ import annotations

import atexit
import inspect
import itertools
import json
import runpy
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.experiments.compare import ratio_of_pairs
from bench.peers import networks
from server.observe.run_cpu import RunCpu
from server.scheduling import waiting
from server.scheduling.waiting import WaitingRequests
from tests.benchmarks.server.processes import ROOT, free_port, served, slipway, wrk, wrk_script

WANTED = 1.01
LOAD_S = 10
BLOCK = 400
"""Requests: some 20 ms."""


def stamps(work: Path, rounds: int, _seconds: float) -> None:
    """Processor time and rate at 32 connections of a model that takes no time, in ``rounds`` loads of 10 s."""
    model, port, kept = work / "perceptron.onnx", free_port(), work / "blocks.json"
    networks.perceptron(model)
    command = ["-m", "tests.benchmarks.server.stamps", str(kept), *slipway(model, port)[1:]]
    with served(command, port, work / "stamps.log"):
        for _ in range(rounds):
            wrk(port, wrk_script(work / "post.lua"), 32, LOAD_S)
    blocks = json.loads(kept.read_text(encoding="utf-8"))
    cpu, low, high = _ratio(blocks, "cpu_s")
    wall, least, most = _ratio(blocks, "wall_s")
    print(
        f"stamps: {cpu:.4f} [{low:.4f}, {high:.4f}] times the processor time of a request without them (wanted: "
        f"{WANTED}); {1 / wall:.4f} [{1 / most:.4f}, {1 / least:.4f}] times the requests/s; "
        f"{len(blocks) // 2} pairs of blocks of {BLOCK} requests"
    )


def _ratio(blocks: list[dict[str, Any]], what: str) -> tuple[float, float, float]:
    """With stamps over without them."""
    pairs = [{one["on"]: one[what] for one in pair} for pair in zip(blocks[::2], blocks[1::2], strict=False)]
    return ratio_of_pairs([pair[False] for pair in pairs], [pair[True] for pair in pairs])


class Switch:
    """Which block it is, and what each took."""

    def __init__(self, file: Path) -> None:
        self.on, self._left = True, BLOCK
        self._order = itertools.cycle((False, False, True, True))
        self._blocks: list[dict[str, Any]] = []
        self._cpu_s, self._wall_s = time.process_time(), time.perf_counter()
        atexit.register(lambda: file.write_text(json.dumps(self._blocks), encoding="utf-8"))

    def count(self) -> bool:
        """Count a request; whether it gets its stamps."""
        self._left -= 1
        if not self._left:
            cpu_s, wall_s = time.process_time(), time.perf_counter()
            self._blocks.append({"on": self.on, "cpu_s": cpu_s - self._cpu_s, "wall_s": wall_s - self._wall_s})
            self._cpu_s, self._wall_s, self._left, self.on = cpu_s, wall_s, BLOCK, next(self._order)
        return self.on


def _switched(switch: Switch) -> None:
    """Put the switch around each stamp: the CPU time of a run, and the rows ahead of a request."""
    around, push = RunCpu.around, WaitingRequests.push
    lines = textwrap.dedent(inspect.getsource(push)).splitlines()
    kept = [line for line in lines if "ahead_rows" not in line]
    assert len(kept) == len(lines) - 1
    space = dict(vars(waiting))
    exec("from __future__ import annotations\n" + "\n".join(kept), space)
    bare = space["push"]

    def switchable(cpu: RunCpu, run: Callable[[Any], Any]) -> Callable[[Any], Any]:
        measured = around(cpu, run)
        return lambda batch: measured(batch) if switch.on else run(batch)

    def pushed(*given: Any) -> None:
        (push if switch.count() else bare)(*given)

    RunCpu.around = switchable  # type: ignore[method-assign, assignment]
    WaitingRequests.push = pushed  # type: ignore[method-assign, assignment]


if __name__ == "__main__":
    _switched(Switch(Path(sys.argv[1])))
    sys.argv = ["serve.py", *sys.argv[2:]]
    runpy.run_path(str(ROOT / "serve.py"), run_name="__main__")
