"""Admission: which requests are refused, by how much they are late, and when their clients should come back."""

from __future__ import annotations

import numpy as np
import pytest

from server.errors import DeadlineExceeded, Overloaded
from server.request import NEVER, InferRequest
from server.scheduling.admission import Admission, LoopLag, retry_seconds
from server.scheduling.device import DeviceScheduler
from server.scheduling.queue import BatchQueue

MS = 1_000_000
SECOND = 1_000 * MS
NOW_NS = 50 * SECOND


def request(rows: int = 1, deadline_ns: int = NEVER, size_bytes: int = 0) -> InferRequest:
    one = InferRequest((np.zeros((rows, 2), np.float32),), rows, lambda _: None, deadline_ns=deadline_ns)
    one.size_bytes = size_bytes
    return one


def busy(waiting_rows: int, run_ms: int = 10, size_bytes: int = 0) -> BatchQueue:
    """A queue whose only instance has just begun a run, with ``waiting_rows`` rows behind it."""
    queue = BatchQueue(1, [(1, run_ms * MS)])
    queue.push(request(), None, NOW_NS)
    assert queue.pull(NOW_NS) is not None
    for _ in range(waiting_rows):
        queue.push(request(size_bytes=size_bytes), None, NOW_NS)
    return queue


@pytest.mark.parametrize(("waiting_rows", "refused"), [(2, False), (3, True)])
def test_a_request_that_would_wait_longer_than_the_limit_is_refused(waiting_rows: int, refused: bool) -> None:
    admission = Admission(busy(waiting_rows), LoopLag(), max_queue_ns=35 * MS)
    assert admission.wait_ns(NOW_NS) == (waiting_rows + 1) * 10 * MS
    if refused:
        with pytest.raises(Overloaded):
            admission.admit(request(), None, NOW_NS)
        with pytest.raises(Overloaded):
            admission.foresee(NOW_NS, NEVER)
    else:
        admission.admit(request(), None, NOW_NS)
        admission.foresee(NOW_NS, NEVER)


def test_the_time_to_come_back_is_that_in_which_the_wait_falls_to_the_limit() -> None:
    admission = Admission(busy(8, run_ms=1_000), LoopLag(), max_queue_ns=2_500 * MS)
    with pytest.raises(Overloaded) as refused:
        admission.admit(request(), None, NOW_NS)
    with pytest.raises(Overloaded) as foreseen:
        admission.foresee(NOW_NS, NEVER)
    # 9 s of work, less the 2.5 s that may wait, rounded up
    assert (refused.value.retry_after_s, foreseen.value.retry_after_s) == (7, 7)


@pytest.mark.parametrize(("allowed_ms", "refused"), [(41, False), (39, True)])
def test_a_deadline_counts_the_wait_and_the_run(allowed_ms: int, refused: bool) -> None:
    """Three runs of 10 ms are before the request, and its own is the fourth."""
    admission = Admission(busy(2), LoopLag(), max_queue_ns=SECOND)
    one = request(deadline_ns=NOW_NS + allowed_ms * MS)
    if refused:
        with pytest.raises(Overloaded, match=r"1\.0 ms after the deadline"):
            admission.admit(one, None, NOW_NS)
    else:
        admission.admit(one, None, NOW_NS)


@pytest.mark.parametrize(("allowed_ms", "refused"), [(31, False), (29, True)])
def test_a_refusal_is_foreseen_from_the_wait_alone(allowed_ms: int, refused: bool) -> None:
    admission = Admission(busy(2), LoopLag(), max_queue_ns=SECOND)
    if refused:
        with pytest.raises(Overloaded, match=r"1\.0 ms after the deadline"):
            admission.foresee(NOW_NS, NOW_NS + allowed_ms * MS)
    else:
        admission.foresee(NOW_NS, NOW_NS + allowed_ms * MS)


@pytest.mark.parametrize(("spare_ms", "refused"), [(1, False), (-1, True)])
def test_how_late_the_event_loop_is_counts_too(spare_ms: int, refused: bool) -> None:
    lag = LoopLag()
    lag.ns = 45.0 * MS
    admission = Admission(busy(0), lag, max_queue_ns=SECOND)
    one = request(deadline_ns=NOW_NS + (20 + 45 + spare_ms) * MS)
    early_ns = NOW_NS + (10 + 45 + spare_ms) * MS
    if refused:
        with pytest.raises(Overloaded):
            admission.admit(one, None, NOW_NS)
        with pytest.raises(Overloaded):
            admission.foresee(NOW_NS, early_ns)
    else:
        admission.admit(one, None, NOW_NS)
        admission.foresee(NOW_NS, early_ns)


@pytest.mark.parametrize(("waiting_rows", "size_bytes", "refused"), [(0, 999, False), (1, 40, False), (1, 41, True)])
def test_waiting_arrays_are_bounded_and_a_single_request_is_not(
    waiting_rows: int, size_bytes: int, refused: bool
) -> None:
    admission = Admission(busy(waiting_rows, size_bytes=60), LoopLag(), max_queue_ns=SECOND, max_queue_bytes=100)
    if refused:
        with pytest.raises(Overloaded):
            admission.admit(request(size_bytes=size_bytes), None, NOW_NS)
    else:
        admission.admit(request(size_bytes=size_bytes), None, NOW_NS)


def test_the_wait_is_longer_by_the_turns_of_other_models() -> None:
    device = DeviceScheduler(1, preemptive=False, clock=lambda: 0)
    ours, theirs = device.join(1), device.join(1)
    admission = Admission(busy(2), LoopLag(), max_queue_ns=SECOND, turns=ours)
    assert admission.wait_ns(NOW_NS) == 30 * MS
    theirs.wait()
    assert admission.wait_ns(NOW_NS) == 60 * MS


@pytest.mark.parametrize(("wait_ns", "seconds"), [(0, 1), (1, 1), (SECOND, 1), (SECOND + 1, 2)])
def test_retry_after_is_whole_seconds_rounded_up_and_at_least_one(wait_ns: int, seconds: int) -> None:
    assert retry_seconds(wait_ns) == seconds


@pytest.mark.parametrize("waiting_rows", [0, 3])
def test_a_deadline_before_the_end_of_a_run_alone_is_no_overload(waiting_rows: int) -> None:
    admission = Admission(busy(waiting_rows), LoopLag(), max_queue_ns=SECOND)
    with pytest.raises(DeadlineExceeded, match=r"1\.0 ms too early"):
        admission.admit(request(deadline_ns=NOW_NS + 9 * MS), None, NOW_NS)
    with pytest.raises(DeadlineExceeded, match=r"21\.0 ms too early"):
        admission.admit(request(rows=3, deadline_ns=NOW_NS + 9 * MS), None, NOW_NS)
    with pytest.raises(Overloaded):
        admission.admit(request(deadline_ns=NOW_NS + 11 * MS), None, NOW_NS)
