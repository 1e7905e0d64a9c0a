"""Whose turn it is on a shared device: shares, idleness, slots and who may go first, in virtual time."""

from __future__ import annotations

import heapq
import itertools
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from server.request import NEVER
from server.scheduling.device import PRESENT_NS, QUANTUM_NS, Device, Lane
from server.scheduling.turns import Place, Ticket, Turns

MS = 1_000_000
SECOND = 1_000 * MS


@dataclass
class Model:
    """A lane that always wants more, from ``instances``, in batches of ``batch_ns``; or that wants one at a time."""

    batch_ns: int
    instances: int = 1
    slots: int = 1
    weight: float = 1.0
    think_ns: int = 0
    spent_ns: int = 0
    waits_ns: list[int] = field(default_factory=list)


def share(device: Device[tuple[Model, int]], models: list[Model], until_ns: int) -> None:
    """Let all models use the device; runs take as long as they say, whatever else runs."""
    order = itertools.count()
    lanes = {id(one): device.join(one.slots, one.weight) for one in models}
    events: list[tuple[int, int, Callable[[int], list[tuple[Model, int]]]]] = []

    def later(at_ns: int, act: Callable[[int], list[tuple[Model, int]]]) -> None:
        heapq.heappush(events, (at_ns, next(order), act))

    def asks(model: Model) -> Callable[[int], list[tuple[Model, int]]]:
        return lambda now_ns: device.ask(lanes[id(model)], (model, now_ns), now_ns)

    def ends(model: Model) -> Callable[[int], list[tuple[Model, int]]]:
        lane = lanes[id(model)]
        if model.think_ns:
            return lambda _now_ns: device.end(lane, model.batch_ns)
        return lambda now_ns: device.renew(lane, (model, now_ns), model.batch_ns, now_ns)

    for model in models:
        for _ in range(model.instances):
            later(0, asks(model))
    while events and events[0][0] < until_ns:
        now_ns, _, act = heapq.heappop(events)
        for model, asked_ns in act(now_ns):
            model.waits_ns.append(now_ns - asked_ns)
            model.spent_ns += model.batch_ns * model.slots
            later(now_ns + model.batch_ns, ends(model))
            if model.think_ns:
                later(now_ns + model.batch_ns + model.think_ns, asks(model))


class TestShares:
    def test_a_hog_with_long_batches_and_many_instances_gets_half(self) -> None:
        hog, light = Model(batch_ns=40 * MS, instances=8), Model(batch_ns=2 * MS)
        share(Device(1, preemptive=False), [hog, light], 10 * SECOND)
        assert abs(hog.spent_ns - light.spent_ns) <= 2 * 40 * MS

    def test_weights_are_kept(self) -> None:
        heavy, light = Model(batch_ns=5 * MS, weight=3.0), Model(batch_ns=5 * MS)
        share(Device(1, preemptive=False), [heavy, light], 8 * SECOND)
        assert abs(heavy.spent_ns - 3 * light.spent_ns) <= 4 * 5 * MS

    def test_one_that_asks_now_and_then_waits_for_one_batch_and_no_more(self) -> None:
        hog, light = Model(batch_ns=10 * MS, instances=8), Model(batch_ns=1 * MS, think_ns=30 * MS)
        share(Device(1, preemptive=False), [hog, light], 5 * SECOND)
        assert max(light.waits_ns) <= 10 * MS

    def test_a_wide_batch_is_not_starved_by_narrow_ones(self) -> None:
        narrow, wide = Model(batch_ns=3 * MS, instances=4), Model(batch_ns=3 * MS, slots=4)
        share(Device(4, preemptive=False), [narrow, wide], 4 * SECOND)
        assert wide.spent_ns > 0.4 * (narrow.spent_ns + wide.spent_ns)

    def test_a_lane_that_was_idle_gets_nothing_for_the_past(self) -> None:
        device: Device[str] = Device(1, preemptive=False)
        busy, late = device.join(1), device.join(1)
        for turn in range(100):
            assert device.ask(busy, f"busy {turn}", turn) == [f"busy {turn}"]
            if turn < 99:
                device.end(busy, 10 * MS)
        order = []
        for index in range(3):
            assert device.ask(late, f"late {index}", 100) == device.ask(busy, f"more {index}", 100) == []
        lane = busy
        for _ in range(6):
            (ticket,) = device.end(lane, 10 * MS)
            lane = late if ticket.startswith("late") else busy
            order.append(ticket.split()[0])
        assert order.count("late") == 3
        assert order[:3] != ["late"] * 3

    def test_where_the_kernel_preempts_a_model_with_nothing_running_never_waits(self) -> None:
        hog, light = Model(batch_ns=40 * MS, instances=8), Model(batch_ns=2 * MS, think_ns=5 * MS)
        share(Device(2, preemptive=True), [hog, light], 5 * SECOND)
        assert set(light.waits_ns) == {0}


