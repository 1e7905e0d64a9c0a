"""Estimates recover: a model that was slow for a while serves requests with deadlines again, in virtual time.

Each case is a tensor model, a script without measured costs, instances that crowd each other, or a pipeline. A phase
makes all runs slower by a factor. Requests without a deadline teach the estimates the slow phase, as other clients
would. Then the model is fast again, and every request carries a deadline.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.explain.simulator import Arrival, poisson, simulate
from server.errors import DeadlineExceeded, Overloaded, SlipwayError
from server.request import NEVER, InferRequest
from server.scheduling.admission import PROBE_EVERY, Admission, LoopLag
from server.scheduling.batch import Batch
from server.scheduling.cost import AGING_NS, CostTable
from server.scheduling.fastest_runs import PERIOD_NS, FastestRuns
from server.scheduling.pipeline import Pipeline
from server.scheduling.queue import BatchQueue
from server.scheduling.scheduler import Scheduler
from server.scheduling.step import Step
from server.tensors import BY_NAME, Array, ModelSpec, TensorSpec
from tests.fakes import FakeLoop

MS, SECOND = 1_000_000, 1_000_000_000
RUN_MS, DEADLINE_MS = 12, 100


class Served(Protocol):
    """A model in virtual time. ``factor``: how many times longer its runs take now."""

    loop: FakeLoop
    factor: float

    def send(self, deadline_ns: int, rows: int = 1) -> InferRequest: ...


class Alone:
    """One scheduler: a run takes ``RUN_MS`` and a quarter of it for each further row."""

    def __init__(
        self, seeded: bool = True, largest: int = 4, contention: float = 1.0, max_queue_ms: int = 1_000
    ) -> None:
        self.loop = FakeLoop()
        self.factor = 1.0
        self.ran = 0
        seeds = [(rows, self.cost_ns(rows)) for rows in (1, largest)] if seeded else []
        self.queue = BatchQueue(largest, seeds, contention=contention)
        self.scheduler = self.schedule(self.queue, max_queue_ms)

    def schedule(self, queue: BatchQueue, max_queue_ms: int = 0, **more: Any) -> Scheduler:
        return Scheduler(
            queue,
            self.run,
            cast(Any, self.loop),
            instances=1,
            inline=True,
            max_queue_ns=max_queue_ms * MS,
            clock=self.loop.clock,
            **{"on_batch": lambda _batch, _failed: None, **more},
        )

    def cost_ns(self, rows: int) -> float:
        return self.factor * RUN_MS * MS * (0.75 + 0.25 * rows)

    def run(self, arrays: tuple[Array, ...]) -> list[Array]:
        self.ran += 1
        self.loop.now_ns += int(self.cost_ns(len(arrays[0])))
        return [arrays[0]]

    def send(self, deadline_ns: int, rows: int = 1) -> InferRequest:
        request = InferRequest((np.zeros((rows, 2), np.float32),), rows, lambda _: None, deadline_ns=deadline_ns)
        try:
            self.scheduler.submit(request)
        except SlipwayError as error:
            request.error = error
        return request


def script() -> Alone:
    """Nothing is measured before the first run, and one call runs at a time."""
    return Alone(seeded=False, largest=1)


def crowded() -> Alone:
    """Runs beside others are expected to take three times as long."""
    return Alone(contention=3.0)


class TwoSteps(Alone):
    """A pipeline of two steps, each like :class:`Alone`."""

    def __init__(self) -> None:
        self.loop = FakeLoop()
        self.factor = 1.0
        self.ran = 0
        self.pipeline = Pipeline((2,), max_queue_ns=SECOND, record=lambda _: None, clock=self.loop.clock)
        for index in range(2):
            self.pipeline.add(self.step(index))
        self.scheduler = cast(Scheduler, self.pipeline)

    def step(self, index: int) -> Step:
        queue = BatchQueue(4, [(rows, self.cost_ns(rows) / 2) for rows in (1, 4)])

        def on_batch(batch: Batch, _failed: int) -> None:
            step.learn(batch)

        scheduler = self.schedule(queue, on_batch=on_batch, on_end=self.pipeline.ended)
        first, second = (TensorSpec(f"v{at}", BY_NAME["FP32"], (-1, 2)) for at in (index, index + 1))
        cost = CostTable(4, [(rows, self.cost_ns(rows) / 2) for rows in (1, 4)])
        step = Step(
            f"s{index}", ModelSpec((first,), (second,)), scheduler, (index,), cost.predict_ns(1), cost.row_ns, 4
        )
        return step

    def cost_ns(self, rows: int) -> float:
        return super().cost_ns(rows) / 2


KINDS: dict[str, Callable[[], Alone]] = {"model": Alone, "script": script, "crowded": crowded, "pipeline": TwoSteps}


def starve(model: Alone, factor: float, seconds: float, gap_ms: int = 5) -> None:
    """A slow phase, in which requests without a deadline are served one after another, or a few at once."""
    model.factor = factor
    until_ns = model.loop.now_ns + int(seconds * SECOND)
    number = 0
    while model.loop.now_ns < until_ns:
        number += 1
        for _ in range(number % 3 + 1):
            model.send(NEVER)
        model.loop.turn()
        model.loop.advance(gap_ms * MS)
    model.factor = 1.0


def ask(model: Alone, deadline_ms: float = DEADLINE_MS, rows: int = 1) -> bool:
    """Send one request, let it end, and say whether it was answered in time."""
    request = model.send(model.loop.now_ns + int(deadline_ms * MS), rows)
    model.loop.turn()
    return request.error is None and request.outputs is not None


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_that_was_starved_for_25_s_serves_requests_with_deadlines_again(kind: str) -> None:
    """Of 47,098 requests with a deadline of 100 ms to a model of 12 ms, all were refused by an idle server for ever."""
    model = KINDS[kind]()
    assert ask(model, 10_000)
    starve(model, factor=25, seconds=25)
    assert all(ask(model) for _ in range(100))


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=15)
@given(
    phases=st.lists(st.tuples(st.floats(1.5, 60), st.floats(0.5, 90)), min_size=1, max_size=3),
    idle_ms=st.integers(0, 20_000),
    spare=st.floats(1.5, 4),
)
def test_after_any_slow_phases_three_requests_after_a_pause_are_enough(
    kind: str, phases: list[tuple[float, float]], idle_ms: int, spare: float
) -> None:
    model = KINDS[kind]()
    ask(model, 10_000)
    for factor, seconds in phases:
        starve(model, factor, seconds, gap_ms=int(seconds * 50))
        ask(model, RUN_MS * spare)
        # The longest run of the phase, so many times: until then a request without a chance may be refused.
        model.loop.advance(int(PROBE_EVERY * model.cost_ns(1) * factor) + idle_ms * MS)
        answered = [ask(model, RUN_MS * spare) for _ in range(8)]
        assert all(answered[3:]), answered


@pytest.mark.parametrize("kind", KINDS)
def test_requests_during_the_slow_phase_are_refused_or_late_and_do_not_delay_the_recovery(kind: str) -> None:
    model = KINDS[kind]()
    ask(model, 10_000)
    model.factor = 25.0
    slow = []
    for _ in range(200):
        slow.append(ask(model))
        model.loop.advance(50 * MS)
    assert not any(slow)
    model.factor = 1.0
    assert [ask(model) for _ in range(10)][1:] == [True] * 9


def test_an_answer_is_fast_again_for_all_batch_sizes_after_one_probe() -> None:
    model = Alone()
    starve(model, factor=25, seconds=25)
    ask(model)
    costs = {rows: ns for _, rows, ns in model.scheduler.cost_points()}
    assert all(ns <= 1.01 * model.cost_ns(rows) for rows, ns in costs.items()), costs


def test_a_lag_of_the_event_loop_that_was_long_once_does_not_refuse_for_ever() -> None:
    model = Alone()
    ask(model, 10_000)
    lag = model.scheduler._admission._lag
    lag.ns = 500.0 * MS
    assert [ask(model) for _ in range(5)] == [True] * 5
    assert lag.ns < MS
    lag.ns, model.scheduler.refusing = 500.0 * MS, True
    model.scheduler.foresee(model.loop.now_ns + DEADLINE_MS * MS)


def test_an_admitted_request_that_waits_for_nobody_is_not_evicted_by_an_estimate() -> None:
    """Admission expects it just in time; when its run could start it would be just late."""
    model = Alone()
    starve(model, factor=8, seconds=25)
    run_ms = model.scheduler.cost_points()[0][2] / MS
    request = model.send(model.loop.now_ns + int(run_ms * MS) + MS // 2)
    assert request.error is None
    model.loop.now_ns += MS
    model.loop.turn()
    assert request.error is None
    assert request.outputs is not None


def test_a_deadline_that_has_passed_already_is_not_tried() -> None:
    model = Alone()
    model.loop.advance(SECOND)
    for _ in range(3):
        assert isinstance(model.send(model.loop.now_ns - 1).error, DeadlineExceeded)
    model.loop.turn()
    assert model.ran == 0


def test_requests_without_a_chance_take_a_share_of_an_idle_model_only() -> None:
    """Twenty a second of 200 ms of work each, with deadlines of 100 ms."""
    model = script()
    model.factor = 200 / RUN_MS
    ask(model, 10_000)
    begun_ns, model.ran = model.loop.now_ns, 0
    for _ in range(1_000):
        assert not ask(model)
        model.loop.advance(50 * MS)
    passed_ns = model.loop.now_ns - begun_ns
    assert 0 < model.ran * model.cost_ns(1) < 1.1 * passed_ns / PROBE_EVERY


def test_a_strangers_hopeless_deadlines_do_not_lower_the_goodput_of_neighbours() -> None:
    """A script of 200 ms a run; strangers send 20 requests a second with a deadline of 100 ms, which all are late."""
    neighbours = poisson(3, 100, seed=1, allowed_ns=2 * SECOND)
    strangers = [Arrival(at * 50 * MS, allowed_ns=100 * MS) for at in range(2_000)]
    alone, beside = (
        simulate(sorted(arrivals, key=lambda one: one.at_ns), BatchQueue(1, ()), lambda _batch: 200 * MS)
        for arrivals in (neighbours, [*neighbours, *strangers])
    )
    assert alone.answered - alone.late > 250
    assert beside.answered - beside.late >= 0.99 * (alone.answered - alone.late)


def test_a_busy_model_makes_no_probes() -> None:
    model = Alone()
    starve(model, factor=25, seconds=25)
    model.send(NEVER)
    model.send(NEVER)
    assert isinstance(model.send(model.loop.now_ns + DEADLINE_MS * MS).error, (DeadlineExceeded, Overloaded))


class TestAging:
    def test_a_batch_size_that_was_slow_and_is_not_chosen_any_more_comes_back(self) -> None:
        """Only full batches ran in the slow phase, and only single rows run after it."""
        cost = CostTable(8, [(1, 10.0 * MS), (8, 20.0 * MS)])
        now_ns = 0
        cost.record(1, 10 * MS, now_ns)
        for _ in range(100):
            now_ns += 500 * MS
            cost.record(8, 500 * MS, now_ns)
        assert cost.efficient_rows(8) == 1
        for _ in range(100):
            now_ns += 10_000 * MS // 10
            cost.record(1, 10 * MS, now_ns)
        assert cost.efficient_rows(8) == 8
        assert cost.predict_ns(8) < 40 * MS

    def test_a_larger_size_does_not_age_below_a_smaller_one_that_is_confirmed(self) -> None:
        cost = CostTable(8, [(1, 10.0 * MS), (8, 20.0 * MS)])
        for at in range(1, 400):
            cost.record(1, 300 * MS, at * 300 * MS)
            assert dict(cost.points())[8] >= dict(cost.points())[1] - 30 * MS or at < 50

    def test_a_refusal_ages_an_estimate_that_nothing_else_would_correct(self) -> None:
        """Another shape keeps the model busy, so that this one is never tried."""
        queue = BatchQueue(1, [(1, 10.0 * MS)])
        cost = queue.cost("rare")
        for at in range(100):
            cost.record(1, 300 * MS, at)
        admission = Admission(queue, LoopLag(), 10 * SECOND)
        refused = 0
        for second in range(200):
            now_ns = second * SECOND
            queue.push(InferRequest((), 1, lambda _: None), "usual", now_ns)
            running = queue.pull(now_ns)
            assert running is not None
            try:
                admission.admit(InferRequest((), 1, lambda _: None, deadline_ns=now_ns + 100 * MS), "rare", now_ns)
            except SlipwayError:
                refused += 1
            queue.release(running)
        assert 0 < refused <= 3 * AGING_NS // SECOND


class TestFastestRuns:
    def test_a_run_is_remembered_for_one_to_two_periods(self) -> None:
        fastest = FastestRuns()
        for at, ns in enumerate((30, 20, 40)):
            fastest.record(1, ns, at)
        assert fastest.ns(1, 50) == 20
        fastest.record(1, 40, PERIOD_NS)
        assert fastest.ns(1, 50) == 20
        fastest.record(1, 40, 2 * PERIOD_NS)
        assert fastest.ns(1, 50) == 40

    def test_a_size_that_did_not_run_meanwhile_is_remembered_longer(self) -> None:
        fastest = FastestRuns()
        fastest.record(8, 20, 0)
        for period in range(5):
            fastest.record(1, 30, period * PERIOD_NS)
        assert (fastest.ns(1, 50), fastest.ns(8, 50), fastest.ns(4, 50)) == (30, 20, 50)


def test_an_overdue_run_counts_with_the_time_by_which_it_is_overdue() -> None:
    """Nothing is known of a run that hangs but that it lasts: admission must not expect its end at any moment."""
    queue = BatchQueue(1, [(1, 10.0 * MS)])
    queue.push(InferRequest((), 1, lambda _: None), None, 0)
    assert queue.pull(0) is not None
    assert [queue.backlog_ns(at * MS) // MS for at in (0, 10, 15, 2_000)] == [10, 0, 5, 1_990]
