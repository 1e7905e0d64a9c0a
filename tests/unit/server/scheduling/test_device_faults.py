"""Faults of a device: too little memory for a request, and a GPU that is lost for good."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest

from server.errors import DeviceLost, OutOfMemory
from server.request import InferRequest
from server.scheduling.queue import BatchQueue
from server.scheduling.scheduler import Scheduler
from server.tensors import Array
from tests.fakes import FakeLoop

MS = 1_000_000


class Bench:
    """A scheduler with a model that has memory for ``fitting`` rows, and a GPU that can be lost."""

    def __init__(self, fitting: int = 32) -> None:
        self.loop = FakeLoop()
        self.fitting = fitting
        self.lost = False
        self.runs: list[int] = []
        self.answered: list[InferRequest] = []
        self.reasons: list[str] = []
        self.scheduler = Scheduler(
            BatchQueue(32, [(1, 1.0 * MS), (32, 2.0 * MS)]),
            self.model,
            cast(Any, self.loop),
            instances=1,
            inline=True,
            max_queue_ns=10_000 * MS,
            on_batch=lambda _batch, _failed: None,
            on_device_lost=self.reasons.append,
            clock=self.loop.clock,
        )

    def model(self, arrays: tuple[Array, ...]) -> list[Array]:
        rows = len(arrays[0])
        self.runs.append(rows)
        if self.lost:
            raise DeviceLost("CUDA error 700")
        if rows > self.fitting:
            raise OutOfMemory("too many rows")
        return [arrays[0] * 2]

    def submit(self, rows: int) -> InferRequest:
        array = np.arange(rows * 2, dtype=np.float32).reshape(rows, 2)
        request = InferRequest((array,), rows, self.answered.append)
        self.scheduler.submit(request)
        return request


def test_a_request_that_does_not_fit_is_run_in_parts_and_later_batches_are_smaller() -> None:
    bench = Bench(fitting=10)
    request = bench.submit(32)
    bench.loop.turn()
    assert request.error is None
    assert request.outputs is not None
    np.testing.assert_array_equal(request.outputs[0], 2 * request.arrays[0])
    bench.submit(32)
    bench.loop.turn()
    first, later = bench.runs[0], bench.runs[-2:]
    assert first > 16
    assert max(later) <= 16


def test_507_only_where_not_even_one_row_fits() -> None:
    bench = Bench(fitting=0)
    request = bench.submit(4)
    bench.loop.turn()
    assert isinstance(request.error, OutOfMemory)
    assert min(bench.runs) == 1


def test_nothing_is_tried_again_on_a_lost_gpu_and_it_is_reported() -> None:
    bench = Bench()
    bench.lost = True
    requests = [bench.submit(1), bench.submit(1)]
    bench.loop.turn()
    assert bench.runs == [2]
    assert [type(one.error) for one in requests] == [DeviceLost, DeviceLost]
    assert bench.reasons == ["CUDA error 700"] * 2


def test_after_the_loss_everything_that_waits_is_answered_and_new_requests_are_refused() -> None:
    bench = Bench()
    waiting = [bench.submit(1), bench.submit(2)]
    bench.scheduler.fail(DeviceLost("CUDA error 700"))
    assert bench.answered == waiting
    assert all(isinstance(one.error, DeviceLost) for one in waiting)
    with pytest.raises(DeviceLost):
        bench.submit(1)
    bench.loop.turn()
    assert bench.answered == waiting