class TestLimits:
    def test_a_batch_is_limited_while_a_neighbour_is_there_and_a_moment_longer(self) -> None:
        device: Device[int] = Device(1, preemptive=False)
        hog, light = device.join(1), device.join(1)
        assert device.limit_ns(hog, 0) == NEVER
        device.ask(light, 1, 7)
        assert device.limit_ns(hog, 8) == QUANTUM_NS
        device.end(light, 5)
        assert device.limit_ns(hog, 7 + PRESENT_NS - 1) == QUANTUM_NS
        assert device.limit_ns(hog, 7 + PRESENT_NS) == NEVER

    def test_where_the_kernel_preempts_nothing_is_limited_or_stretched(self) -> None:
        device: Device[int] = Device(1, preemptive=True)
        hog, light = device.join(1), device.join(1)
        device.ask(light, 1, 0)
        assert (device.limit_ns(hog, 0), device.stretch(hog)) == (NEVER, 1.0)

    def test_work_takes_longer_by_the_weight_of_those_who_are_busy(self) -> None:
        device: Device[int] = Device(1, preemptive=False)
        ours, theirs, _idle = device.join(1, 2.0), device.join(1, 1.0), device.join(1, 5.0)
        assert device.stretch(ours) == 1.0
        device.ask(theirs, 1, 0)
        assert (device.stretch(ours), device.stretch(theirs)) == (1.5, 1.0)


class DeviceMachine(RuleBasedStateMachine):
    """In any order: slots are never given twice, every ticket is granted once, and none waits beside a free device."""

    SLOTS = 3

    def __init__(self) -> None:
        super().__init__()
        self.device: Device[int] = Device(self.SLOTS, preemptive=False)
        self.lanes: list[Lane[int]] = []
        self.owner: dict[int, Lane[int]] = {}
        self.waiting: set[int] = set()
        self.running: dict[int, Lane[int]] = {}
        self.tickets = 0

    @precondition(lambda self: len(self.lanes) < 5)
    @rule(slots=st.integers(1, 5), weight=st.sampled_from([0.5, 1.0, 3.0]))
    def join(self, slots: int, weight: float) -> None:
        self.lanes.append(self.device.join(slots, weight))

    @precondition(lambda self: self.lanes)
    @rule(data=st.data())
    def ask(self, data: st.DataObject) -> None:
        self.tickets += 1
        lane = data.draw(st.sampled_from(self.lanes))
        self.owner[self.tickets] = lane
        self.waiting.add(self.tickets)
        self.granted(self.device.ask(lane, self.tickets, self.tickets))

    @precondition(lambda self: self.running)
    @rule(data=st.data(), spent_ns=st.integers(0, 50 * MS))
    def end(self, data: st.DataObject, spent_ns: int) -> None:
        ticket = data.draw(st.sampled_from(sorted(self.running)))
        self.granted(self.device.end(self.running.pop(ticket), spent_ns))

    @precondition(lambda self: any(lane in self.lanes for lane in self.running.values()))
    @rule(data=st.data(), spent_ns=st.integers(0, 50 * MS))
    def renew(self, data: st.DataObject, spent_ns: int) -> None:
        here = [ticket for ticket, lane in self.running.items() if lane in self.lanes]
        lane = self.running.pop(data.draw(st.sampled_from(sorted(here))))
        self.tickets += 1
        self.owner[self.tickets] = lane
        self.waiting.add(self.tickets)
        self.granted(self.device.renew(lane, self.tickets, spent_ns, self.tickets))

    @precondition(lambda self: self.lanes)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        lane = data.draw(st.sampled_from(self.lanes))
        self.lanes.remove(lane)
        self.waiting -= {ticket for ticket in self.waiting if self.owner[ticket] is lane}
        self.granted(self.device.leave(lane))

    def granted(self, tickets: list[int]) -> None:
        for ticket in tickets:
            self.waiting.remove(ticket)
            self.running[ticket] = self.owner[ticket]

    @invariant()
    def slots_are_given_once(self) -> None:
        assert sum(lane.slots for lane in self.running.values()) <= self.SLOTS

    @invariant()
    def nobody_waits_beside_a_free_device(self) -> None:
        assert self.running or not self.waiting


