"""The scheduler: admission, completion, deadlines and holds, on a loop that is turned by hand."""

from __future__ import annotations

import threading
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.errors import DeadlineExceeded, ModelFailed, NotReady, Overloaded
from server.models.load.warmup import _unmeasured
from server.request import NEVER, InferRequest
from server.scheduling.admission import LAG_WEIGHT
from server.scheduling.batch import Batch
from server.scheduling.completion import join_part
from server.scheduling.queue import BatchQueue
from server.scheduling.scheduler import Scheduler
from server.scheduling.watchdog import Watchdog
from server.tensors import Array
from tests.fakes import FakeLoop

MS = 1_000_000


class Bench:
    """A scheduler with an inline model that takes ``cost_ms`` of fake time and doubles its input."""

    def __init__(self, cost_ms: int = 1, largest: int = 8, max_delay_ms: int = 0, max_queue_ms: int = 100) -> None:
        self.loop = FakeLoop()
        self.cost_ns = cost_ms * MS
        self.batches: list[int] = []
        self.answered: list[InferRequest] = []
        seeds = [(1, float(self.cost_ns)), (largest, float(self.cost_ns))]
        self.scheduler = Scheduler(
            BatchQueue(largest, seeds, max_delay_ns=max_delay_ms * MS),
            self.model,
            cast(Any, self.loop),
            instances=1,
            inline=True,
            max_queue_ns=max_queue_ms * MS,
            on_batch=self.on_batch,
            clock=self.loop.clock,
        )

    def model(self, arrays: tuple[Array, ...]) -> list[Array]:
        self.loop.now_ns += self.cost_ns
        if (arrays[0] == 666).any():
            raise ModelFailed("poison")
        return [arrays[0] * 2]

    def on_batch(self, batch: Batch, _failed: int) -> None:
        self.batches.append(batch.rows)

    def submit(self, value: float = 1, rows: int = 1, deadline_ms: float | None = None) -> InferRequest:
        deadline_ns = NEVER if deadline_ms is None else self.loop.now_ns + int(deadline_ms * MS)
        array = np.full((rows, 2), value, np.float32)
        request = InferRequest((array,), rows, self.answered.append, deadline_ns=deadline_ns)
        self.scheduler.submit(request)
        return request


def value_of(request: InferRequest) -> float:
    assert request.outputs is not None, request.error
    return float(request.outputs[0][0, 0])


def test_requests_of_one_turn_of_the_loop_share_a_batch() -> None:
    bench = Bench()
    requests = [bench.submit(value) for value in range(5)]
    bench.loop.turn()
    assert bench.batches == [5]
    assert [value_of(request) for request in requests] == [0, 2, 4, 6, 8]
    assert bench.answered == requests


def test_a_lone_request_waits_for_nobody() -> None:
    bench = Bench()
    request = bench.submit(3)
    bench.loop.turn()
    assert value_of(request) == 6
    assert request.held_ns == 0
    assert bench.loop.armed == []


def test_a_deadline_that_an_idle_server_could_not_meet_is_exceeded_and_not_overload() -> None:
    bench = Bench(cost_ms=10)
    with pytest.raises(DeadlineExceeded):
        bench.submit(deadline_ms=5)
    assert not bench.scheduler.refusing
    bench.submit(deadline_ms=15)
    bench.loop.turn()
    assert len(bench.answered) == 1


def test_a_deadline_that_only_the_queue_breaks_is_overload() -> None:
    bench = Bench(cost_ms=10, largest=1)
    bench.submit()
    with pytest.raises(Overloaded, match="after the deadline"):
        bench.submit(deadline_ms=15)


def test_an_answer_that_was_ready_only_after_its_deadline_is_none() -> None:
    bench = Bench(cost_ms=10)
    late, patient = bench.submit(1, deadline_ms=15), bench.submit(2)
    bench.cost_ns = 20 * MS
    bench.loop.turn()
    assert isinstance(late.error, DeadlineExceeded)
    assert late.outputs is None
    assert value_of(patient) == 4


