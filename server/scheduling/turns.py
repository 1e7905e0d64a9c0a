"""Turns at a device: the threads of several models wait here until the device's rules let them start a batch.

:mod:`.device` decides; this holds its lock and puts threads to sleep. A model that has the device to itself pays for a
look at that and nothing else.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import perf_counter_ns
from typing import Protocol

from ..request import NEVER
from .device import Device, Lane


class Seat(Protocol):
    """Where one instance of a model asks for its turns."""

    def take(self) -> int:
        """Wait for a turn; the most nanoseconds that the batch should take."""
        ...

    def renew(self, spent_ns: int) -> int:
        """Give the turn back after a batch that took ``spent_ns``, and wait for the next one, as :meth:`take`."""
        ...

    def give_back(self) -> None:
        """The turn was not needed."""
        ...


class FreeSeat:
    """A seat where nobody else ever waits."""

    def take(self) -> int:
        return NEVER

    def renew(self, spent_ns: int) -> int:  # noqa: ARG002 - what is not shared is not accounted
        return NEVER

    def give_back(self) -> None:
        """There is nothing to give back."""


class Ticket:
    """One thread that wants a turn."""

    __slots__ = ("gate", "granted")

    def __init__(self) -> None:
        self.gate = threading.Lock()
        self.gate.acquire()
        self.granted = False

    def grant(self) -> None:
        self.granted = True
        self.gate.release()


class Turns:
    """The device that the models of this process share."""

    def __init__(self, device: Device[Ticket], clock: Callable[[], int] = perf_counter_ns) -> None:
        self._device = device
        self._clock = clock
        self._lock = threading.Lock()

    def join(self, slots: int, weight: float = 1.0) -> Place:
        """A place for a model whose batches occupy ``slots`` of the device."""
        with self._lock:
            return Place(self, self._device.join(slots, weight))

    def leave(self, lane: Lane[Ticket]) -> None:
        """Let everything of a lane go on without asking any more."""
        with self._lock:
            let_go = list(lane.waiting)
            granted = self._device.leave(lane)
        for ticket in let_go:
            ticket.gate.release()
        _grant(granted)

    @property
    def alone(self) -> bool:
        """Whether there is at most one model: then nobody has to ask."""
        return len(self._device.lanes) < 2

    def ask(self, lane: Lane[Ticket]) -> Ticket | None:
        """A ticket that will be granted, or let go; None when the lane has left."""
        ticket = Ticket()
        with self._lock:
            if lane not in self._device.lanes:
                return None
            granted = self._device.ask(lane, ticket, self._clock())
        _grant(granted)
        return ticket

    def renew(self, lane: Lane[Ticket], spent_ns: int) -> Ticket | None:
        """End a turn and ask for another one, as :meth:`ask`."""
        ticket = Ticket()
        with self._lock:
            here = lane in self._device.lanes
            if here:
                granted = self._device.renew(lane, ticket, spent_ns, self._clock())
            else:
                granted = self._device.end(lane, spent_ns)
        _grant(granted)
        return ticket if here else None

    def end(self, lane: Lane[Ticket], spent_ns: int) -> None:
        with self._lock:
            granted = self._device.end(lane, spent_ns)
        _grant(granted)

    def limit_ns(self, lane: Lane[Ticket]) -> int:
        """The most device time that the next batch of a lane should take."""
        with self._lock:
            return self._device.limit_ns(lane, self._clock())

    def stretch(self, lane: Lane[Ticket]) -> float:
        """How many times longer a lane's work takes because others take turns with it."""
        return 1.0 if self.alone else self._device.stretch(lane)


class Place:
    """One model's place at the device; each of its instances has a seat."""

    def __init__(self, turns: Turns, lane: Lane[Ticket]) -> None:
        self._turns = turns
        self._lane = lane

    def seat(self) -> Seat:
        return SharedSeat(self)

    def stretch(self) -> float:
        return self._turns.stretch(self._lane)

    def leave(self) -> None:
        """Nobody waits here any more; what runs is finished without being accounted against others."""
        self._turns.leave(self._lane)

    def wait(self) -> bool:
        """Ask for a turn and wait for it. False when there was nobody to ask, or nothing to wait for any more."""
        return _wait(None if self._turns.alone else self._turns.ask(self._lane))

    def wait_again(self, spent_ns: int) -> bool:
        """As :meth:`wait`, giving back the turn of a batch that took ``spent_ns``."""
        return _wait(self._turns.renew(self._lane, spent_ns))

    def limit_ns(self) -> int:
        return self._turns.limit_ns(self._lane)

    def end(self, spent_ns: int) -> None:
        self._turns.end(self._lane, spent_ns)


class SharedSeat:
    """One instance's seat: remembers whether it holds a turn that was asked for."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._holds = False

    def take(self) -> int:
        self._holds = self._place.wait()
        return self._place.limit_ns() if self._holds else NEVER

    def renew(self, spent_ns: int) -> int:
        if not self._holds:
            return self.take()
        self._holds = self._place.wait_again(spent_ns)
        return self._place.limit_ns() if self._holds else NEVER

    def give_back(self) -> None:
        if self._holds:
            self._holds = False
            self._place.end(0)


def _wait(ticket: Ticket | None) -> bool:
    if ticket is None:
        return False
    ticket.gate.acquire()
    return ticket.granted


def _grant(tickets: list[Ticket]) -> None:
    for ticket in tickets:
        ticket.grant()
