"""Fair queueing on a device that models share: the flow whose batch starts next, so that each gets its share of time.

Start-time fair queueing (P. Goyal, H. Vin, H. Cheng, SIGCOMM 1996) with several runs at a time (SFQ(D): W. Jin,
J. Chase, J. Kaur, SIGMETRICS 2004). It decides and does nothing else: no thread, no lock, no clock. Times are in
nanoseconds.
"""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

from ..request import NEVER

QUANTUM_NS = 10_000_000
"""Most device time of a batch that cannot be interrupted while a neighbour is active: the most that the neighbour
waits. Most networks are near their best throughput well before it; a single row that takes longer runs all the same."""

ACTIVE_NS = 1_000_000_000
"""A neighbour counts as active while it waits, runs, or has asked for a turn within this time."""

Ticket = TypeVar("Ticket")


class Flow(Generic[Ticket]):
    """One model in fair queueing: the device time that it has used, in virtual nanoseconds, and its waiting tickets.

    ``slots``: how many slots a batch occupies. ``weight``: its share against the other flows'.
    """

    __slots__ = ("asked_at", "asked_ns", "charge", "charged", "finish", "slots", "waiting", "weight")

    def __init__(self, slots: int, weight: float = 1.0) -> None:
        self.slots = slots
        self.weight = weight
        self.waiting: deque[Ticket] = deque()
        self.charged: deque[float] = deque()
        """The assumed costs of the turns that run."""
        self.finish = 0.0
        """Virtual time at which all that it was given ends."""
        self.asked_at = 0.0
        """Virtual time at which the first of the waiting tickets asked."""
        self.asked_ns = -NEVER
        self.charge = float(QUANTUM_NS * slots)
        """The assumed cost of its next turn: the cost of its last one."""

    @property
    def running(self) -> int:
        return len(self.charged)

    @property
    def start(self) -> float:
        """Virtual time at which its next turn begins. A flow that was idle gets nothing for the past."""
        return max(self.asked_at, self.finish)


class FairQueue(Generic[Ticket]):
    """Slots, such as cores, and the flows that take turns on them.

    Where ``preemptive``, the kernel shares the slots among those that run: then a flow that runs nothing may always
    start, and the turns only keep a flow with many instances from starving one with few.
    """

    def __init__(self, slots: int, preemptive: bool) -> None:
        self.slots = slots
        self.preemptive = preemptive
        self.flows: tuple[Flow[Ticket], ...] = ()
        self._free = slots
        self._virtual = 0.0

    def join(self, slots: int, weight: float = 1.0) -> Flow[Ticket]:
        """Add a flow; more slots than there are count as all of them."""
        flow: Flow[Ticket] = Flow(min(slots, self.slots), weight)
        flow.finish = self._virtual
        self.flows = (*self.flows, flow)
        return flow

    def leave(self, flow: Flow[Ticket]) -> list[Ticket]:
        """Remove a flow and its waiting tickets; its running turns still end by :meth:`end`. Returns the tickets that
        are granted now."""
        self.flows = tuple(one for one in self.flows if one is not flow)
        flow.waiting.clear()
        return self._grant()

    def ask(self, flow: Flow[Ticket], ticket: Ticket, now_ns: int) -> list[Ticket]:
        """``ticket`` asks for a turn of its flow. Returns the tickets that are granted now, which may include it."""
        flow.asked_ns = now_ns
        if not flow.waiting:
            flow.asked_at = self._virtual
        flow.waiting.append(ticket)
        return self._grant()

    def renew(self, flow: Flow[Ticket], ticket: Ticket, spent_ns: int, now_ns: int) -> list[Ticket]:
        """End a turn that took ``spent_ns`` and ask for the next one at once. Separate calls would take a model whose
        only instance is always busy for idle between two batches, and it would lose its claim."""
        flow.asked_ns = now_ns
        flow.waiting.append(ticket)
        return self.end(flow, spent_ns)

    def end(self, flow: Flow[Ticket], spent_ns: int) -> list[Ticket]:
        """A turn is over and took ``spent_ns`` (0: nothing was run). Returns the tickets that are granted now."""
        spent = float(spent_ns * flow.slots)
        flow.finish += (spent - flow.charged.popleft()) / flow.weight
        self._free += flow.slots
        if spent_ns:
            flow.charge = spent
        if not any(one.running or one.waiting for one in self.flows):
            self._virtual = max([self._virtual, *(one.finish for one in self.flows)])
        return self._grant()

    def has_active_neighbour(self, flow: Flow[Ticket], now_ns: int) -> bool:
        """Whether another flow uses the device, or did so within ``ACTIVE_NS``."""
        for one in self.flows:
            if one is not flow and (one.running or one.waiting or now_ns - one.asked_ns < ACTIVE_NS):
                return True
        return False

    def limit_ns(self, flow: Flow[Ticket], now_ns: int) -> int:
        """The most device time that the next batch of a flow should take."""
        return QUANTUM_NS if not self.preemptive and self.has_active_neighbour(flow, now_ns) else NEVER

    def slowdown(self, flow: Flow[Ticket]) -> float:
        """How many times longer a flow's work takes than its runs do, while the others stay as busy as they are.

        It is 1 where the kernel shares the slots: there the runs themselves take longer, and are measured so."""
        if self.preemptive:
            return 1.0
        others = sum(one.weight for one in self.flows if one is not flow and (one.running or one.waiting))
        return 1.0 + others / flow.weight

    def _grant(self) -> list[Ticket]:
        """Grant turns while slots are free. The flow that begins first in virtual time is next. If its slots are not
        free, they are kept for it: a wide batch would else wait for ever behind narrow ones."""
        granted: list[Ticket] = []
        while flow := min((one for one in self.flows if one.waiting), key=_start, default=None):
            if flow.slots > self._free:
                flow = self._idle_flow()
                if flow is None:
                    break
            granted.append(flow.waiting.popleft())
            self._virtual = max(self._virtual, flow.start)
            flow.finish = flow.start + flow.charge / flow.weight
            flow.asked_at = self._virtual
            flow.charged.append(flow.charge)
            self._free -= flow.slots
        return granted

    def _idle_flow(self) -> Flow[Ticket] | None:
        """Where the kernel shares the slots: a flow that waits and runs nothing."""
        if not self.preemptive:
            return None
        idle = [one for one in self.flows if one.waiting and not one.running]
        return min(idle, key=_start, default=None)


def _start(flow: Flow[Ticket]) -> float:
    return flow.start
