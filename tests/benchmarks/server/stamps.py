"""What the stamps for the explanation cost a request that asks for none: one server, with them and without, in turns.

``python -m tests.benchmarks.server stamps`` starts ``python -m tests.benchmarks.server.stamps FLAGS``: the server of
this checkout, whose stamps SIGUSR1 takes out and SIGUSR2 puts back. Two servers differ by more than the stamps cost,
because their memory lies elsewhere.
"""

from __future__ import annotations

import inspect
import runpy
import signal
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.experiments.compare import ratio_of_pairs
from bench.peers import networks
from server.observe.run_cpu import RunCpu
from server.scheduling import waiting
from server.scheduling.waiting import WaitingRequests
from tests.benchmarks.server.processes import ROOT, cpu_s, free_port, served, slipway, wrk, wrk_script

WANTED = 1.01
PAIRS_A_ROUND = 10
OFF, ON = signal.SIGUSR1, signal.SIGUSR2


def stamps(work: Path, rounds: int, _seconds: float) -> None:
    """Processor time and rate at 32 connections of a model that takes no time, in ``rounds`` times 10 pairs of 1 s."""
    model, port = work / "perceptron.onnx", free_port()
    networks.perceptron(model)
    script = wrk_script(work / "post.lua")
    command = ["-m", "tests.benchmarks.server.stamps", *slipway(model, port)[1:]]
    costs: dict[int, list[float]] = {ON: [], OFF: []}
    rates: dict[int, list[float]] = {ON: [], OFF: []}
    with served(command, port, work / "stamps.log") as process:
        wrk(port, script, 32, 2)
        for turn in range(rounds * PAIRS_A_ROUND):
            for side in (ON, OFF) if turn % 2 else (OFF, ON):
                process.send_signal(side)
                before_s = cpu_s(process.pid)
                load = wrk(port, script, 32, 1)
                costs[side].append((cpu_s(process.pid) - before_s) / load.rate)
                rates[side].append(load.rate)
    cost, low, high = ratio_of_pairs(costs[OFF], costs[ON])
    rate, least, most = ratio_of_pairs(rates[OFF], rates[ON])
    print(
        f"stamps: {cost:.4f} [{low:.4f}, {high:.4f}] times the processor time of a request without them (wanted: "
        f"{WANTED}); {rate:.4f} [{least:.4f}, {most:.4f}] times the requests/s; {len(costs[ON])} pairs"
    )


def _switched(state: dict[str, bool]) -> None:
    """Put a switch around each stamp: the CPU time of a run, and the rows ahead of a request."""
    around, push = RunCpu.around, WaitingRequests.push
    lines = textwrap.dedent(inspect.getsource(push)).splitlines()
    kept = [line for line in lines if "ahead_rows" not in line]
    assert len(kept) == len(lines) - 1
    space = dict(vars(waiting))
    exec("from __future__ import annotations\n" + "\n".join(kept), space)
    bare = space["push"]

    def switchable(cpu: RunCpu, run: Callable[[Any], Any]) -> Callable[[Any], Any]:
        measured = around(cpu, run)
        return lambda batch: measured(batch) if state["on"] else run(batch)

    def pushed(*given: Any) -> None:
        (push if state["on"] else bare)(*given)

    RunCpu.around = switchable  # type: ignore[method-assign, assignment]
    WaitingRequests.push = pushed  # type: ignore[method-assign, assignment]


if __name__ == "__main__":
    STATE = {"on": True}
    _switched(STATE)
    signal.signal(OFF, lambda *_: STATE.update(on=False))
    signal.signal(ON, lambda *_: STATE.update(on=True))
    sys.argv = ["serve.py", *sys.argv[1:]]
    runpy.run_path(str(ROOT / "serve.py"), run_name="__main__")
