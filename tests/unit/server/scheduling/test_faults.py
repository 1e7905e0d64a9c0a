"""Faults at every step of a request through scheduling: each request ends once, nothing is held, the next is answered.

The faults are raised by functions of the server itself, as bugs and exhausted memory would raise them.
"""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections.abc import Callable, Iterator
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.errors import DeviceLost, ModelFailed, OutOfMemory, SlipwayError, UnprocessableInput
from server.request import NEVER, InferRequest
from server.scheduling import batch_former, completion, executor, pipeline, run
from server.scheduling.device import DeviceScheduler
from server.scheduling.padding import PaddedInput, Padding
from server.scheduling.pipeline import Pipeline
from server.scheduling.queue import BatchQueue
from server.scheduling.scheduler import Scheduler
from server.scheduling.step import Step
from server.tensors import BY_NAME, Array, ModelSpec, TensorSpec
from tests.fakes import FakeLoop
from tests.faults import Faults, Responses

MS = 1_000_000
PADDING = Padding((PaddedInput(0, 1, 0.0),), outputs=((0, 1),))
COSTS = {4: [(1, 1.0 * MS), (4, 1.2 * MS)], 16: [(1, 2.0 * MS), (4, 2.4 * MS)]}
ERRORS = (ValueError("a fault"), MemoryError(), ModelFailed("a fault of ours"), SystemExit(3))


@pytest.fixture(autouse=True, scope="module")
def quiet() -> Iterator[None]:
    """Thousands of planted faults need not be formatted."""
    logger = logging.getLogger("slipway")
    before = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    yield
    logger.setLevel(before)


def double(arrays: tuple[Array, ...]) -> list[Array]:
    return [arrays[0] * 2]


class Inline:
    """A scheduler on a loop that is turned by hand, whose model doubles rows of different lengths."""

    def __init__(self) -> None:
        self.loop = FakeLoop()
        self.responses = Responses()
        self.queue = BatchQueue(4, [(1, 1.0 * MS), (4, 1.2 * MS)], sizes=COSTS)
        self.scheduler = Scheduler(
            self.queue,
            double,
            cast(Any, self.loop),
            instances=1,
            inline=True,
            max_queue_ns=10**12,
            padding=PADDING,
            on_batch=lambda *_: None,
            clock=self.loop.clock,
        )

    def submit(self, value: float, rows: int, length: int, deadline_ms: int | None = None) -> InferRequest:
        array = np.full((rows, length), value, np.float32)
        deadline_ns = NEVER if deadline_ms is None else self.loop.now_ns + deadline_ms * MS
        request = InferRequest((array,), rows, self.responses.respond, deadline_ns=deadline_ns)
        request.length = length
        self.scheduler.submit(request, PADDING.shape(request.arrays))
        return request

    def settle(self) -> None:
        """Let all timers and callbacks run, as they would in the seconds after the faults."""
        for _ in range(3):
            self.loop.advance(1_000 * MS)
            self.scheduler.check()
        self.loop.turn()

    def assert_nothing_held(self) -> None:
        queue = self.queue
        assert (queue.waiting.rows, queue.waiting.bytes, queue.running.requests()) == (0, 0, [])
        assert queue.running.idle == 1
        assert self.scheduler._waking <= 0

    def assert_next_is_answered(self) -> None:
        request = self.submit(5, 2, 3)
        self.loop.turn()
        assert request.error is None
        assert request.outputs is not None
        np.testing.assert_array_equal(request.outputs[0], np.full((2, 3), 10, np.float32))


POINTS: dict[str, Callable[[Inline], tuple[Any, str]]] = {
    "push": lambda one: (one.queue, "push"),
    "heap": lambda one: (one.queue.waiting, "push"),
    "wake": lambda one: (one.scheduler._executor, "wake"),
    "deadline timer": lambda one: (one.scheduler._deadline, "set"),
    "evict": lambda one: (one.queue.waiting, "evict_head"),
    "choose": lambda one: (one.queue._former, "choose"),
    "delays": lambda one: (one.queue.running, "delays"),
    "rows in time": lambda one: (one.queue._former, "_rows_in_time"),
    "batch": lambda one: (batch_former, "Batch"),
    "start": lambda one: (one.queue.running, "start"),
    "assemble": lambda one: (run, "assemble"),
    "check": lambda one: (run, "_checked"),
    "bisect": lambda one: (run, "_bisect"),
    "release": lambda one: (one.queue, "release"),
    "on_batch": lambda one: (one.scheduler._completion, "_on_batch"),
    "scatter": lambda one: (one.scheduler._completion, "_scatter"),
    "join": lambda one: (completion, "join_part"),
    "run": lambda one: (executor, "run"),
}
BEFORE_ONLY = {"choose", "delays", "rows in time", "batch", "run"}
"""Their results are used at once: a fault after them is the same as one before the next step."""

