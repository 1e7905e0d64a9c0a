"""Whose turn it is on a shared device: shares, idleness, slots and who may go first, in virtual time."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from server.request import NEVER
from server.scheduling.fair_queue import ACTIVE_NS, QUANTUM_NS, FairQueue, Flow

MS = 1_000_000
SECOND = 1_000 * MS


@dataclass
class Model:
    """A flow that always wants more, from ``instances``, in batches of ``batch_ns``; or that wants one at a time."""

    batch_ns: int
    instances: int = 1
    slots: int = 1
    weight: float = 1.0
    think_ns: int = 0
    spent_ns: int = 0
    waits_ns: list[int] = field(default_factory=list)


def share(queue: FairQueue[tuple[Model, int]], models: list[Model], until_ns: int) -> None:
    """Let all models use the device; runs take as long as they say, whatever else runs."""
    order = itertools.count()
    flows = {id(one): queue.join(one.slots, one.weight) for one in models}
    events: list[tuple[int, int, Callable[[int], list[tuple[Model, int]]]]] = []

    def later(at_ns: int, act: Callable[[int], list[tuple[Model, int]]]) -> None:
        heapq.heappush(events, (at_ns, next(order), act))

    def asks(model: Model) -> Callable[[int], list[tuple[Model, int]]]:
        return lambda now_ns: queue.ask(flows[id(model)], (model, now_ns), now_ns)

    def ends(model: Model) -> Callable[[int], list[tuple[Model, int]]]:
        flow = flows[id(model)]
        if model.think_ns:
            return lambda _now_ns: queue.end(flow, model.batch_ns)
        return lambda now_ns: queue.renew(flow, (model, now_ns), model.batch_ns, now_ns)

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
        share(FairQueue(1, preemptive=False), [hog, light], 10 * SECOND)
        assert abs(hog.spent_ns - light.spent_ns) <= 2 * 40 * MS

    def test_weights_are_kept(self) -> None:
        heavy, light = Model(batch_ns=5 * MS, weight=3.0), Model(batch_ns=5 * MS)
        share(FairQueue(1, preemptive=False), [heavy, light], 8 * SECOND)
        assert abs(heavy.spent_ns - 3 * light.spent_ns) <= 4 * 5 * MS

    def test_one_that_asks_now_and_then_waits_for_one_batch_and_no_more(self) -> None:
        hog, light = Model(batch_ns=10 * MS, instances=8), Model(batch_ns=1 * MS, think_ns=30 * MS)
        share(FairQueue(1, preemptive=False), [hog, light], 5 * SECOND)
        assert max(light.waits_ns) <= 10 * MS

    def test_a_wide_batch_is_not_starved_by_narrow_ones(self) -> None:
        narrow, wide = Model(batch_ns=3 * MS, instances=4), Model(batch_ns=3 * MS, slots=4)
        share(FairQueue(4, preemptive=False), [narrow, wide], 4 * SECOND)
        assert wide.spent_ns > 0.4 * (narrow.spent_ns + wide.spent_ns)

    def test_a_flow_that_was_idle_gets_nothing_for_the_past(self) -> None:
        queue: FairQueue[str] = FairQueue(1, preemptive=False)
        busy, late = queue.join(1), queue.join(1)
        for turn in range(100):
            assert queue.ask(busy, f"busy {turn}", turn) == [f"busy {turn}"]
            if turn < 99:
                queue.end(busy, 10 * MS)
        order = []
        for index in range(3):
            assert queue.ask(late, f"late {index}", 100) == queue.ask(busy, f"more {index}", 100) == []
        flow = busy
        for _ in range(6):
            (ticket,) = queue.end(flow, 10 * MS)
            flow = late if ticket.startswith("late") else busy
            order.append(ticket.split()[0])
        assert order.count("late") == 3
        assert order[:3] != ["late"] * 3

    def test_where_the_kernel_preempts_a_model_with_nothing_running_never_waits(self) -> None:
        hog, light = Model(batch_ns=40 * MS, instances=8), Model(batch_ns=2 * MS, think_ns=5 * MS)
        share(FairQueue(2, preemptive=True), [hog, light], 5 * SECOND)
        assert set(light.waits_ns) == {0}


class TestLimits:
    def test_a_batch_is_limited_while_a_neighbour_is_there_and_a_moment_longer(self) -> None:
        queue: FairQueue[int] = FairQueue(1, preemptive=False)
        hog, light = queue.join(1), queue.join(1)
        assert queue.limit_ns(hog, 0) == NEVER
        queue.ask(light, 1, 7)
        assert queue.limit_ns(hog, 8) == QUANTUM_NS
        queue.end(light, 5)
        assert queue.limit_ns(hog, 7 + ACTIVE_NS - 1) == QUANTUM_NS
        assert queue.limit_ns(hog, 7 + ACTIVE_NS) == NEVER

    def test_where_the_kernel_preempts_nothing_is_limited_or_slowed_down(self) -> None:
        queue: FairQueue[int] = FairQueue(1, preemptive=True)
        hog, light = queue.join(1), queue.join(1)
        queue.ask(light, 1, 0)
        assert (queue.limit_ns(hog, 0), queue.slowdown(hog)) == (NEVER, 1.0)

    def test_work_takes_longer_by_the_weight_of_those_who_are_busy(self) -> None:
        queue: FairQueue[int] = FairQueue(1, preemptive=False)
        ours, theirs, _idle = queue.join(1, 2.0), queue.join(1, 1.0), queue.join(1, 5.0)
        assert queue.slowdown(ours) == 1.0
        queue.ask(theirs, 1, 0)
        assert (queue.slowdown(ours), queue.slowdown(theirs)) == (1.5, 1.0)


class FairQueueMachine(RuleBasedStateMachine):
    """In any order: slots are never given twice, every ticket is granted once, and none waits beside a free queue."""

    SLOTS = 3

    def __init__(self) -> None:
        super().__init__()
        self.queue: FairQueue[int] = FairQueue(self.SLOTS, preemptive=False)
        self.flows: list[Flow[int]] = []
        self.owner: dict[int, Flow[int]] = {}
        self.waiting: set[int] = set()
        self.running: dict[int, Flow[int]] = {}
        self.tickets = 0

    @precondition(lambda self: len(self.flows) < 5)
    @rule(slots=st.integers(1, 5), weight=st.sampled_from([0.5, 1.0, 3.0]))
    def join(self, slots: int, weight: float) -> None:
        self.flows.append(self.queue.join(slots, weight))

    @precondition(lambda self: self.flows)
    @rule(data=st.data())
    def ask(self, data: st.DataObject) -> None:
        self.tickets += 1
        flow = data.draw(st.sampled_from(self.flows))
        self.owner[self.tickets] = flow
        self.waiting.add(self.tickets)
        self.granted(self.queue.ask(flow, self.tickets, self.tickets))

    @precondition(lambda self: self.running)
    @rule(data=st.data(), spent_ns=st.integers(0, 50 * MS))
    def end(self, data: st.DataObject, spent_ns: int) -> None:
        ticket = data.draw(st.sampled_from(sorted(self.running)))
        self.granted(self.queue.end(self.running.pop(ticket), spent_ns))

    @precondition(lambda self: any(flow in self.flows for flow in self.running.values()))
    @rule(data=st.data(), spent_ns=st.integers(0, 50 * MS))
    def renew(self, data: st.DataObject, spent_ns: int) -> None:
        here = [ticket for ticket, flow in self.running.items() if flow in self.flows]
        flow = self.running.pop(data.draw(st.sampled_from(sorted(here))))
        self.tickets += 1
        self.owner[self.tickets] = flow
        self.waiting.add(self.tickets)
        self.granted(self.queue.renew(flow, self.tickets, spent_ns, self.tickets))

    @precondition(lambda self: self.flows)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        flow = data.draw(st.sampled_from(self.flows))
        self.flows.remove(flow)
        self.waiting -= {ticket for ticket in self.waiting if self.owner[ticket] is flow}
        self.granted(self.queue.leave(flow))

    def granted(self, tickets: list[int]) -> None:
        for ticket in tickets:
            self.waiting.remove(ticket)
            self.running[ticket] = self.owner[ticket]

    @invariant()
    def slots_are_given_once(self) -> None:
        assert sum(flow.slots for flow in self.running.values()) <= self.SLOTS

    @invariant()
    def no_ticket_waits_beside_a_free_device(self) -> None:
        assert self.running or not self.waiting


TestFairQueueMachine = FairQueueMachine.TestCase
TestFairQueueMachine.settings = settings(stateful_step_count=40)


@given(
    costs_ms=st.lists(st.integers(1, 40), min_size=2, max_size=4),
    instances=st.lists(st.integers(1, 6), min_size=4, max_size=4),
)
@settings(max_examples=40)
def test_models_that_always_want_more_get_the_same_time_within_a_batch_each(
    costs_ms: list[int], instances: list[int]
) -> None:
    models = [Model(cost * MS, count) for cost, count in zip(costs_ms, instances, strict=False)]
    share(FairQueue(1, preemptive=False), models, 4 * SECOND)
    spent = [one.spent_ns for one in models]
    assert max(spent) - min(spent) <= 2 * sum(one.batch_ns for one in models) + QUANTUM_NS
