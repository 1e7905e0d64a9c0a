"""Running batches: what is copied, what fails with what, what a failure teaches."""

from __future__ import annotations

from queue import SimpleQueue
from time import perf_counter_ns
from typing import Any, cast

import numpy as np
import pytest

from server.errors import ModelFailed, OutOfMemory, UnprocessableInput
from server.request import InferRequest
from server.scheduling.batch import Batch, Slice
from server.scheduling.device import DeviceScheduler
from server.scheduling.executor import INLINE_NS, InlineExecutor, ThreadExecutor, Work
from server.scheduling.fair_queue import QUANTUM_NS
from server.scheduling.queue import BatchQueue
from server.scheduling.run import assemble, run
from server.tensors import Array
from tests.fakes import FakeLoop

MS = 1_000_000


def one_row(value: float) -> InferRequest:
    return InferRequest((np.full((1, 2), value, np.float32),), 1, lambda _: None)


def batch_of(*requests: InferRequest) -> Batch:
    queue = BatchQueue(64, [(1, MS), (64, MS)])
    for request in requests:
        queue.push(request, None, 1)
    batch = queue.pull(1)
    assert batch is not None
    return batch


def poisoned_by(poison: float) -> object:
    def model(arrays: tuple[Array, ...]) -> list[Array]:
        if (arrays[0] == poison).any():
            raise ModelFailed("poison")
        return [arrays[0] * 2]

    return model


def test_a_request_that_runs_alone_is_not_copied() -> None:
    request = one_row(1)
    assert assemble(Batch(None, [(request, 0, 1)], 1, 0))[0] is request.arrays[0]


def test_part_of_a_request_is_a_view() -> None:
    request = InferRequest((np.arange(8, dtype=np.float32).reshape(4, 2),), 4, lambda _: None)
    (part,) = assemble(Batch(None, [(request, 1, 3)], 2, 0))
    assert np.shares_memory(part, request.arrays[0])
    assert part.tolist() == [[2, 3], [4, 5]]


def test_rows_keep_the_order_of_their_slices() -> None:
    batch = batch_of(*(one_row(value) for value in range(5)))
    assert run(batch, lambda arrays: [arrays[0] * 2]) == []
    assert batch.outputs[0][:, 0].tolist() == [0, 2, 4, 6, 8]
    assert batch.picked_ns <= batch.assembled_ns <= batch.computed_ns


@pytest.mark.parametrize("place", [0, 3, 6])
def test_one_poisonous_row_fails_alone(place: int) -> None:
    requests = [one_row(666 if index == place else index) for index in range(7)]
    batch = batch_of(*requests)
    failures = run(batch, poisoned_by(666))  # type: ignore[arg-type]
    assert [slice_[0] for slice_, _ in failures] == [requests[place]]
    assert [request for request, _, _ in batch.slices] == [one for one in requests if one is not requests[place]]
    assert batch.outputs[0][:, 0].tolist() == [index * 2 for index in range(7) if index != place]


def test_when_all_rows_fail_every_request_gets_its_error() -> None:
    requests = [one_row(666) for _ in range(4)]
    batch = batch_of(*requests)
    failures = run(batch, poisoned_by(666))  # type: ignore[arg-type]
    assert [slice_[0] for slice_, _ in failures] == requests
    assert batch.slices == []


def test_a_failed_batch_teaches_the_cost_table_nothing() -> None:
    batch = batch_of(one_row(1), one_row(666))
    run(batch, poisoned_by(666))  # type: ignore[arg-type]
    assert batch.bucket is None


@pytest.mark.parametrize("raised", [ValueError("secret /path"), SystemExit(3), KeyError("x")])
def test_whatever_a_model_raises_becomes_an_error_of_ours_without_its_text(raised: BaseException) -> None:
    def model(_: tuple[Array, ...]) -> list[Array]:
        raise raised

    ((_, error),) = run(batch_of(one_row(1)), model)
    assert isinstance(error, ModelFailed)
    assert "secret" not in str(error)