TestDeviceMachine = DeviceMachine.TestCase
TestDeviceMachine.settings = settings(derandomize=True, max_examples=60, stateful_step_count=40)


@given(
    costs_ms=st.lists(st.integers(1, 40), min_size=2, max_size=4),
    instances=st.lists(st.integers(1, 6), min_size=4, max_size=4),
)
@settings(derandomize=True, max_examples=40)
def test_models_that_always_want_more_get_the_same_time_within_a_batch_each(
    costs_ms: list[int], instances: list[int]
) -> None:
    models = [Model(cost * MS, count) for cost, count in zip(costs_ms, instances, strict=False)]
    share(Device(1, preemptive=False), models, 4 * SECOND)
    spent = [one.spent_ns for one in models]
    assert max(spent) - min(spent) <= 2 * sum(one.batch_ns for one in models) + QUANTUM_NS


class TestTurns:
    def turns(self, slots: int = 1) -> Turns:
        return Turns(Device[Ticket](slots, preemptive=False), clock=lambda: 0)

    def test_a_model_that_is_alone_asks_nobody(self) -> None:
        device: Device[Ticket] = Device(1, preemptive=False)
        seat = Turns(device, clock=lambda: 0).join(1).seat()
        assert [seat.take(), seat.renew(5 * MS), seat.renew(5 * MS)] == [NEVER] * 3
        seat.give_back()
        assert device.lanes[0].finish == 0.0

    def test_a_thread_waits_until_another_model_gives_its_turn_back(self) -> None:
        turns = self.turns()
        ours, theirs = turns.join(1).seat(), turns.join(1).seat()
        ours.take()
        got: list[int] = []
        waiter = threading.Thread(target=lambda: got.append(theirs.take()))
        waiter.start()
        waiter.join(0.05)
        assert got == []
        ours.give_back()
        waiter.join(10)
        assert got == [QUANTUM_NS]

    def test_whoever_leaves_waits_for_nobody_any_more(self) -> None:
        turns = self.turns()
        holder, place = turns.join(1).seat(), turns.join(1)
        holder.take()
        seat = place.seat()
        got: list[int] = []
        waiter = threading.Thread(target=lambda: got.append(seat.take()))
        waiter.start()
        waiter.join(0.05)
        place.leave()
        waiter.join(10)
        assert got == [NEVER]
        seat.give_back()
        assert place.seat().take() == NEVER

    def test_threads_of_several_models_never_hold_more_than_there_is(self) -> None:
        turns = self.turns(2)
        places = [turns.join(slots) for slots in (1, 1, 2)]
        lock = threading.Lock()
        held, most = 0, 0

        def work(place: Place, slots: int) -> None:
            nonlocal held, most
            seat = place.seat()
            seat.take()
            for _ in range(50):
                with lock:
                    held += slots
                    most = max(most, held)
                with lock:
                    held -= slots
                seat.renew(MS)
            seat.give_back()

        threads = [
            threading.Thread(target=work, args=(place, slots))
            for place, slots in zip(places, (1, 1, 2), strict=True)
            for _ in range(2)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert held == 0
        assert most <= 2
