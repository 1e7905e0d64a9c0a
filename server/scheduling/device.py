"""The device scheduler: threads of several models wait here until fair queueing lets them start a batch.

:mod:`.fair_queue` decides; this module holds its lock and blocks threads. A model that has the device to itself pays
for one comparison.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import perf_counter_ns

from ..request import NEVER
from .fair_queue import FairQueue, Flow


class Turn:
    """One thread's turn on the device, or its wait for one.

    ``granted``: whether it occupies the device and has to be given back. ``limit_ns``: the most nanoseconds that the
    batch should take.
    """

    __slots__ = ("gate", "granted", "limit_ns")

    def __init__(self) -> None:
        self.gate = threading.Lock()
        self.granted = False
        self.limit_ns = NEVER


FREE = Turn()
"""The turn where no other model waits: it occupies nothing and limits nothing."""


class DeviceScheduler:
    """The device that the models of this process share."""

    def __init__(self, slots: int, *, preemptive: bool, clock: Callable[[], int] = perf_counter_ns) -> None:
        """``slots``: how many runs of one thread fit, such as cores. ``preemptive``: whether the kernel shares
        them among more runs than fit."""
        self.queue: FairQueue[Turn] = FairQueue(slots, preemptive)
        self.lock = threading.Lock()
        self.clock = clock

    def join(self, slots: int, weight: float = 1.0) -> ModelTurns:
        """Add a model whose batches occupy ``slots`` of the device."""
        with self.lock:
            return ModelTurns(self, self.queue.join(slots, weight))


class ModelTurns:
    """The turns of one model on the device. Its methods are called by the threads of its instances."""

    def __init__(self, device: DeviceScheduler, flow: Flow[Turn]) -> None:
        self._device = device
        self._queue = device.queue
        self._flow = flow

    def wait(self, held: Turn = FREE, spent_ns: int = 0) -> Turn:
        """Give the turn ``held`` back, in which a batch took ``spent_ns``, and block until the next turn."""
        if not held.granted and len(self._queue.flows) < 2:
            return FREE
        turn = Turn()
        turn.gate.acquire()
        with self._device.lock:
            granted, waits = self._ask(turn, held, spent_ns)
        _grant(granted)
        if not waits:
            return FREE
        turn.gate.acquire()
        if not turn.granted:
            return FREE
        with self._device.lock:
            turn.limit_ns = self._queue.limit_ns(self._flow, self._device.clock())
        return turn

    def give_back(self, held: Turn) -> None:
        """End a turn in which nothing was run."""
        if not held.granted:
            return
        with self._device.lock:
            granted = self._queue.end(self._flow, 0)
        _grant(granted)

    def leave(self) -> None:
        """Remove the model from the device. Its waiting threads go on without a turn."""
        with self._device.lock:
            waiting = list(self._flow.waiting)
            granted = self._queue.leave(self._flow)
        for turn in waiting:
            turn.gate.release()
        _grant(granted)

    def slowdown(self) -> float:
        """How many times longer the model's work takes because other models take turns with it."""
        return 1.0 if len(self._queue.flows) < 2 else self._queue.slowdown(self._flow)

    def _ask(self, turn: Turn, held: Turn, spent_ns: int) -> tuple[list[Turn], bool]:
        """The turns that are granted now, and whether ``turn`` waits or is among them. Called with the lock held."""
        queue, flow, now_ns = self._queue, self._flow, self._device.clock()
        if flow in queue.flows:
            if held.granted:
                return queue.renew(flow, turn, spent_ns, now_ns), True
            return queue.ask(flow, turn, now_ns), True
        return queue.end(flow, spent_ns) if held.granted else [], False


def _grant(turns: list[Turn]) -> None:
    for turn in turns:
        turn.granted = True
        turn.gate.release()