def test_overload_is_foreseen_from_the_wait_alone_and_only_while_requests_are_refused() -> None:
    bench = Bench(cost_ms=10, largest=1, max_queue_ms=50)
    assert not bench.scheduler.refusing
    for _ in range(6):
        bench.submit()
    with pytest.raises(Overloaded) as refused:
        bench.submit()
    assert bench.scheduler.refusing
    with pytest.raises(Overloaded) as foreseen:
        bench.scheduler.foresee(NEVER)
    assert str(foreseen.value) == str(refused.value)
    bench.loop.turn()
    bench.scheduler.foresee(NEVER)
    with pytest.raises(Overloaded, match="after the deadline"):
        bench.scheduler.foresee(bench.loop.now_ns - 1)
    bench.submit()
    assert not bench.scheduler.refusing


def test_the_lag_of_the_loop_follows_how_late_batches_are_completed() -> None:
    bench = Bench()
    completion = bench.scheduler._completion
    batch = Batch(None, [], 0, 0)
    batch.computed_ns = bench.loop.now_ns - 50 * MS
    completion.finish(batch, [])
    assert completion._lag.ns == pytest.approx(LAG_WEIGHT * 50 * MS)
    batch.computed_ns = bench.loop.now_ns + 50 * MS
    completion.finish(batch, [])
    assert completion._lag.ns == pytest.approx((1 - LAG_WEIGHT) * LAG_WEIGHT * 50 * MS)


class StuckExecutor:
    def wake(self) -> None:
        pass

    def stop(self, _patience_s: float | None) -> bool:
        return True


def test_each_deadline_in_the_queue_is_answered_when_it_passes() -> None:
    bench = Bench(cost_ms=10, largest=1)
    bench.scheduler._executor = cast(Any, StuckExecutor())
    requests = [bench.submit(deadline_ms=deadline_ms) for deadline_ms in (30, 70, 100)]
    for index, at_ms in enumerate((30, 40, 30)):
        bench.loop.advance(at_ms * MS)
        assert bench.answered == requests[: index + 1]
    assert bench.loop.armed == []


class Stuck:
    """A scheduler whose model never returns: its executor takes batches and keeps them."""

    def __init__(self, stall_s: int = 60) -> None:
        self.bench = Bench(cost_ms=10, largest=2)
        self.scheduler = self.bench.scheduler
        self.scheduler._watchdog = Watchdog(stall_s * 1_000 * MS)
        self.scheduler._executor = cast(Any, self)
        self.batches: list[Batch] = []

    def wake(self) -> None:
        batch = self.scheduler._pull(None)
        if batch is not None:
            self.batches.append(batch)

    def stop(self, _patience_s: float | None) -> bool:
        return False

    def seconds(self, count: int) -> None:
        for _ in range(count):
            self.bench.loop.advance(1_000 * MS)
            self.scheduler.check()


def test_a_model_whose_run_does_not_return_is_stalled_and_what_it_holds_ends() -> None:
    stuck = Stuck()
    running, waiting = stuck.bench.submit(1), stuck.bench.submit(2)
    stuck.seconds(60)
    assert (stuck.scheduler.stalled, stuck.bench.answered) == ("", [])
    stuck.seconds(1)
    assert "longer than predicted" in stuck.scheduler.stalled
    assert stuck.bench.answered == [running, waiting]
    assert all(isinstance(one.error, NotReady) for one in stuck.bench.answered)
    with pytest.raises(NotReady):
        stuck.bench.submit(3)
    assert stuck.scheduler.waiting_bytes == 0


