"""Contention: the slowdown of a model's runs while several instances of it run at once."""

from __future__ import annotations

import statistics
import threading
from collections.abc import Callable, Sequence
from time import perf_counter_ns

from ...errors import SlipwayError
from ...tensors import Array

Run = Callable[[Sequence[Array]], object]

LEAST_RUNS = 3
MOST_NS = 50_000_000
"""How long the instances run at once, unless a few runs take longer."""


def run_at_once(
    run: Run,
    inputs: Sequence[Array],
    instances: int,
    most_ns: int = MOST_NS,
    clock: Callable[[], int] = perf_counter_ns,
) -> float:
    """Run ``instances`` threads for ``most_ns``, at least a few runs each. Raises what the model raises.

    Returns the median nanoseconds of one run. A pause of the machine makes a few runs longer and does not move it.
    """
    durations: list[list[int]] = [[] for _ in range(instances)]
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
        except BaseException as error:  # noqa: BLE001 - raised again on the calling thread
            errors.append(error)

    threads = [threading.Thread(target=repeat, args=(own,), name=f"at-once-{at}") for at, own in enumerate(durations)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return max(statistics.median(ns for own in durations for ns in own), 1.0)


def contention(run: Run, inputs: Sequence[Array], instances: int) -> float:
    """How many times longer a run takes while all instances run than alone.

    From 1 (each has cores of its own) to ``instances`` (all share one core). 1 for a model that refuses the inputs.
    """
    try:
        alone_ns = run_at_once(run, inputs, 1)
        together_ns = run_at_once(run, inputs, instances)
    except SlipwayError:
        return 1.0
    return min(max(together_ns / alone_ns, 1.0), float(instances))
