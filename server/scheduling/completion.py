"""Completion: the one place where a batch is over. Each of its requests gets its rows, or its error.

Everything here runs on the event loop. Whatever raises for one request fails that request with an error and a log
entry; the other requests of the batch are not affected.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from time import perf_counter_ns

import numpy as np

from ..errors import ClientGone, DeadlineExceeded, DeviceLost, ModelFailed, SlipwayError, release
from ..request import InferRequest
from ..tensors import Array
from .admission import LoopLag
from .batch import Batch, Slice
from .padding import Padding
from .run import Failures

log = logging.getLogger("slipway.scheduler")

OnBatch = Callable[[Batch, int], None]
OnEnd = Callable[[InferRequest], None]


class Completion:
    """Ends the requests of one scheduler, each exactly once."""

    def __init__(
        self,
        *,
        padding: Padding | None,
        lag: LoopLag,
        on_batch: OnBatch,
        on_end: OnEnd | None,
        on_device_lost: Callable[[str], None] | None = None,
        clock: Callable[[], int] = perf_counter_ns,
        name: str = "model",
    ) -> None:
        """``on_batch(batch, failed slices)`` is called for every batch. ``on_end`` is called for every request that has
        ended, instead of its ``done``; a pipeline uses it to pass the request to the next step. ``on_device_lost`` is
        called with the reason for each request that a lost GPU has failed."""
        self._padding = padding
        self._lag = lag
        self._on_batch = on_batch
        self._on_end = on_end
        self._on_device_lost = on_device_lost
        self._clock = clock
        self._name = name

    def finish(self, batch: Batch, failures: Failures) -> None:
        """A batch is over: end its requests. Raises nothing."""
        try:
            batch.finished_ns = self._clock()
            self._lag.learn(max(batch.finished_ns - batch.computed_ns, 0), batch.probe)
            self._on_batch(batch, len(failures))
        except Exception:
            log.exception("recording a batch failed model=%s rows=%d", self._name, batch.rows)
        alone = len(batch.slices) == 1
        offset = 0
        for one in batch.slices:
            request, start, stop = one
            following = offset + stop - start
            try:
                outputs = batch.outputs if alone else [array[offset:following] for array in batch.outputs]
                complete = self._scatter(batch, one, outputs)
            except Exception as error:  # noqa: BLE001 - logged, and the request gets an error
                self._fail(request, self._internal(error, "handing out the outputs"))
            else:
                if complete and self._on_end is None and not request.abandoned:
                    request.end()
                elif complete:
                    self.end(request)
            offset = following
        for (request, _, _), failure in failures:
            self._fail(request, failure)
            if isinstance(failure, DeviceLost) and self._on_device_lost is not None:
                self._on_device_lost(str(failure))

    def end(self, request: InferRequest) -> None:
        """End a request, with the outputs or the error that it has; a second call does nothing. Raises nothing."""
        if request.ended:
            return
        if request.abandoned and request.error is None:
            request.error = ClientGone("the client closed the connection before its answer was ready")
        if self._on_end is None:
            request.end()
            return
        request.ended = True
        try:
            self._on_end(request)
        except Exception:
            log.exception("passing a request on failed model=%s", self._name)

    def end_all(self, requests: Sequence[InferRequest]) -> None:
        """End requests that have their error."""
        for request in requests:
            self.end(request)

    def fail_all(self, requests: Sequence[InferRequest], error: SlipwayError) -> None:
        """End requests with an error; those that have ended already stay as they are."""
        for request in requests:
            self._fail(request, error)

    def lose(self, slices: Sequence[Slice], error: BaseException) -> None:
        """A batch was lost to a fault outside its run: its requests get an error."""
        for request, _, _ in slices:
            self._fail(request, self._internal(error, "running the batch"))

    def _scatter(self, batch: Batch, part: Slice, outputs: list[Array]) -> bool:
        """Give a request its rows of a batch. Returns whether it has all of its rows."""
        request, start, stop = part
        if request.ended:
            return False  # at its deadline, or because the model had stalled: what comes now is dropped
        if self._padding is not None and request.length != batch.length:
            outputs = self._padding.cut(outputs, request.length)
        request.assembled_ns = batch.assembled_ns
        request.computed_ns = batch.computed_ns
        request.run_rows = batch.rows
        request.run_length = batch.length
        if stop - start == request.rows:
            request.outputs = outputs
        elif not join_part(request, start, stop, outputs):
            return False
        request.scattered_ns = self._clock()
        late_ns = request.scattered_ns - request.deadline_ns
        if late_ns > 0 and request.error is None:
            request.error = DeadlineExceeded(f"deadline exceeded: finished {late_ns / 1e6:.1f} ms late")
            request.outputs = None
        return True

    def _fail(self, request: InferRequest, error: SlipwayError) -> None:
        """End a request with an error. Its rows that still wait are not run."""
        if request.ended:
            return
        release(error)  # its frames hold the arrays of the whole batch
        request.error = error
        request.outputs = None
        request.joined = None
        request.abandoned = True
        self.end(request)

    def _internal(self, error: BaseException, action: str) -> SlipwayError:
        if isinstance(error, SlipwayError):
            return error
        log.error("%s failed model=%s", action, self._name, exc_info=error)
        return SlipwayError("the server failed on this request; its log has the details")


def join_part(request: InferRequest, start: int, stop: int, outputs: Sequence[Array]) -> bool:
    """Copy the outputs of rows ``start`` to ``stop`` to their place in the outputs of a request that runs in parts.

    Each part is copied once, when it arrives, so that the cost of a request is linear in its rows. Returns whether the
    request has all of its rows. Raises ModelFailed for an output whose shape differs from that of an earlier part.
    """
    joined = request.joined
    if joined is None:
        joined = request.joined = [np.empty((request.rows, *array.shape[1:]), array.dtype) for array in outputs]
    for whole, part in zip(joined, outputs, strict=True):
        if part.shape[1:] != whole.shape[1:] or part.dtype != whole.dtype:
            raise ModelFailed("the model returned an output of another shape for other rows of the same request")
        whole[start:stop] = part
    request.joined_rows += stop - start
    if request.joined_rows < request.rows:
        return False
    request.outputs, request.joined = joined, None
    return True
