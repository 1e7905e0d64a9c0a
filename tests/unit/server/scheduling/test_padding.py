"""Padding: requests of different lengths share a run where it pays, and no answer can tell."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.errors import MalformedInput, OutOfMemory, Overloaded
from server.request import ORDINARY, PATIENCE_NS, InferRequest
from server.scheduling.batch import Batch
from server.scheduling.padding import PaddedInput, Padding
from server.scheduling.queue import BatchQueue
from server.scheduling.run import assemble, run
from server.scheduling.scheduler import Scheduler
from server.tensors import Array
from tests.fakes import FakeLoop

MS = 1_000_000
Costs = dict[int, list[tuple[int, float]]]
IDS_AND_MASK = Padding((PaddedInput(0, 1, 7), PaddedInput(1, 1, 0)), outputs=((1, 1),))
BY_ROW: Costs = {16: [(1, 2 * MS), (8, 3 * MS)], 64: [(1, 8 * MS), (8, 12 * MS)]}
"""Eight rows cost little more than one: padding a few short rows to a long one pays."""
BY_TOKEN: Costs = {16: [(size, size * 2 * MS) for size in (1, 8)], 64: [(size, size * 8 * MS) for size in (1, 8)]}
"""Every padded token costs as much as a real one: padding never pays."""


def text(length: int, rows: int = 1, first: int = 1) -> InferRequest:
    ids = np.arange(first, first + rows * length, dtype=np.int64).reshape(rows, length)
    request = InferRequest((ids, np.ones_like(ids)), rows, lambda _: None)
    request.length = length
    return request


def pooled(arrays: tuple[Array, ...]) -> list[Array]:
    """A model that obeys its mask: the sum of the tokens, and the tokens doubled."""
    ids, mask = arrays
    return [(ids * mask).sum(axis=1), ids * 2]


def queue_of(sizes: Costs, *requests: InferRequest) -> BatchQueue:
    queue = BatchQueue(8, [(1, MS)], sizes=sizes)
    for now, request in enumerate(requests, start=1):
        queue.push(request, None, now)
    return queue


def test_short_inputs_are_filled_up_with_their_own_values() -> None:
    ids, mask = IDS_AND_MASK.join([(text(2), 0, 1), (text(3), 0, 1)], 4)
    assert ids.tolist() == [[1, 2, 7, 7], [1, 2, 3, 7]]
    assert mask.tolist() == [[1, 1, 0, 0], [1, 1, 1, 0]]
    assert ids.dtype == np.int64


def test_outputs_that_have_the_axis_are_cut_back() -> None:
    sums, tokens = IDS_AND_MASK.cut([np.zeros(1), np.zeros((1, 9))], 4)
    assert (sums.shape, tokens.shape) == ((1,), (1, 4))


def test_an_axis_in_the_middle_is_filled_up_too() -> None:
    padding = Padding((PaddedInput(0, 2, -1.0),))
    request = InferRequest((np.zeros((2, 3, 2, 4), np.float32),), 2, lambda _: None)
    (joined,) = padding.join([(request, 0, 2)], 5)
    assert joined.shape == (2, 3, 5, 4)
    assert (joined[:, :, 2:] == -1).all()
    assert padding.shape(request.arrays) == ((3, 4),)


def test_inputs_that_disagree_about_the_length_are_refused() -> None:
    with pytest.raises(MalformedInput, match="one length"):
        IDS_AND_MASK.length((np.zeros((1, 3)), np.zeros((1, 4))))


def test_inputs_to_measure_with_are_made_of_values_that_occur() -> None:
    ids, _ = IDS_AND_MASK.resized((np.array([[5, 6, 7]]), np.ones((1, 3))), 5)
    assert ids.tolist() == [[5, 6, 7, 5, 6]]


@given(st.lists(st.tuples(st.integers(1, 20), st.integers(1, 3)), min_size=1, max_size=8))
def test_a_padded_answer_equals_the_unpadded_one(shapes: list[tuple[int, int]]) -> None:
    requests = [text(length, rows, first=index * 100) for index, (length, rows) in enumerate(shapes)]
    slices = [(request, 0, request.rows) for request in requests]
    longest = max(request.length for request in requests)
    batch = Batch(None, slices, sum(request.rows for request in requests), 1, longest)
    assert run(batch, pooled, IDS_AND_MASK) == []
    offset = 0
    for request in requests:
        outputs = [array[offset : offset + request.rows] for array in batch.outputs]
        offset += request.rows
        for have, want in zip(IDS_AND_MASK.cut(outputs, request.length), pooled(request.arrays), strict=True):
            np.testing.assert_array_equal(have, want)


def test_requests_of_one_length_are_joined_without_padding() -> None:
    requests = [text(3), text(3, first=10)]
    (ids, _) = assemble(Batch(None, [(one, 0, 1) for one in requests], 2, 1, 3), IDS_AND_MASK)
    assert ids.tolist() == [[1, 2, 3], [10, 11, 12]]


def test_requests_of_different_lengths_run_once_and_not_one_by_one() -> None:
    runs: list[tuple[int, ...]] = []

    def model(arrays: tuple[Array, ...]) -> list[Array]:
        runs.append(arrays[0].shape)
        return pooled(arrays)

    requests = [text(3), text(2, first=10)]
    assert run(Batch(None, [(one, 0, 1) for one in requests], 2, 1, 3), model, IDS_AND_MASK) == []
    assert runs == [(2, 3)]


def test_a_lone_request_is_neither_padded_nor_copied() -> None:
    request = text(5)
    batch = queue_of(BY_ROW, request).pull(9)
    assert batch is not None
    assert batch.length == 5
    assert assemble(batch, IDS_AND_MASK)[0] is request.arrays[0]


def test_where_rows_are_cheap_short_and_long_requests_share_a_run() -> None:
    batch = queue_of(BY_ROW, text(60), text(10), text(12)).pull(9)
    assert batch is not None
    assert [request.length for request, _, _ in batch.slices] == [60, 10, 12]
    assert batch.length == 60


def test_an_urgent_short_request_takes_the_longer_ones_that_wait_along() -> None:
    batch = queue_of(BY_ROW, text(10), *(text(60) for _ in range(7))).pull(9)
    assert batch is not None
    assert (batch.rows, batch.length) == (8, 60)


def test_where_every_token_costs_nothing_is_padded_beyond_its_bucket() -> None:
    queue = queue_of(BY_TOKEN, text(60), text(10), text(60), text(12))
    batches = list(iter(lambda: queue.pull(9), None))
    for batch in batches:
        assert len({request.length > 16 for request, _, _ in batch.slices}) == 1
    assert sum(batch.rows for batch in batches) == 4


def test_alternating_lengths_do_not_degrade_to_batches_of_one() -> None:
    sizes: Costs = {16: [(1, 10 * MS), (8, 11 * MS)], 64: [(1, 40 * MS), (8, 44 * MS)]}
    queue = queue_of(sizes, *(text(10 if index % 2 else 60) for index in range(16)))
    assert sorted(batch.rows for batch in iter(lambda: queue.pull(99), None)) == [8, 8]


def test_a_length_beyond_all_buckets_gets_one_of_its_own() -> None:
    queue = queue_of(BY_ROW, text(1_000), text(1_000))
    batch = queue.pull(9)
    assert batch is not None
    assert (batch.rows, batch.length) == (1, 1_000) or batch.rows == 2
    assert [size for size, _ in queue.waiting.costs()] == [1_000]


def test_costs_are_learnt_for_each_length() -> None:
    queue = queue_of(BY_TOKEN, text(10), text(60))
    for batch in iter(lambda: queue.pull(9), None):
        batch.outputs = [np.zeros(1)]
        batch.computed_ns = batch.picked_ns + 100 * MS
        queue.release(batch)
    learnt = {size: dict(cost.points())[1] for size, cost in queue.waiting.costs()}
    assert learnt[16] > 2 * MS
    assert learnt[64] > 8 * MS


def test_a_model_that_runs_out_of_memory_gets_smaller_batches_from_then_on() -> None:
    queue = BatchQueue(8, [(1, MS), (8, MS)])

    def model(arrays: tuple[Array, ...]) -> list[Array]:
        if len(arrays[0]) > 3:
            raise OutOfMemory("too many rows")
        return [arrays[0]]

    sizes = []
    for _ in range(4):
        for _ in range(8):
            queue.push(text(4), None, 1)
        for batch in iter(lambda: queue.pull(1), None):
            rows = batch.rows
            assert run(batch, model) == []
            queue.release(batch)
            sizes.append(rows)
    assert sizes[:2] == [8, 4]
    assert max(sizes[2:]) <= 2


def test_a_more_urgent_priority_goes_first_until_the_other_has_waited_for_longer() -> None:
    queue = BatchQueue(1, [(1, MS)])
    ordinary, urgent = text(4), text(4)
    urgent.patience_ns = PATIENCE_NS
    queue.push(ordinary, None, 1)
    queue.push(urgent, None, 2)
    batch = queue.pull(3)
    assert batch is not None
    assert batch.slices[0][0] is urgent
    late = text(4)
    late.patience_ns = PATIENCE_NS
    queue.push(late, None, 1 + (ORDINARY - 1) * PATIENCE_NS + 1)
    batch = queue.pull(10 * PATIENCE_NS)
    assert batch is not None
    assert batch.slices[0][0] is ordinary


def test_waiting_bytes_are_counted_and_bounded() -> None:
    loop = FakeLoop()
    queue = BatchQueue(8, [(1, MS), (8, MS)])
    scheduler = Scheduler(
        queue,
        lambda arrays: [arrays[0]],
        cast(Any, loop),
        instances=1,
        inline=True,
        max_queue_ns=10**12,
        max_queue_bytes=1_000,
        on_batch=lambda *_: None,
        clock=loop.clock,
    )
    scheduler.submit(text(100))
    with pytest.raises(Overloaded, match="MB of requests wait"):
        scheduler.submit(text(10))
    loop.turn()
    assert queue.waiting.bytes == 0
    scheduler.submit(text(10))
    loop.turn()
    assert queue.waiting.bytes == 0
