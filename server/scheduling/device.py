"""The device that models share: whose batch may start next, so that each model gets its share of device time.

Start-time fair queueing (P. Goyal, H. Vin, H. Cheng, SIGCOMM 1996) with several runs at a time (SFQ(D): W. Jin,
J. Chase, J. Kaur, SIGMETRICS 2004). It decides and does nothing else: no thread, no lock, no clock.
"""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

from ..request import NEVER

QUANTUM_NS = 10_000_000
"""Most device time of a batch that nobody can interrupt while a neighbour is there: what the neighbour may have to
wait. Most networks are near their best throughput well before it; a single row that takes longer runs all the same."""

PRESENT_NS = 1_000_000_000
"""A neighbour is there while it waits, runs, or has asked for a turn so lately: it may be back in the next moment."""

Ticket = TypeVar("Ticket")


class Lane(Generic[Ticket]):
    """One model on a device: what it has used, in virtual nanoseconds, and who of it waits for a turn.

    ``slots``: how many a batch of it occupies. ``weight``: its share against the other lanes'.
    """

    __slots__ = ("asked_at", "asked_ns", "charge", "charged", "finish", "slots", "waiting", "weight")

    def __init__(self, slots: int, weight: float = 1.0) -> None:
        self.slots = slots
        self.weight = weight
        self.waiting: deque[Ticket] = deque()
        self.charged: deque[float] = deque()
        """What the turns that are under way were taken to cost."""
        self.finish = 0.0
        """Virtual time at which all that it was given ends."""
        self.asked_at = 0.0
        """Virtual time at which the first of those that wait asked."""
        self.asked_ns = -NEVER
        self.charge = float(QUANTUM_NS * slots)
        """What its next turn is taken to cost until that is known: what the last one did."""

    @property
    def running(self) -> int:
        return len(self.charged)

    @property
    def start(self) -> float:
        """Virtual time at which its next turn begins: a lane that was idle is given nothing for the past."""
        return max(self.asked_at, self.finish)


class Device(Generic[Ticket]):
    """Slots, such as cores, and the lanes that take turns on them.

    Where ``preemptive``, the kernel shares the slots out between those that run: then a lane that has nothing running
    may always start, and the turns only keep a lane with many instances from crowding out one with few.
    """

    def __init__(self, slots: int, preemptive: bool) -> None:
        self.slots = slots
        self.preemptive = preemptive
        self.lanes: tuple[Lane[Ticket], ...] = ()
        self._free = slots
        self._virtual = 0.0

    def join(self, slots: int, weight: float = 1.0) -> Lane[Ticket]:
        """A new lane; more slots than there are count as all of them."""
        lane: Lane[Ticket] = Lane(min(slots, self.slots), weight)
        lane.finish = self._virtual
        self.lanes = (*self.lanes, lane)
        return lane

    def leave(self, lane: Lane[Ticket]) -> list[Ticket]:
        """Forget a lane and all that waits in it; what it has running still ends by :meth:`end`. Returns the tickets
        whose turn it is now."""
        self.lanes = tuple(one for one in self.lanes if one is not lane)
        lane.waiting.clear()
        return self._grant()

    def ask(self, lane: Lane[Ticket], ticket: Ticket, now_ns: int) -> list[Ticket]:
        """``ticket`` wants a turn of its lane. Returns the tickets whose turn it is now, which may include it."""
        lane.asked_ns = now_ns
        if not lane.waiting:
            lane.asked_at = self._virtual
        lane.waiting.append(ticket)
        return self._grant()

    def renew(self, lane: Lane[Ticket], ticket: Ticket, spent_ns: int, now_ns: int) -> list[Ticket]:
        """End a turn that took ``spent_ns`` and ask for the next one at once: a model whose only instance always has
        more to do would else be taken for idle between two batches, and lose what it is behind the others."""
        lane.asked_ns = now_ns
        lane.waiting.append(ticket)
        return self.end(lane, spent_ns)

    def end(self, lane: Lane[Ticket], spent_ns: int) -> list[Ticket]:
        """A turn is over and took ``spent_ns`` (0: nothing was run). Returns the tickets whose turn it is now."""
        spent = float(spent_ns * lane.slots)
        self._free += lane.slots
        lane.finish += (spent - lane.charged.popleft()) / lane.weight
        if spent_ns:
            lane.charge = spent
        if not any(one.running or one.waiting for one in self.lanes):
            self._virtual = max([self._virtual, *(one.finish for one in self.lanes)])
        return self._grant()

    def has_neighbours(self, lane: Lane[Ticket], now_ns: int) -> bool:
        """Whether another lane uses the device, or did so a moment ago."""
        for one in self.lanes:
            if one is not lane and (one.running or one.waiting or now_ns - one.asked_ns < PRESENT_NS):
                return True
        return False

    def limit_ns(self, lane: Lane[Ticket], now_ns: int) -> int:
        """The most device time that the next batch of a lane should take."""
        return QUANTUM_NS if not self.preemptive and self.has_neighbours(lane, now_ns) else NEVER

    def stretch(self, lane: Lane[Ticket]) -> float:
        """How many times longer a lane's work takes than its runs do, while the others stay as busy as they are.

        Where the kernel shares the slots out, the runs themselves take longer, and are measured so."""
        if self.preemptive:
            return 1.0
        others = sum(one.weight for one in self.lanes if one is not lane and (one.running or one.waiting))
        return 1.0 + others / lane.weight

    def _grant(self) -> list[Ticket]:
        """The lane that begins first in virtual time is next. If its slots are not free, they are kept for it: a wide
        batch would else wait for ever behind narrow ones."""
        granted: list[Ticket] = []
        while lane := min((one for one in self.lanes if one.waiting), key=_start, default=None):
            if lane.slots > self._free:
                lane = self._idle_lane()
                if lane is None:
                    break
            granted.append(lane.waiting.popleft())
            self._virtual = max(self._virtual, lane.start)
            lane.finish = lane.start + lane.charge / lane.weight
            lane.asked_at = self._virtual
            lane.charged.append(lane.charge)
            self._free -= lane.slots
        return granted

    def _idle_lane(self) -> Lane[Ticket] | None:
        """Where the kernel shares the slots out: a lane that waits and has nothing running."""
        if not self.preemptive:
            return None
        idle = [one for one in self.lanes if one.waiting and not one.running]
        return min(idle, key=_start, default=None)


def _start(lane: Lane[Ticket]) -> float:
    return lane.start
