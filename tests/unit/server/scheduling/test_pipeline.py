"""Pipelines: steps that batch apart, one answer for each request whatever happens between them; time turned by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.errors import ClientGone, DeadlineExceeded, ModelFailed, NotReady, Overloaded, UnprocessableInput
from server.ragged import ragged
from server.request import NEVER, InferRequest, StepTimes
from server.scheduling.batch import Batch
from server.scheduling.padding import PaddedInput, Padding
from server.scheduling.pipeline import Pipeline
from server.scheduling.queue import BatchQueue
from server.scheduling.scheduler import Scheduler
from server.scheduling.step import Step
from server.tensors import BY_NAME, Array, ModelSpec, TensorSpec
from tests.fakes import FakeLoop

MS = 1_000_000
FP32, INT64 = BY_NAME["FP32"], BY_NAME["INT64"]
POISON = 666.0
Run = Callable[[tuple[Array, ...]], list[Array]]


def tensor(name: str) -> TensorSpec:
    return TensorSpec(name, FP32, (-1, 2))


class Line:
    """Two steps on one hand-turned loop: ``+ 1``, then ``* 2``; each takes fake time and has its own batch size."""

    def __init__(
        self, costs_ms: tuple[int, int] = (1, 5), largest: tuple[int, int] = (8, 2), max_queue_ms: int = 1_000
    ) -> None:
        self.loop = FakeLoop()
        self.costs_ns = [cost * MS for cost in costs_ms]
        self.batches: list[list[int]] = [[], []]
        self.times: list[list[StepTimes]] = []
        self.answered: list[InferRequest] = []
        self.between: Callable[[], None] = lambda: None
        self.pipeline = Pipeline(
            (2,), max_queue_ns=max_queue_ms * MS, record=lambda times: self.times.append(list(times)), clock=self.clock
        )
        functions: tuple[Callable[[Array], Array], ...] = (lambda x: x + 1, lambda x: x * 2)
        for index, function in enumerate(functions):
            self.pipeline.add(self.step(index, function, largest[index]))

    def clock(self) -> int:
        return self.loop.now_ns

    def step(self, index: int, function: Callable[[Array], Array], largest: int) -> Step:
        cost = self.costs_ns[index]

        def run(arrays: tuple[Array, ...]) -> list[Array]:
            self.loop.now_ns += cost
            if (arrays[0] == POISON).any():
                raise ModelFailed(f"poison in step {index}")
            return [function(arrays[0])]

        def on_batch(batch: Batch, _failed: int) -> None:
            self.batches[index].append(batch.rows)
            step.learn(batch)
            batch.computed_ns = self.loop.now_ns  # executors stamp by the real clock
            batch.assembled_ns = batch.computed_ns - cost
            if index == 0:
                self.between()

        scheduler = Scheduler(
            BatchQueue(largest, [(1, float(cost)), (largest, float(cost))]),
            run,
            cast(Any, self.loop),
            instances=1,
            inline=True,
            max_queue_ns=0,
            on_batch=on_batch,
            on_end=self.pipeline.ended,
            clock=self.clock,
        )
        spec = ModelSpec((tensor(f"v{index}"),), (tensor(f"v{index + 1}"),))
        step = Step(f"s{index}", spec, scheduler, (index,), cost, cost / largest, largest)
        return step

    def submit(self, value: float = 1.0, rows: int = 1, deadline_ms: float | None = None) -> InferRequest:
        deadline_ns = NEVER if deadline_ms is None else self.loop.now_ns + int(deadline_ms * MS)
        array = np.full((rows, 2), value, np.float32)
        request = InferRequest(
            (array,), rows, self.answered.append, deadline_ns=deadline_ns, decoded_ns=self.loop.now_ns
        )
        self.pipeline.submit(request)
        return request


def value_of(request: InferRequest) -> float:
    assert request.error is None
    assert request.outputs is not None
    return float(request.outputs[0][0, 0])


def test_a_request_passes_all_steps_in_order_and_each_step_batches_for_itself() -> None:
    line = Line()
    requests = [line.submit(value) for value in range(5)]
    line.loop.turn()
    assert [value_of(request) for request in requests] == [2, 4, 6, 8, 10]
    assert line.batches == [[5], [2, 2, 1]]
    assert line.answered == requests


def test_stage_times_of_the_steps_add_up_to_those_of_the_whole() -> None:
    line = Line()
    first, second, third = (line.submit() for _ in range(3))
    line.loop.turn()
    assert [[one.name for one in times] for times in line.times] == [["s0", "s1"]] * 3
    by_request = [[(one.queue_ns, one.compute_ns) for one in times] for times in line.times]
    assert by_request == [[(0, MS), (0, 5 * MS)], [(0, MS), (0, 5 * MS)], [(0, MS), (5 * MS, 5 * MS)]]
    for request, queued in ((first, 0), (second, 0), (third, 5 * MS)):
        assert request.picked_ns - request.decoded_ns - request.held_ns == queued
        assert request.computed_ns - request.assembled_ns == 6 * MS
        assert request.scattered_ns == request.computed_ns, "nothing is lost between the steps here"


def test_who_leaves_between_two_steps_is_not_run_in_the_second() -> None:
    line = Line(largest=(8, 8))
    requests = [line.submit(value) for value in (1, 2, 3)]
    line.between = lambda: setattr(requests[1], "abandoned", True)
    line.loop.turn()
    assert line.batches == [[3], [2]]
    assert isinstance(requests[1].error, ClientGone)
    assert requests[1].outputs is None
    assert [value_of(requests[0]), value_of(requests[2])] == [4, 8]


def test_what_expires_between_two_steps_is_not_run_in_the_second() -> None:
    line = Line()
    line.submit()
    late = line.submit(deadline_ms=1_000)
    line.between = lambda: setattr(line.loop, "now_ns", line.loop.now_ns + 2_000 * MS)
    line.loop.turn()
    assert isinstance(late.error, DeadlineExceeded)
    assert line.batches == [[2], [1]]


def test_deadline_and_priority_go_along_without_being_handed_on() -> None:
    line = Line(largest=(8, 1))
    slow = line.submit(1)
    hasty = line.submit(2, deadline_ms=500)
    line.loop.turn()
    assert line.answered == [hasty, slow], "the second step orders by deadline too"


def test_admission_counts_what_is_still_to_come_at_later_steps() -> None:
    """Nothing waits before the slow second step yet, and still a burst is refused at the door."""
    line = Line(costs_ms=(1, 10), largest=(100, 1), max_queue_ms=50)
    admitted = [line.submit() for _ in range(4)]
    with pytest.raises(Overloaded, match="the wait would be") as caught:
        admitted.extend(line.submit() for _ in range(100))
    assert 4 <= len(admitted) <= 7
    assert caught.value.retry_after_s == 1
    line.loop.turn()
    assert all(request.error is None for request in admitted), "what was admitted is not refused later"


def test_a_deadline_that_all_steps_together_would_miss_is_refused_at_the_door() -> None:
    line = Line(costs_ms=(1, 10), largest=(8, 1))
    for _ in range(5):
        line.submit()
    with pytest.raises(Overloaded, match="after the deadline"):
        line.submit(deadline_ms=30)
    with pytest.raises(DeadlineExceeded):
        line.submit(deadline_ms=10)  # one row alone takes 11 ms
    line.submit(deadline_ms=80)


def test_an_idle_pipeline_refuses_nobody_on_a_guess() -> None:
    line = Line()
    line.pipeline.steps[1].alone_ns = 1e12
    assert line.submit(deadline_ms=50).error is None


def test_bytes_that_wait_before_any_step_count_at_the_door() -> None:
    line = Line()
    line.pipeline._max_queue_bytes = 100
    line.submit(rows=4)
    line.submit(rows=8)
    with pytest.raises(Overloaded, match="MB of requests wait already"):
        line.submit(rows=8)


def test_a_backlog_and_waiting_rows_are_those_of_all_steps() -> None:
    line = Line(costs_ms=(1, 10), largest=(8, 1))
    assert (line.pipeline.backlog_ns(), line.pipeline.waiting_rows) == (0, 0)
    for _ in range(4):
        line.submit()
    assert line.pipeline.waiting_rows == 4
    assert line.pipeline.backlog_ns() == pytest.approx(40 * MS, rel=0.3)
    line.loop.turn()
    assert (line.pipeline.backlog_ns(), line.pipeline.waiting_rows) == (0, 0)


def test_whoever_watches_after_the_admission_is_told_of_the_end_of_the_last_step_only() -> None:
    line = Line()
    request = line.submit(1)
    told: list[float] = []
    request.done = lambda ended: told.append(value_of(ended))
    line.loop.turn()
    assert told == [4]


def test_a_stopped_step_ends_a_request_that_is_on_its_way_to_it() -> None:
    line = Line()
    request = line.submit()
    line.between = lambda: setattr(line, "stopped", line.pipeline.steps[1].scheduler.stop())
    line.loop.turn()
    assert isinstance(request.error, NotReady)
    assert line.answered == [request]
    line.pipeline.stop()
    with pytest.raises(NotReady):
        line.submit()


class TestLengths:
    """A step that makes ragged rows, and one that takes them padded."""

    def line(self, sizes: tuple[int, ...] = (4, 16), pads: bool = True) -> tuple[Line, list[tuple[int, ...]]]:
        line = Line()
        self.positions: list[tuple[int, int]] = []
        shapes: list[tuple[int, ...]] = []
        one, other = line.pipeline.steps
        line.pipeline.steps.clear()
        tokens = TensorSpec("ids", INT64, (-1, -1))
        padding = Padding((PaddedInput(0, 1, 0.0),), ((0, 1),)) if pads else None

        def tokenize(arrays: tuple[Array, ...]) -> list[Array]:
            return [ragged([np.arange(1, int(row[0]) + 1) for row in arrays[0]])]

        def encode(arrays: tuple[Array, ...]) -> list[Array]:
            shapes.append(arrays[0].shape)
            return [arrays[0] * 10, arrays[0].sum(axis=1, keepdims=True)]

        specs = (
            ModelSpec((tensor("x"),), (tokens,)),
            ModelSpec((tokens,), (tokens, TensorSpec("sum", INT64, (-1, 1)))),
        )
        line.pipeline._outputs = (2, 3)
        for index, (run, spec) in enumerate(zip((tokenize, encode), specs, strict=True)):
            pad = padding if index else None
            by_token = {size: [(1, size * MS), (8, 2 * size * MS)] for size in sizes}
            scheduler = Scheduler(
                BatchQueue(8, [(1, MS), (8, MS)], sizes=by_token if pad else None),
                run,
                cast(Any, line.loop),
                instances=1,
                inline=True,
                max_queue_ns=0,
                padding=pad,
                on_batch=lambda batch, _failed: self.positions.append(batch.positions()),
                on_end=line.pipeline.ended,
                clock=line.clock,
            )
            line.pipeline.add(Step(f"s{index}", spec, scheduler, (index,), MS, MS, 8, padding=pad, sizes=sizes))
        assert (one.name, other.name) == ("s0", "s1")
        return line, shapes

    def ask(self, line: Line, *lengths: int) -> InferRequest:
        array = np.repeat(np.array(lengths, np.float32)[:, None], 2, axis=1)
        request = InferRequest((array,), len(lengths), line.answered.append)
        line.pipeline.submit(request)
        return request

    def test_a_request_of_mixed_lengths_runs_in_groups_and_comes_back_in_order(self) -> None:
        line, shapes = self.line()
        request = self.ask(line, 3, 12, 2, 16, 4)
        line.loop.turn()
        assert sorted(shapes) == [(2, 16), (3, 4)]
        assert request.outputs is not None
        tokens, sums = request.outputs
        assert sums[:, 0].tolist() == [6, 78, 3, 136, 10]
        assert tokens[2].tolist() == [10, 20] + [0] * 14
        assert tokens[3].tolist() == [10 * n for n in range(1, 17)]
        assert line.answered == [request]

    def test_rows_of_one_size_stay_together(self) -> None:
        line, shapes = self.line()
        self.ask(line, 3, 2, 4)
        line.loop.turn()
        assert shapes == [(3, 4)]

    @pytest.mark.parametrize(
        ("lengths", "computed"),
        [((3, 2, 4), [(9, 3)]), ((3, 12, 2, 16, 4), [(9, 3), (28, 4)]), ((9,), [(9, 0)])],
    )
    def test_what_was_filled_up_is_told_apart_from_what_was_asked_for(
        self, lengths: tuple[int, ...], computed: list[tuple[int, int]]
    ) -> None:
        line, _ = self.line()
        self.ask(line, *lengths)
        line.loop.turn()
        assert sorted(self.positions[1:]) == computed  # the first step pads nothing

    def test_who_leaves_takes_all_groups_along(self) -> None:
        line, shapes = self.line()
        request = self.ask(line, 3, 12)
        completion = line.pipeline.steps[0].scheduler._completion
        completion._on_batch = lambda _batch, _failed: setattr(request, "abandoned", True)
        line.loop.turn()
        assert isinstance(request.error, ClientGone)
        assert (shapes, line.answered) == ([], [request])

    def test_one_group_that_fails_fails_the_request_once(self) -> None:
        line, _ = self.line()
        step = line.pipeline.steps[1]
        submit, count = step.scheduler.submit, iter(range(9))

        def refuse(request: InferRequest, shape: Any = None, admitted: bool = False) -> None:
            if next(count):
                raise NotReady("stopped meanwhile")
            submit(request, shape, admitted)

        step.scheduler.submit = refuse  # type: ignore[method-assign]
        request = self.ask(line, 3, 12)
        line.loop.turn()
        assert isinstance(request.error, NotReady)
        assert line.answered == [request]
        assert step.inside == 0

    def test_a_step_without_padding_says_that_the_rows_differ(self) -> None:
        line, _ = self.line(pads=False)
        whole, mixed = self.ask(line, 3, 3), self.ask(line, 3, 4)
        line.loop.turn()
        assert whole.error is None
        assert isinstance(mixed.error, UnprocessableInput)
        assert "step 's1' takes one length" in str(mixed.error)


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("submit"), st.sampled_from([0.0, 1.0, POISON, POISON - 1]), st.integers(1, 5)),
            st.tuples(st.just("hurry"), st.sampled_from([1.0]), st.integers(1, 40)),
            st.tuples(st.just("leave"), st.just(0.0), st.integers(1, 4)),
            st.tuples(st.just("turn"), st.just(0.0), st.integers(0, 20)),
        ),
        max_size=30,
    ),
    st.booleans(),
)
def test_every_admitted_request_ends_in_exactly_one_right_answer(
    steps: list[tuple[str, float, int]], ends: bool
) -> None:
    line = Line(largest=(3, 2), max_queue_ms=40)
    asked: list[tuple[InferRequest, float]] = []
    for what, value, number in steps:
        if what == "turn":
            for _ in range(number):
                if line.loop._ready:
                    callback, args = line.loop._ready.popleft()
                    callback(*args)
        elif what == "leave":
            for request, _ in asked[-number:][:1]:
                request.abandoned = True
        else:
            try:
                deadline = float(number) if what == "hurry" else None
                asked.append((line.submit(value, 1 if deadline else number, deadline), value))
            except (Overloaded, DeadlineExceeded):
                continue
    if ends:
        line.pipeline.stop()
        line.pipeline.abandon()
    line.loop.turn()
    line.loop.advance(10_000 * MS)
    assert len(line.answered) == len(asked)
    assert {id(request) for request in line.answered} == {id(request) for request, _ in asked}
    assert [step.inside for step in line.pipeline.steps] == [0, 0]
    for request, value in asked:
        if request.error is None:
            assert request.outputs is not None
            expected = np.full((request.rows, 2), (value + 1) * 2, np.float32)
            np.testing.assert_array_equal(request.outputs[0], expected)
        elif isinstance(request.error, ModelFailed):
            assert value in (POISON, POISON - 1)
