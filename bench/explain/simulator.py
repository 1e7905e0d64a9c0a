"""The simulator: the server's batch queue and admission in virtual time, with the cost of runs as a function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from server.errors import SlipwayError
from server.request import NEVER, InferRequest
from server.scheduling.admission import Admission, LoopLag
from server.scheduling.batch import Batch
from server.scheduling.queue import BatchQueue

MS = 1_000_000
SECOND = 1_000_000_000
_OUTPUT = np.empty(0)


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request. ``allowed_ns``: its deadline after ``at_ns`` (0: none)."""

    at_ns: int
    shape: str = ""
    allowed_ns: int = 0
    rows: int = 1


@dataclass(slots=True)
class Outcome:
    """The outcome of a simulation: counts of requests, the rows of each batch, and waits in ns.

    ``late``: responses after the deadline. ``refused``: by admission. ``expired``: in the queue. ``deepest``: the most
    rows that waited at once.
    """

    answered: int = 0
    late: int = 0
    refused: int = 0
    expired: int = 0
    deepest: int = 0
    batches: list[int] = field(default_factory=list)
    waits_ns: list[int] = field(default_factory=list)
    """From arrival to response, of every answered request."""
    done_ns: list[int] = field(default_factory=list)
    """The instant of the response to each arrival; NEVER without one."""
    end_ns: int = 0

    @property
    def goodput(self) -> float:
        """Responses within their deadline, per second."""
        return (self.answered - self.late) / (self.end_ns / SECOND)


def poisson(rate: float, seconds: float, seed: int, **fields: Any) -> list[Arrival]:
    """Arrivals of a Poisson process, ``rate`` per second. ``fields``: of every ``Arrival``."""
    random = np.random.default_rng(seed)
    times = np.cumsum(random.exponential(SECOND / rate, int(rate * seconds)))
    return [Arrival(int(at), **fields) for at in times]


def simulate(
    arrivals: Sequence[Arrival],
    queue: BatchQueue,
    cost_ns: Callable[[Batch], int],
    max_queue_ns: int = NEVER,
    slower: Callable[[int], float] = lambda _busy: 1.0,
) -> Outcome:
    """Serve ``arrivals`` with the instances of the queue, behind the admission rule of the scheduler.

    ``cost_ns``: the time of a run alone, in ns. ``slower(busy)``: the slowdown of a run while ``busy`` runs are active;
    1 if each has its own cores, ``busy`` if they share one. ``max_queue_ns``: admission refuses a longer wait.
    """
    outcome = Outcome(done_ns=[NEVER] * len(arrivals))
    admission = Admission(queue, LoopLag(), max_queue_ns)
    running: dict[Batch, float] = {}  # the remaining ns of each run, if it ran alone
    coming = iter(enumerate(arrivals))
    following = next(coming, None)
    now_ns, look_ns = 0, NEVER
    while following is not None or running:
        factor = slower(len(running)) if running else 1.0
        first = min(running, key=running.__getitem__, default=None)
        finish_ns = now_ns + int(running[first] * factor) if first is not None else NEVER
        then_ns = min(finish_ns, following[1].at_ns if following is not None else NEVER, max(look_ns, now_ns))
        for batch in running:
            running[batch] -= (then_ns - now_ns) / factor
        now_ns, look_ns = then_ns, NEVER
        if first is not None and now_ns == finish_ns:
            del running[first]
            _finish(first, now_ns, queue, outcome)
        elif following is not None and now_ns == following[1].at_ns:
            _arrive(following, queue, admission, outcome)
            following = next(coming, None)
        while queue.running.idle:
            begun = queue.pull(now_ns)
            outcome.expired += len(queue.waiting.take_evicted())
            if begun is None:
                look_ns = queue.wake_ns()
                break
            running[begun] = float(cost_ns(begun))
        outcome.end_ns = now_ns
    return outcome


def _arrive(numbered: tuple[int, Arrival], queue: BatchQueue, admission: Admission, outcome: Outcome) -> None:
    one = numbered[1]
    deadline_ns = one.at_ns + one.allowed_ns if one.allowed_ns else NEVER
    request = InferRequest((), one.rows, _nothing, numbered, deadline_ns)
    try:
        admission.admit(request, one.shape, one.at_ns)
    except SlipwayError:
        outcome.refused += 1
        return
    queue.push(request, one.shape, one.at_ns)
    outcome.deepest = max(outcome.deepest, queue.waiting.rows)


def _nothing(_request: InferRequest) -> None:
    """A simulated request has no response to send."""


def _finish(batch: Batch, now_ns: int, queue: BatchQueue, outcome: Outcome) -> None:
    batch.computed_ns = now_ns
    batch.outputs = [_OUTPUT]
    queue.release(batch)
    outcome.batches.append(batch.rows)
    for request, start, stop in batch.slices:
        request.joined_rows += stop - start
        if request.joined_rows < request.rows:
            continue
        number, arrival = request.context
        outcome.answered += 1
        outcome.late += now_ns > request.deadline_ns
        outcome.waits_ns.append(now_ns - arrival.at_ns)
        outcome.done_ns[number] = now_ns
