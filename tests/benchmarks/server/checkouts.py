"""What a change of the hot path costs: this checkout against another one, ABBA in one run.

git worktree add /tmp/before COMMIT
python -m tests.benchmarks.server checkouts --other /tmp/before --rounds 20 --seconds 2
"""

from __future__ import annotations

from pathlib import Path

from bench.experiments.compare import ratio_of_pairs
from bench.peers import networks
from tests.benchmarks.server.capture import measured
from tests.benchmarks.server.processes import ROOT, free_port, served, slipway, wrk_script

WANTED = 0.99


def checkouts(work: Path, rounds: int, seconds: int, other: Path) -> None:
    """Requests a second at 32 connections of a model that takes no time, without and with stage times in the response.

    The ratio of the processor time for each request is printed beside it: it scatters less.
    """
    model = work / "perceptron.onnx"
    networks.perceptron(model)
    scripts = {"no stage times": wrk_script(work / "post.lua"), "stage times": wrk_script(work / "timed.lua")}
    with scripts["stage times"].open("a", encoding="ascii") as file:
        file.write('wrk.headers["X-Slipway-Timing"] = "1"\n')
    before, after = free_port(), free_port()
    with (
        served(slipway(model, before), before, work / "before.log", root=other) as old,
        served(slipway(model, after), after, work / "after.log", root=ROOT) as new,
    ):
        sides = [(before, old.pid), (after, new.pid)]
        for name, script in scripts.items():
            pairs = []
            for turn in range(rounds):
                order = sides if turn % 2 == 0 else sides[::-1]
                both = [measured(port, pid, script, seconds) for port, pid in order]
                pairs.append(both if turn % 2 == 0 else both[::-1])
            rate, low, high = ratio_of_pairs(*zip(*((one.rate, two.rate) for (one, _), (two, _) in pairs), strict=True))
            cost, least, most = ratio_of_pairs(*zip(*((one, two) for (_, one), (_, two) in pairs), strict=True))
            print(
                f"checkouts: {name}: {rate:.3f} [{low:.3f}, {high:.3f}] times the requests/s of {other} (wanted: "
                f"{WANTED}); {cost:.3f} [{least:.3f}, {most:.3f}] times the processor time for each; {rounds} pairs"
            )
