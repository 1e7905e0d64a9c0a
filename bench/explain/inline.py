"""Inline: a server whose runs take place on its event loop, in virtual time. All work is serial, turn after turn.

A turn reads all sockets that have data, decodes and queues their requests, then runs batches and writes the responses
of each, for a limited time. Requests that come meanwhile wait in their sockets, where no stage counts them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from server.errors import SlipwayError
from server.request import NEVER, InferRequest
from server.scheduling.admission import Admission, LoopLag
from server.scheduling.batch import Batch
from server.scheduling.executor import INLINE_NS
from server.scheduling.queue import BatchQueue

_OUTPUT = np.empty(0)
Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class OnLoop:
    """The parts of requests to a model on the event loop, int64 [n] in the order of ``Workload.due_ns``.

    ``client_ns``: until the socket has the request. ``receive_ns``: a part of the loop's work, with decode and encode.
    ``own_ns``: the loop's work for each request that no stage counts: reading and writing sockets, and itself.
    ``outside_ns``: the rest, on the way and in the client, of a request that finds the loop idle.
    """

    client_ns: Integers
    receive_ns: Integers
    own_ns: int
    outside_ns: Integers


@dataclass(slots=True)
class Work:
    """One request on the loop: when its socket has it, its rows (0: no run), the loop's work before and after the run.

    ``done_ns``: the end of its response; NEVER for one that was refused. ``alone``: it found the loop idle, and was the
    only one that was read then.
    """

    at_ns: int
    rows: int
    before_ns: int
    after_ns: int
    done_ns: int = NEVER
    alone: bool = False


def serve(works: Sequence[Work], queue: BatchQueue, cost_ns: Callable[[Batch], int], max_queue_ns: int) -> list[int]:
    """Serve all requests, which ascend by ``at_ns``, and set when each is done. Returns the rows of each run."""
    admission = Admission(queue, LoopLag(), max_queue_ns)
    sizes: list[int] = []
    now_ns, following = 1, 0  # the queue takes an instant of 0 for none
    while following < len(works) or queue.waiting.rows:
        arrival_ns = works[following].at_ns if following < len(works) else NEVER
        idle = now_ns < arrival_ns and not queue.waiting.rows
        if not queue.waiting.rows:
            now_ns = max(now_ns, arrival_ns)
        elif queue.wake_ns() != NEVER:  # a batch is held back for others to join
            now_ns = max(now_ns, min(queue.wake_ns(), arrival_ns))
        first, polled_ns = following, now_ns
        while following < len(works) and works[following].at_ns <= polled_ns:
            now_ns = _read(works[following], now_ns, queue, admission)
            following += 1
        if idle and following == first + 1:
            works[first].alone = True
        now_ns = _run(now_ns, queue, cost_ns, sizes)
    return sizes


def _read(work: Work, now_ns: int, queue: BatchQueue, admission: Admission) -> int:
    """Read and decode one request; the instant after that."""
    now_ns += work.before_ns
    if not work.rows:
        now_ns += work.after_ns
        work.done_ns = now_ns
        return now_ns
    request = InferRequest((), work.rows, _nothing, work)
    try:
        admission.admit(request, "", now_ns)
    except SlipwayError:
        return now_ns
    queue.push(request, "", now_ns)
    return now_ns


def _run(now_ns: int, queue: BatchQueue, cost_ns: Callable[[Batch], int], sizes: list[int]) -> int:
    """Run batches as long as a turn may, and write their responses; the instant after that."""
    begun_ns = now_ns
    while now_ns - begun_ns <= INLINE_NS and (batch := queue.pull(now_ns)) is not None:
        now_ns += cost_ns(batch)
        batch.computed_ns = now_ns
        batch.outputs = [_OUTPUT]
        queue.release(batch)
        sizes.append(batch.rows)
        for request, start, stop in batch.slices:
            request.joined_rows += stop - start
            if request.joined_rows == request.rows:
                now_ns += request.context.after_ns
                request.context.done_ns = now_ns
    return now_ns


def _nothing(_request: InferRequest) -> None:
    """A simulated request has no response to send."""


def outside_ns(measured_ns: Integers, works: Sequence[Work], due_ns: Integers) -> Integers:
    """The time outside of the server: of requests that found the loop idle what the simulation leaves of their measured
    latency, and of each other request the same as that of the one before it.

    ``works``: in the order of ``measured_ns``, after ``serve``. Requests that waited are no part of it, so that the
    replay of the run itself tests the simulation.
    """
    alone = np.array([one.alone for one in works])
    done_ns = np.array([one.done_ns for one in works])
    left_ns = np.maximum(measured_ns - (done_ns - due_ns), 0)
    known = np.flatnonzero(alone)
    if not len(known):
        return np.zeros_like(measured_ns)
    nearest = known[np.maximum(np.searchsorted(known, np.arange(len(works)), "right") - 1, 0)]
    return np.asarray(left_ns[nearest], dtype=np.int64)