PLANS = st.lists(
    st.tuples(st.integers(1, 9), st.sampled_from([2, 3, 12]), st.none() | st.integers(1, 60), st.booleans()),
    min_size=1,
    max_size=8,
)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("point", POINTS)
@given(
    plan=PLANS,
    numbers=st.sets(st.integers(1, 6), min_size=1, max_size=3),
    error=st.sampled_from(ERRORS),
    turns=st.integers(1, 3),
)
@settings(max_examples=12)
def test_a_fault_fails_some_requests_and_nothing_is_held(
    point: str,
    after: bool,
    plan: list[tuple[int, int, int | None, bool]],
    numbers: set[int],
    error: BaseException,
    turns: int,
) -> None:
    if after and point in BEFORE_ONLY:
        return
    one = Inline()
    owner, name = POINTS[point](one)
    original = getattr(owner, name)
    faults = Faults(ValueError("a fault") if isinstance(error, SystemExit) else error, numbers, after=after)
    faults.plant(owner, name)
    admitted = []
    try:
        for index, (rows, length, deadline_ms, leaves) in enumerate(plan):
            try:
                request = one.submit(index, rows, length, deadline_ms)
            except (SlipwayError, ValueError, MemoryError):
                continue
            request.abandoned = leaves
            admitted.append(request)
            if index % turns == 0:
                one.loop.turn()
        one.settle()
        faults.armed = False
        one.settle()
        one.responses.assert_once_each(admitted)
        one.assert_nothing_held()
        one.assert_next_is_answered()
        for index, request in enumerate(admitted):
            assert request.error is not None or request.outputs is not None, index
    finally:
        setattr(owner, name, original)


@pytest.mark.parametrize("error", ERRORS, ids=repr)
def test_a_fault_in_the_model_fails_exactly_the_requests_of_its_run(error: BaseException) -> None:
    one = Inline()
    faults = Faults(error, {1, 2, 4})  # the batch of four, its first half, and the first of the two requests in it
    one.scheduler._executor._work = executor.Work(  # type: ignore[attr-defined]
        faults.around(double), one.scheduler._pull, one.scheduler._completion.finish, one.scheduler._lost, PADDING
    )
    requests = [one.submit(value, 1, 3) for value in range(4)]
    one.loop.turn()
    one.responses.assert_once_each(requests)
    assert [request.error is not None for request in requests] == [False, True, False, False]
    one.assert_nothing_held()


@pytest.mark.parametrize("error", [ModelFailed, OutOfMemory, DeviceLost, UnprocessableInput, ValueError, SystemExit])
@pytest.mark.parametrize("number", [1, 3])
def test_a_failed_batch_is_freed_without_the_garbage_collector(
    no_collector: None, error: type[BaseException], number: int
) -> None:
    def fail(arrays: tuple[Array, ...]) -> list[Array]:
        raise error("a fault") if (arrays[0] == 0).any() else KeyError

    one = Inline()
    one.scheduler._executor._work = executor.Work(  # type: ignore[attr-defined]
        fail, one.scheduler._pull, one.scheduler._completion.finish, one.scheduler._lost, PADDING
    )
    arrays = [weakref.ref(one.submit(value, 1, 3).arrays[0]) for value in range(number)]
    one.loop.turn()
    assert len(one.responses.count) == number
    one.responses.count.clear()
    assert [array() for array in arrays] == [None] * number


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_completion_that_raises_is_answered_with_an_error_unless_it_was_answered(after: bool) -> None:
    one = Inline()
    requests = [one.submit(value, 1, 3) for value in range(3)]
    requests[1].done = Faults(ValueError("a fault"), {1}, after=after).around(requests[1].done)
    one.loop.turn()
    one.responses.assert_once_each(requests)
    assert [request.error is None for request in requests] == [True, after, True]
    one.assert_nothing_held()


