"""Runs side by side: what a model takes, and gives, when several instances of it run at the same time."""

from __future__ import annotations

import statistics
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter_ns

from ..errors import SlipwayError
from ..tensors import Array

Run = Callable[[Sequence[Array]], object]

LEAST_RUNS = 3
MOST_NS = 50_000_000
"""How long the instances run side by side, unless a few runs take longer."""


@dataclass(frozen=True, slots=True)
class Seen:
    """``runs`` by all instances together in ``wall_ns``, and the median nanoseconds of one."""

    runs: int
    wall_ns: int
    run_ns: float

    @property
    def runs_per_s(self) -> float:
        return self.runs / self.wall_ns * 1e9


def side_by_side(
    run: Run,
    inputs: Sequence[Array],
    instances: int,
    most_ns: int = MOST_NS,
    clock: Callable[[], int] = perf_counter_ns,
) -> Seen:
    """Run ``instances`` threads for ``most_ns``, at least a few runs each. Raises what the model raises."""
    taken: list[list[int]] = [[] for _ in range(instances)]
    errors: list[BaseException] = []
    gate = threading.Barrier(instances)

    def repeat(own: list[int]) -> None:
        gate.wait()
        until_ns = clock() + most_ns
        try:
            while len(own) < LEAST_RUNS or clock() < until_ns:
                begun_ns = clock()
                run(inputs)
                own.append(clock() - begun_ns)
        except BaseException as error:  # noqa: BLE001 - raised again on the thread that asked
            errors.append(error)

    threads = [threading.Thread(target=repeat, args=(own,), name=f"side-by-side-{at}") for at, own in enumerate(taken)]
    begun_ns = clock()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wall_ns = max(clock() - begun_ns, 1)
    if errors:
        raise errors[0]
    return Seen(sum(len(own) for own in taken), wall_ns, statistics.median(ns for own in taken for ns in own))


def crowding(run: Run, inputs: Sequence[Array], instances: int) -> float:
    """How many times longer a run takes while all instances run than alone: from 1 (cores of their own) to as many as
    there are instances (one core). 1 for a model that refuses the inputs: nothing is known, and nothing held back."""
    try:
        alone = side_by_side(run, inputs, 1)
        crowded = side_by_side(run, inputs, instances)
    except SlipwayError:
        return 1.0
    return min(max(crowded.run_ns / max(alone.run_ns, 1.0), 1.0), float(instances))