def test_a_stalled_model_whose_run_returns_after_all_is_ready_again() -> None:
    stuck = Stuck()
    request = stuck.bench.submit(1)
    stuck.seconds(61)
    (batch,) = stuck.batches
    batch.outputs = [batch.slices[0][0].arrays[0] * 2]
    batch.computed_ns = stuck.bench.loop.now_ns
    assert stuck.scheduler._pull(batch) is None
    stuck.scheduler._completion.finish(batch, [])
    stuck.scheduler.check()
    assert stuck.scheduler.stalled == ""
    assert stuck.bench.answered == [request]
    assert isinstance(request.error, NotReady)
    stuck.bench.submit(2)


def test_a_model_that_works_for_long_is_not_stalled() -> None:
    stuck = Stuck()
    for _ in range(200):
        stuck.bench.submit(1)
        batch = stuck.batches.pop()
        stuck.seconds(50)
        batch.outputs, batch.computed_ns = [batch.slices[0][0].arrays[0]], stuck.bench.loop.now_ns
        assert stuck.scheduler._pull(batch) is None
        stuck.scheduler._completion.finish(batch, [])
        assert stuck.scheduler.stalled == ""
    assert all(one.error is None for one in stuck.bench.answered)


def test_an_instance_that_sleeps_while_requests_wait_is_woken_by_the_check() -> None:
    bench = Bench()
    real, bench.scheduler._executor = bench.scheduler._executor, cast(Any, StuckExecutor())
    request = bench.submit(1)
    bench.scheduler._executor = real
    bench.scheduler._waking = 0  # the wake-up was lost
    bench.loop.turn()
    assert bench.answered == []
    bench.scheduler.check()
    bench.loop.turn()
    assert bench.answered == [request]


def test_a_stop_that_is_not_waited_for_ends_the_requests_of_the_run() -> None:
    stuck = Stuck()
    request = stuck.bench.submit(1)
    assert not stuck.scheduler.stop(0.0)
    stuck.scheduler.abandon()
    assert isinstance(request.error, NotReady)


def test_the_outputs_of_a_split_request_are_copied_once_each() -> None:
    """The cost of a request is linear in its rows: no part is copied again when a later one arrives."""
    request = InferRequest((np.zeros((6, 1), np.float32),), 6, lambda _: None)
    assert not join_part(request, 2, 4, [np.full((2, 3), 1, np.float32)])
    assert request.joined is not None
    whole = request.joined[0]
    assert not join_part(request, 4, 6, [np.full((2, 3), 2, np.float32)])
    assert join_part(request, 0, 2, [np.full((2, 3), 0, np.float32)])
    assert request.outputs is not None
    assert request.outputs[0] is whole
    assert whole[:, 0].tolist() == [0, 0, 1, 1, 2, 2]
    assert request.joined is None


def test_a_hold_ends_with_its_delay() -> None:
    bench = Bench(max_delay_ms=5)
    request = bench.submit(1)
    bench.loop.turn()
    assert bench.batches == []
    bench.submit(2)
    bench.loop.advance(5 * MS)
    assert bench.batches == [2]
    assert request.held_ns == 5 * MS


def test_after_stop_nothing_is_admitted_and_what_waits_is_told() -> None:
    bench = Bench()
    waiting = bench.submit()
    bench.scheduler.stop()
    bench.scheduler.abandon()
    assert isinstance(waiting.error, NotReady)
    with pytest.raises(NotReady):
        bench.submit()
    bench.loop.turn()
    assert bench.answered == [waiting]


def test_ten_times_the_capacity_gives_only_refusals_and_bounded_memory() -> None:
    """Goodput stays what the model can do, whatever is offered; the queue does not grow with the offer."""
    bench = Bench(cost_ms=8, largest=8, max_queue_ms=40)
    refused = 0
    deepest = 0
    for _ in range(1_000):
        for _ in range(10):
            try:
                bench.submit()
            except Overloaded:
                refused += 1
        deepest = max(deepest, bench.scheduler.waiting_rows)
        bench.loop.turn()
    assert deepest <= 8 * 40 // 8 + 8
    assert refused + len(bench.answered) == 10_000
    assert all(request.error is None for request in bench.answered)