def test_outputs_that_do_not_fit_together_fail_their_request_and_not_its_neighbours() -> None:
    one = Inline()
    widths = iter([3, 2, 2])

    def narrow(arrays: tuple[Array, ...]) -> list[Array]:
        return [arrays[0][:, :1].repeat(next(widths), axis=1)]

    one.scheduler._completion._padding = None
    one.scheduler._executor._work = executor.Work(  # type: ignore[attr-defined]
        narrow, one.scheduler._pull, one.scheduler._completion.finish, one.scheduler._lost
    )
    large, small = one.submit(1, 7, 3), one.submit(2, 2, 3)
    one.loop.turn()
    one.responses.assert_once_each([large, small])
    assert isinstance(large.error, ModelFailed)
    assert small.error is None
    one.assert_nothing_held()


THREAD_POINTS: dict[str, Callable[[Scheduler, BatchQueue], tuple[Any, str]]] = {
    "pull": lambda _, queue: (queue, "pull"),
    "choose": lambda _, queue: (queue._former, "choose"),
    "release": lambda _, queue: (queue, "release"),
    "record": lambda _, queue: (queue.cost(None), "record"),
    "run": lambda *_: (executor, "run"),
    "assemble": lambda *_: (run, "assemble"),
    "turn": lambda scheduler, _: (scheduler._executor._turns, "wait"),  # type: ignore[attr-defined]
    "take evicted": lambda _, queue: (queue.waiting, "take_evicted"),
    "finish": lambda scheduler, _: (scheduler._completion, "_scatter"),
}


@pytest.mark.parametrize("error", ERRORS, ids=repr)
@pytest.mark.parametrize("point", THREAD_POINTS)
async def test_a_fault_on_a_thread_fails_some_requests_and_the_thread_goes_on(point: str, error: BaseException) -> None:
    if isinstance(error, SystemExit):
        error = KeyError("a fault")

    loop = asyncio.get_running_loop()
    device = DeviceScheduler(1, preemptive=False)
    device.join(1)
    queue = BatchQueue(4, [(1, 1e6), (4, 1e6)], instances=2)
    scheduler = Scheduler(
        *(queue, double, loop),
        instances=2,
        inline=False,
        max_queue_ns=10**12,
        turns=device.join(1),
        on_batch=lambda *_: None,
    )
    ended: asyncio.Queue[InferRequest] = asyncio.Queue()
    responses = Responses()

    def respond(request: InferRequest) -> None:
        responses.respond(request)
        ended.put_nowait(request)

    owner, name = THREAD_POINTS[point](scheduler, queue)
    original = getattr(owner, name)
    faults = Faults(error, {1, 2, 4})
    faults.plant(owner, name)
    try:
        admitted = []
        for value in range(24):
            request = InferRequest((np.full((1 + value % 6, 2), value, np.float32),), 1 + value % 6, respond)
            scheduler.submit(request)
            admitted.append(request)
            if value % 5 == 0:
                await asyncio.sleep(0)
        for _ in admitted:
            await asyncio.wait_for(ended.get(), 30)
        faults.armed = False
        last = InferRequest((np.ones((1, 2), np.float32),), 1, respond)
        scheduler.submit(last)
        await asyncio.wait_for(ended.get(), 30)
        assert last.error is None
        responses.assert_once_each([*admitted, last])
        assert await loop.run_in_executor(None, scheduler.stop, 30)
        assert faults.raised
        assert (queue.waiting.rows, queue.waiting.bytes, queue.running.requests()) == (0, 0, [])
    finally:
        setattr(owner, name, original)