@pytest.mark.parametrize("kind", [UnprocessableInput, OutOfMemory])
def test_errors_of_ours_keep_their_kind(kind: type[Exception]) -> None:
    def model(_: tuple[Array, ...]) -> list[Array]:
        raise kind("as it was")

    ((_, error),) = run(batch_of(one_row(1)), model)
    assert type(error) is kind


def test_out_of_memory_is_retried_with_smaller_batches() -> None:
    largest = 2

    def model(arrays: tuple[Array, ...]) -> list[Array]:
        if len(arrays[0]) > largest:
            raise OutOfMemory("too many rows")
        return [arrays[0]]

    batch = batch_of(*(one_row(index) for index in range(8)))
    assert run(batch, model) == []
    assert batch.outputs[0][:, 0].tolist() == list(range(8))


def test_a_model_that_drops_rows_is_found_out_before_rows_go_to_the_wrong_request() -> None:
    requests = [one_row(index) for index in range(4)]

    def model(arrays: tuple[Array, ...]) -> list[Array]:
        return [arrays[0][:1]]

    batch = batch_of(*requests)
    assert run(batch, model) == []
    by_request: dict[InferRequest, Slice] = {one[0]: one for one in batch.slices}
    assert list(by_request) == requests
    assert batch.outputs[0][:, 0].tolist() == [0, 1, 2, 3]


def test_a_busy_inline_model_lets_the_event_loop_look_elsewhere() -> None:
    loop = FakeLoop()
    queue = BatchQueue(1, [(1, MS)])
    order: list[str] = []

    def slow(arrays: tuple[Array, ...]) -> list[Array]:
        until_ns = perf_counter_ns() + 2 * INLINE_NS
        while perf_counter_ns() < until_ns:
            pass
        order.append("batch")
        return [arrays[0]]

    def pull(finished: Batch | None, limit_ns: int) -> Batch | None:
        if finished is not None:
            queue.release(finished)
        return queue.pull(1, limit_ns)

    for _ in range(3):
        queue.push(one_row(1), None, 1)
    InlineExecutor(cast(Any, loop), Work(slow, pull, lambda *_: None, print)).wake()
    loop.call_soon(order.append, "another")
    loop.turn()
    assert order == ["batch", "another", "batch", "batch"]


def test_a_batch_is_formed_when_the_turn_has_come_and_not_before() -> None:
    device = DeviceScheduler(1, preemptive=False, clock=lambda: 0)
    neighbour, turns = device.join(1), device.join(1)
    held = neighbour.wait()
    queue = BatchQueue(8, [(1, MS), (8, MS)])
    pulled: SimpleQueue[tuple[int, int]] = SimpleQueue()

    def pull(finished: Batch | None, limit_ns: int) -> Batch | None:
        if finished is not None:
            queue.release(finished)
        batch = queue.pull(1, limit_ns)
        if batch is not None:
            pulled.put((batch.rows, limit_ns))
        return batch

    executor = ThreadExecutor(
        cast(Any, FakeLoop()), Work(lambda arrays: [arrays[0]], pull, print, print), 1, "m", turns
    )
    queue.push(one_row(1), None, 1)
    executor.wake()
    queue.push(one_row(2), None, 1)
    assert pulled.empty()
    neighbour.give_back(held)
    assert pulled.get(timeout=10) == (2, QUANTUM_NS)
    assert executor.stop(10)


@pytest.mark.parametrize(("error", "level"), [(UnprocessableInput("NaN"), "INFO"), (ModelFailed("poison"), "ERROR")])
def test_a_fault_of_the_request_is_not_logged_as_one_of_the_model(
    caplog: pytest.LogCaptureFixture, error: Exception, level: str
) -> None:
    def model(_arrays: tuple[Array, ...]) -> list[Array]:
        raise error from ValueError("its cause")

    with caplog.at_level("INFO", logger="slipway.executor"):
        failures = run(batch_of(one_row(1)), model)
    assert [failure for _, failure in failures] == [error]
    (record,) = caplog.records
    assert record.levelname == level
    assert f"code={type(error).code}" in record.getMessage()  # type: ignore[attr-defined]