@given(
    plan=st.lists(
        st.tuples(st.sampled_from([1, 2, 5, 666]), st.integers(1, 6), st.none() | st.integers(1, 30), st.booleans()),
        max_size=40,
    ),
    turns=st.integers(1, 5),
)
def test_every_admitted_request_ends_in_exactly_one_answer(
    plan: list[tuple[float, int, int | None, bool]], turns: int
) -> None:
    bench = Bench(largest=4)
    admitted = []
    for index, (value, rows, deadline_ms, leaves) in enumerate(plan):
        try:
            request = bench.submit(value, rows, deadline_ms)
        except (Overloaded, DeadlineExceeded):
            continue
        admitted.append((value, request))
        request.abandoned = leaves
        if index % turns == 0:
            bench.loop.turn()
    bench.loop.advance(10_000 * MS)
    assert sorted(map(id, bench.answered)) == sorted(id(request) for _, request in admitted)
    for value, request in admitted:
        if request.error is None:
            assert request.outputs is not None
            np.testing.assert_array_equal(request.outputs[0], np.full((request.rows, 2), value * 2, np.float32))


@pytest.mark.parametrize("values", [["a" * 600], ["a", "b" * 599], [b"a" * 600]])
def test_texts_that_wait_count_as_long_as_they_are(values: list[str | bytes]) -> None:
    loop = FakeLoop()
    scheduler = Scheduler(
        *(BatchQueue(8, [(1, 1.0), (8, 1.0)]), lambda arrays: list(arrays), cast(Any, loop)),
        instances=1,
        inline=True,
        max_queue_ns=100 * MS,
        max_queue_bytes=1_000,
        objects=True,
        on_batch=lambda *_: None,
        clock=loop.clock,
    )

    def submit() -> None:
        array = np.array(values, object)
        scheduler.submit(InferRequest((array,), len(array), lambda _: None))

    submit()
    assert 600 <= scheduler.waiting_bytes <= 620
    with pytest.raises(Overloaded, match="MB of requests wait"):
        submit()


def test_a_model_of_which_nothing_is_known_still_batches() -> None:
    queue = BatchQueue(8, _unmeasured(8))
    for _ in range(8):
        queue.push(InferRequest((np.zeros((1, 2), np.float32),), 1, lambda _: None), None, 0)
    batch = queue.pull(0)
    assert batch is not None
    assert batch.rows == 8


def test_a_request_whose_deadline_passes_while_it_runs_ends_then_and_its_run_goes_on() -> None:
    """Its instance stays busy in the eyes of admission, its result is dropped, and its time is learnt."""
    loop, begun, let_go = FakeLoop(), threading.Event(), threading.Event()
    ended: list[InferRequest] = []

    def model(arrays: tuple[Array, ...]) -> list[Array]:
        begun.set()
        assert let_go.wait(30)
        return [arrays[0]]

    scheduler = Scheduler(
        BatchQueue(1, [(1, 200.0 * MS)]),
        model,
        cast(Any, loop),
        instances=1,
        inline=False,
        max_queue_ns=1_000 * MS,
        on_batch=lambda _batch, _failed: None,
        clock=loop.clock,
    )
    array = np.zeros((1, 2), np.float32)
    request = InferRequest((array,), 1, ended.append, deadline_ns=loop.now_ns + 300 * MS)
    scheduler.submit(request)
    assert begun.wait(30)
    loop.advance(299 * MS)
    assert ended == []
    loop.advance(1 * MS)
    assert ended == [request]
    assert isinstance(request.error, DeadlineExceeded)
    assert not scheduler.idle
    assert scheduler.backlog_ns() == 100 * MS
    loop.now_ns += 700 * MS
    let_go.set()
    assert scheduler.stop()
    loop.turn()
    assert ended == [request]
    assert request.outputs is None
    assert scheduler.cost_points()[0][2] > 200 * MS