class Stepped:
    """A pipeline of two steps on a loop that is turned by hand: ``* 2`` twice; rows may have different lengths."""

    def __init__(self) -> None:
        self.loop = FakeLoop()
        self.responses = Responses()
        self.pipeline = Pipeline((2,), max_queue_ns=10**12, record=lambda _: None, clock=self.loop.clock)
        for index in range(2):
            self.pipeline.add(self.step(index))

    def step(self, index: int) -> Step:
        scheduler = Scheduler(
            BatchQueue(4, [(1, 1.0 * MS), (4, 1.2 * MS)], sizes=COSTS),
            double,
            cast(Any, self.loop),
            instances=1,
            inline=True,
            max_queue_ns=0,
            padding=PADDING,
            on_batch=lambda batch, _: step.learn(batch),
            on_end=self.pipeline.ended,
            clock=self.loop.clock,
        )
        tensors = [TensorSpec(f"v{number}", BY_NAME["FP32"], (-1, -1)) for number in (index, index + 1)]
        spec = ModelSpec((tensors[0],), (tensors[1],))
        step = Step(f"s{index}", spec, scheduler, (index,), MS, MS, 4, padding=PADDING, sizes=(4, 16))
        return step

    def submit(self, lengths: list[int], deadline_ms: int | None = None) -> InferRequest:
        array: Array = np.empty(len(lengths), object)
        for row, length in enumerate(lengths):
            array[row] = np.full(length, row + 1, np.float32)
        deadline_ns = NEVER if deadline_ms is None else self.loop.now_ns + deadline_ms * MS
        request = InferRequest((array,), len(lengths), self.responses.respond, deadline_ns=deadline_ns)
        self.pipeline.submit(request)
        return request

    def settle(self) -> None:
        for _ in range(3):
            self.loop.advance(1_000 * MS)
            self.pipeline.check()
        self.loop.turn()

    def assert_nothing_held(self) -> None:
        for step in self.pipeline.steps:
            queue = step.scheduler._queue
            assert (step.inside, queue.waiting.rows, queue.waiting.bytes, queue.running.idle) == (0, 0, 0, 1)


STEP_POINTS: dict[str, Callable[[Stepped], tuple[Any, str]]] = {
    "enter": lambda one: (one.pipeline, "_enter"),
    "wait": lambda one: (one.pipeline, "_wait"),
    "apart": lambda _: (pipeline, "apart"),
    "rectangular": lambda _: (pipeline, "rectangular"),
    "filled up": lambda _: (pipeline, "filled_up"),
    "rejoin": lambda _: (pipeline, "rejoin"),
    "part ended": lambda one: (one.pipeline, "_part_ended"),
    "passed": lambda one: (one.pipeline, "_passed"),
    "times": lambda _: (pipeline, "StepTimes"),
    "begin anew": lambda _: (pipeline, "_begin_anew"),
    "answer": lambda one: (one.pipeline, "_answer"),
    "leaving": lambda one: (one.pipeline, "_leaving"),
    "record": lambda one: (one.pipeline, "_record"),
    "submit": lambda one: (one.pipeline.steps[1].scheduler, "submit"),
    "learn": lambda one: (one.pipeline.steps[0].scheduler._completion, "_on_batch"),
    "scatter": lambda one: (one.pipeline.steps[0].scheduler._completion, "_scatter"),
    "pull": lambda one: (one.pipeline.steps[1].scheduler._queue._former, "choose"),
}


@pytest.mark.parametrize("point", STEP_POINTS)
@given(
    plan=st.lists(
        st.tuples(st.lists(st.sampled_from([2, 3, 12]), min_size=1, max_size=6), st.none() | st.integers(5, 60)),
        min_size=1,
        max_size=6,
    ),
    numbers=st.sets(st.integers(1, 6), min_size=1, max_size=3),
    error=st.sampled_from(ERRORS[:3]),
)
@settings(max_examples=12)
def test_a_fault_between_steps_fails_some_requests_and_nothing_is_held(
    point: str, plan: list[tuple[list[int], int | None]], numbers: set[int], error: BaseException
) -> None:
    one = Stepped()
    owner, name = STEP_POINTS[point](one)
    original = getattr(owner, name)
    faults = Faults(error, numbers)
    faults.plant(owner, name)
    admitted = []
    try:
        for lengths, deadline_ms in plan:
            try:
                admitted.append(one.submit(lengths, deadline_ms))
            except (SlipwayError, ValueError, MemoryError):
                continue
        one.settle()
        faults.armed = False
        one.settle()
        one.responses.assert_once_each(admitted)
        one.assert_nothing_held()
        request = one.submit([2, 12])
        one.loop.turn()
        assert request.outputs is not None, request.error
        np.testing.assert_array_equal(request.outputs[0][:, :2], [[4, 4], [8, 8]])
    finally:
        setattr(owner, name, original)
