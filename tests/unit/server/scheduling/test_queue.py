"""The queue's decisions, with a clock that only moves when told to."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from bench.explain.simulator import poisson, simulate
from server.errors import ClientGone, DeadlineExceeded
from server.request import NEVER, InferRequest
from server.scheduling import contention_estimate
from server.scheduling.batch import Batch
from server.scheduling.queue import BatchQueue

MS = 1_000_000
FLAT = [(1, 10 * MS), (8, 10 * MS)]
"""A model for which a batch of eight costs as much as one row."""
LINEAR = [(size, size * MS) for size in (1, 2, 4, 8)]
"""A model that gains nothing from batching."""


def request(
    rows: int = 1, deadline_ns: int = NEVER, on_done: Callable[[InferRequest], None] = lambda _: None
) -> InferRequest:
    return InferRequest((np.zeros((rows, 2), np.float32),), rows, on_done, deadline_ns=deadline_ns)


def rows_of(batch: Batch | None) -> list[tuple[InferRequest, int, int]]:
    assert batch is not None
    return batch.slices


def test_an_idle_instance_gets_a_lone_request_at_once() -> None:
    queue = BatchQueue(8, FLAT)
    lone = request()
    queue.push(lone, None, 100)
    assert rows_of(queue.pull(100)) == [(lone, 0, 1)]
    assert lone.picked_ns == 100
    assert lone.held_ns == 0


def test_requests_that_arrive_while_the_instance_works_share_the_next_batch() -> None:
    queue = BatchQueue(8, FLAT)
    queue.push(request(), None, 1)
    first = queue.pull(1)
    assert first is not None
    late = [request() for _ in range(5)]
    for one in late:
        queue.push(one, None, 2)
    queue.release(first)
    assert [slice_[0] for slice_ in rows_of(queue.pull(3))] == late


def test_a_model_that_gains_nothing_from_batching_runs_row_by_row() -> None:
    queue = BatchQueue(8, LINEAR)
    for _ in range(3):
        queue.push(request(), None, 1)
    assert [batch.rows for batch in iter(lambda: queue.pull(1), None)] == [1, 1, 1]


@pytest.mark.parametrize(("three_ns", "parts"), [(40, [3]), (41, [2, 1])])
def test_a_request_that_waits_alone_is_cut_only_where_it_ends_sooner(three_ns: int, parts: list[int]) -> None:
    queue = BatchQueue(3, [(1, 20 * MS), (2, 21 * MS), (3, three_ns * MS)])
    queue.push(request(rows=3), None, 1)
    assert [batch.rows for batch in iter(lambda: queue.pull(1), None)] == parts
    for _ in range(3):  # what is left of one shares a run with the next
        queue.push(request(), None, 1)
    assert [batch.rows for batch in iter(lambda: queue.pull(1), None)] == [2, 1]


def test_different_shapes_never_share_a_batch_and_take_turns_by_age() -> None:
    queue = BatchQueue(8, FLAT)
    for now, shape in enumerate("abab", start=1):
        queue.push(request(), shape, now)
    assert [batch.rows for batch in iter(lambda: queue.pull(9), None)] == [2, 2]


def test_the_earliest_deadline_runs_first() -> None:
    queue = BatchQueue(1, [(1, MS)])
    relaxed, hurried = request(deadline_ns=900 * MS), request(deadline_ns=300 * MS)
    queue.push(relaxed, None, 1)
    queue.push(hurried, None, 2)
    assert rows_of(queue.pull(3))[0][0] is hurried


def test_a_request_without_deadline_is_not_starved_by_hurried_ones() -> None:
    queue = BatchQueue(1, [(1, MS)])
    patient = request()
    queue.push(patient, None, 1)
    hurried = request(deadline_ns=60_000 * MS)
    queue.push(hurried, None, 20_000 * MS)
    assert rows_of(queue.pull(20_001 * MS))[0][0] is patient


def test_a_batch_is_cut_so_that_its_head_meets_its_deadline() -> None:
    seeds = [(1, 10 * MS), (8, 40 * MS)]
    queue = BatchQueue(8, seeds)
    queue.push(request(deadline_ns=25 * MS), None, 1)
    for _ in range(7):
        queue.push(request(), None, 1)
    batch = queue.pull(1)
    assert batch is not None
    assert 1 <= batch.rows < 8
    assert queue.cost(None).predict_ns(batch.rows) <= 25 * MS


def test_a_batch_is_smaller_where_runs_scatter() -> None:
    queue = BatchQueue(8, [(1, 10 * MS), (8, 40 * MS)])
    for _ in range(8):
        queue.push(request(deadline_ns=41 * MS), None, 0)
    queue.cost(None).spread = 2.0
    batch = queue.pull(0)
    assert batch is not None
    assert 2.0 * queue.cost(None).predict_ns(batch.rows) <= 41 * MS


@pytest.mark.parametrize("now_ns", [50 * MS, 51 * MS])
def test_an_expired_request_is_not_run(now_ns: int) -> None:
    queue = BatchQueue(8, FLAT)
    expired = request(deadline_ns=50 * MS)
    queue.push(expired, None, 1)
    assert queue.pull(now_ns) is None
    assert queue.waiting.take_evicted() == [expired]
    assert isinstance(expired.error, DeadlineExceeded)
    assert queue.waiting.rows == 0


def test_a_request_that_cannot_finish_in_time_is_not_begun() -> None:
    queue = BatchQueue(8, FLAT)
    doomed = request(deadline_ns=50 * MS)
    queue.push(doomed, None, 1)
    assert queue.pull(41 * MS) is None
    assert isinstance(queue.waiting.take_evicted()[0].error, DeadlineExceeded)


def test_a_late_head_is_given_up_when_that_saves_the_rest() -> None:
    queue = BatchQueue(8, [(1, 5 * MS), (8, 12 * MS)])
    head = request(deadline_ns=6 * MS)
    others = [request(deadline_ns=40 * MS) for _ in range(8)]
    for one in (head, *others):
        queue.push(one, None, 1)
    assert [one for one, _, _ in rows_of(queue.pull(1))] == others
    assert queue.waiting.take_evicted() == [head]
    assert isinstance(head.error, DeadlineExceeded)


def test_a_late_head_is_kept_when_giving_it_up_gains_nothing() -> None:
    queue = BatchQueue(8, [(size, size * 5 * MS) for size in (1, 8)])
    head, other = request(deadline_ns=6 * MS), request(deadline_ns=40 * MS)
    queue.push(head, None, 1)
    queue.push(other, None, 1)
    assert rows_of(queue.pull(1))[0][0] is head
    assert queue.waiting.take_evicted() == []


def test_the_predicted_finish_is_that_of_the_batch_that_a_request_would_be_in() -> None:
    queue = BatchQueue(8, [(1, 5 * MS), (8, 12 * MS)])
    assert queue.finish_ns(1, None, 0, 100, 0) == 100 + 5 * MS
    for _ in range(7):
        queue.push(request(), None, 1)
    assert queue.finish_ns(1, None, 0, 100, 3 * MS) == 100 + 3 * MS + 12 * MS


def test_the_wait_is_predicted_longer_where_runs_scatter_and_a_lone_request_is_always_tried() -> None:
    queue = BatchQueue(1, [(1, 10 * MS)])
    assert queue.finish_ns(1, None, 0, 0, 100 * MS) == 110 * MS
    for took_ms in (10, 30) * 20:
        queue.cost(None).record(1, took_ms * MS)
    run_ns, spread = queue.cost(None).predict_ns(1), queue.cost(None).spread
    assert spread > 1.1
    assert queue.finish_ns(1, None, 0, 0, 100 * MS) == int(100 * MS * spread + run_ns)
    assert queue.finish_ns(1, None, 0, 0, 0) == run_ns


def test_an_abandoned_request_is_not_run_and_its_neighbours_are() -> None:
    queue = BatchQueue(8, FLAT)
    three = [request() for _ in range(3)]
    for one in three:
        queue.push(one, None, 1)
    three[1].abandoned = True
    assert [one for one, _, _ in rows_of(queue.pull(2))] == [three[0], three[2]]
    assert queue.waiting.take_evicted() == [three[1]]
    assert isinstance(three[1].error, ClientGone)


def test_expire_finds_what_waits_behind_a_busy_instance() -> None:
    queue = BatchQueue(1, [(1, MS)])
    queue.push(request(), None, 1)
    assert queue.pull(1) is not None
    waiting = request(deadline_ns=5 * MS)
    queue.push(waiting, None, 2)
    assert queue.waiting.expire(4 * MS) > 4 * MS
    assert queue.waiting.take_evicted() == []
    assert queue.waiting.expire(5 * MS) == NEVER
    assert queue.waiting.take_evicted() == [waiting]


def test_a_hold_waits_for_company_until_the_delay_is_over() -> None:
    queue = BatchQueue(8, FLAT, max_delay_ns=5 * MS)
    first, second = request(), request()
    queue.push(first, None, 10 * MS)
    assert queue.pull(10 * MS) is None
    assert queue.wake_ns() == 15 * MS
    queue.push(second, None, 12 * MS)
    assert queue.pull(12 * MS) is None
    assert [one for one, _, _ in rows_of(queue.pull(15 * MS))] == [first, second]
    assert (first.held_ns, second.held_ns) == (5 * MS, 3 * MS)
    assert queue.wake_ns() == NEVER


def test_a_full_batch_is_not_held() -> None:
    queue = BatchQueue(2, [(1, MS), (2, MS)], max_delay_ns=5 * MS)
    queue.push(request(), None, 1)
    queue.push(request(), None, 1)
    assert queue.pull(2) is not None


def test_waiting_behind_a_busy_instance_is_not_counted_as_holding() -> None:
    queue = BatchQueue(8, FLAT, max_delay_ns=5 * MS)
    queue.push(request(), None, 1 * MS)
    assert queue.pull(1 * MS) is None
    running = queue.pull(6 * MS)
    assert running is not None
    waiting = request()
    queue.push(waiting, None, 7 * MS)
    queue.release(running)
    assert rows_of(queue.pull(20 * MS))[0][0] is waiting
    assert waiting.held_ns == 0


def test_the_backlog_counts_waiting_rows_and_the_rest_of_the_running_batch() -> None:
    queue = BatchQueue(1, [(1, 10 * MS)])
    assert queue.backlog_ns(0) == 0
    queue.push(request(), None, 0)
    queue.pull(0)
    assert queue.backlog_ns(4 * MS) == 6 * MS
    queue.push(request(rows=3), None, 4 * MS)
    assert queue.backlog_ns(4 * MS) == 36 * MS


def test_the_backlog_is_shared_by_instances() -> None:
    queue = BatchQueue(1, [(1, 10 * MS)], instances=2)
    queue.push(request(rows=4), None, 0)
    assert queue.backlog_ns(0) == 20 * MS


def test_idle_shapes_are_forgotten_when_there_are_too_many() -> None:
    queue = BatchQueue(8, FLAT)
    kept = request()
    queue.push(kept, "kept", 1)
    for shape in range(2_000):
        queue.cost(shape)
    assert len(queue.waiting.buckets) < 600
    assert rows_of(queue.pull(2))[0][0] is kept


def test_clear_returns_what_waits() -> None:
    queue = BatchQueue(8, FLAT)
    waiting = request()
    queue.push(waiting, None, 1)
    assert queue.waiting.clear() == [waiting]
    assert queue.pull(2) is None


@given(
    sizes=st.lists(st.integers(1, 20), min_size=1, max_size=30),
    largest=st.integers(1, 16),
)
def test_every_row_is_run_exactly_once_and_in_order(sizes: list[int], largest: int) -> None:
    queue = BatchQueue(largest, [(1, MS), (largest, 2 * MS)])
    requests = [request(rows) for rows in sizes]
    for one in requests:
        queue.push(one, None, 1)
    ran: dict[int, list[int]] = {id(one): [] for one in requests}
    for batch in iter(lambda: queue.pull(2), None):
        assert batch.rows == sum(stop - start for _, start, stop in batch.slices) <= largest
        for one, start, stop in batch.slices:
            ran[id(one)].extend(range(start, stop))
    assert [ran[id(one)] for one in requests] == [list(range(rows)) for rows in sizes]


BATCHES_GAIN = [(1, 5 * MS), (8, 12 * MS)]


class TestInstancesThatShareADevice:
    """A run of one row takes 5 ms and a row of a full batch 1.5: rows are worth more together."""

    def queue(self, contention: float, instances: int = 2) -> BatchQueue:
        return BatchQueue(8, BATCHES_GAIN, instances=instances, contention=contention)

    def test_an_idle_device_starts_at_once(self) -> None:
        queue = self.queue(2.0)
        queue.push(request(), None, 1)
        assert queue.pull(1) is not None

    def test_with_cores_of_their_own_every_idle_instance_starts_at_once(self) -> None:
        queue = self.queue(1.0)
        for _ in range(2):
            queue.push(request(), None, 1)
            assert queue.pull(1) is not None

    def test_a_small_batch_waits_for_the_instance_that_runs_and_grows(self) -> None:
        queue = self.queue(2.0)
        queue.push(request(), None, 1)
        first = queue.pull(1)
        assert first is not None
        late = [request() for _ in range(3)]
        for one in late:
            queue.push(one, None, 2)
            assert queue.pull(2) is None
        queue.release(first)
        assert [one for one, _, _ in rows_of(queue.pull(5 * MS))] == late

    def test_a_full_batch_starts_beside_another_one(self) -> None:
        queue = self.queue(2.0)
        for _ in range(16):
            queue.push(request(), None, 1)
        assert [batch.rows for batch in iter(lambda: queue.pull(1), None)] == [8, 8]

    def test_where_running_beside_gains_something_rows_wait_only_if_they_lose_nothing(self) -> None:
        queue = self.queue(1.5)
        for _ in range(8):
            queue.push(request(), None, 0)
        assert queue.pull(0) is not None
        queue.push(request(), None, 1 * MS)
        assert queue.pull(int(9.6 * MS)) is None
        assert queue.pull(1 * MS) is not None  # 11 ms until the other one is free: longer than 1.5 x 5 - 5 ms

    def test_a_run_that_does_not_end_when_it_should_is_not_waited_for_long(self) -> None:
        queue = self.queue(2.0)
        queue.push(request(), None, 0)
        assert queue.pull(0) is not None
        queue.push(request(), None, 1 * MS)
        assert queue.pull(1 * MS) is None
        assert queue.wake_ns() == 10 * MS + 1
        assert queue.pull(9 * MS) is None
        assert queue.pull(queue.wake_ns()) is not None
        assert queue.wake_ns() == NEVER

    def test_what_a_run_took_beside_another_one_is_counted_as_if_it_had_been_alone(self) -> None:
        queue = self.queue(2.0)
        for _ in range(16):
            queue.push(request(), None, 0)
        first, second = queue.pull(0), queue.pull(0)
        assert first is not None
        assert second is not None
        second.computed_ns = 24 * MS
        second.outputs = [np.zeros(8)]
        queue.release(second)
        assert dict(queue.cost(None).points())[8] == 12 * MS

    def test_the_backlog_knows_that_two_on_one_core_are_not_twice_as_fast(self) -> None:
        shared, own = self.queue(2.0), self.queue(1.0)
        for queue in (shared, own):
            queue.push(request(rows=8), None, 0)
        assert shared.backlog_ns(0) == 2 * own.backlog_ns(0) == 12 * MS

    @pytest.mark.parametrize("seed", [0, 1])
    @pytest.mark.parametrize("instances", [2, 4])
    def test_on_one_core_instances_are_nearly_as_good_as_one(self, seed: int, instances: int) -> None:
        one, knowing = (shared_core(seed, instances, knows) for knows in ("one", "contention"))
        assert knowing < 1.1 * one

    @pytest.mark.parametrize("instances", [2, 4])
    def test_without_a_measured_contention_they_learn_it(self, instances: int, monkeypatch: pytest.MonkeyPatch) -> None:
        learning = shared_core(0, instances, "nothing")
        assert learning < 1.15 * shared_core(0, 1, "one")
        monkeypatch.setattr(contention_estimate, "LEARNING", 0.0)
        assert learning < 0.8 * shared_core(0, instances, "nothing")


def shared_core(seed: int, instances: int, knows: str) -> float:
    """Mean wait in virtual time at half the capacity of one core, with so many instances, or with one."""
    count = 1 if knows == "one" else instances
    queue = BatchQueue(8, BATCHES_GAIN, instances=count, contention=float(count) if knows == "contention" else 1.0)
    table = BatchQueue(8, BATCHES_GAIN).cost(None)
    outcome = simulate(
        poisson(333, 10, seed), queue, lambda batch: table.predict_ns(batch.rows), slower=lambda busy: float(busy)
    )
    return float(np.mean(outcome.waits_ns))


@given(
    contention=st.floats(1.0, 4.0),
    instances=st.integers(1, 4),
    load=st.floats(0.2, 2.0),
    seed=st.integers(0, 1_000),
)
@settings(max_examples=40)
def test_with_any_contention_every_request_is_answered_once(
    contention: float, instances: int, load: float, seed: int
) -> None:
    """And nothing waits for ever: the simulation ends only when all is answered."""
    told = 1.0 if instances == 1 else min(contention, instances)
    queue = BatchQueue(4, [(1, 5 * MS), (4, 8 * MS)], instances=instances, contention=told)
    arrivals = poisson(load * 500, 0.5, seed)
    outcome = simulate(arrivals, queue, lambda batch: (4 + batch.rows) * MS, slower=lambda busy: 1 + (busy - 1) / 2)
    assert (outcome.answered, sum(outcome.batches), queue.waiting.rows) == (len(arrivals),) * 2 + (0,)


class QueueMachine(RuleBasedStateMachine):
    """Against a naive model: nothing is lost, doubled, run late or run for nobody."""

    def __init__(self) -> None:
        super().__init__()
        self.now_ns = 1
        self.queue = BatchQueue(4, [(1, 2 * MS), (4, 4 * MS)], instances=2)
        self.waiting: dict[InferRequest, int] = {}
        self.running: list[Batch] = []

    @rule(rows=st.integers(1, 9), shape=st.sampled_from("ab"), slack_ms=st.none() | st.integers(1, 50))
    def push(self, rows: int, shape: str, slack_ms: int | None) -> None:
        deadline_ns = NEVER if slack_ms is None else self.now_ns + slack_ms * MS
        one = request(rows, deadline_ns)
        one.context = shape
        self.queue.push(one, shape, self.now_ns)
        self.waiting[one] = rows

    @rule(ms=st.integers(0, 20))
    def wait(self, ms: int) -> None:
        self.now_ns += ms * MS

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def abandon(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(list(self.waiting))).abandoned = True

    @precondition(lambda self: self.queue.running.idle)
    @rule()
    def pull(self) -> None:
        batch = self.queue.pull(self.now_ns)
        self.evicted()
        if batch is None:
            assert not self.waiting
            return
        assert 0 < batch.rows <= 4
        assert len({one.context for one, _, _ in batch.slices}) == 1
        for one, start, stop in batch.slices:
            assert not one.abandoned
            assert self.now_ns < one.deadline_ns
            assert start == one.rows - self.waiting[one]
            self.waiting[one] -= stop - start
            if not self.waiting[one]:
                del self.waiting[one]
        self.running.append(batch)

    @precondition(lambda self: self.running)
    @rule()
    def release(self) -> None:
        self.queue.release(self.running.pop())

    @rule()
    def expire(self) -> None:
        self.queue.waiting.expire(self.now_ns)
        self.evicted()

    def evicted(self) -> None:
        for one in self.queue.waiting.take_evicted():
            assert one.error is not None
            assert one.abandoned or one.deadline_ns < self.now_ns + 20 * MS
            del self.waiting[one]

    @invariant()
    def rows_are_accounted_for(self) -> None:
        assert self.queue.waiting.rows == sum(self.waiting.values())
        assert self.queue.backlog_ns(self.now_ns) >= 0


TestQueueMachine = QueueMachine.TestCase
TestQueueMachine.settings = settings(stateful_step_count=40)
