"""The backend session of a script: the scheduler runs it as it runs a model's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import perf_counter_ns
from typing import Protocol

from ..errors import DeadlineExceeded
from ..tensors import Array, ModelSpec
from .call import SPEC, Call, ScriptResponse, as_array


class Runner(Protocol):
    """The threads or processes that run a script."""

    def run(self, calls: Sequence[Call], timeout_s: float) -> list[ScriptResponse]:
        """One response for each call. Raises DeadlineExceeded after ``timeout_s`` seconds."""
        ...

    def close(self) -> None:
        """End the threads or processes."""
        ...


class ScriptSession:
    """Object arrays [calls] in, object arrays [responses] out. A run takes at most ``timeout_ns``. The deadlines of its
    calls do not end it: the thread or process would be lost, and other clients would wait for a new one."""

    def __init__(
        self,
        runner: Runner,
        timeout_ns: int,
        clock: Callable[[], int] = perf_counter_ns,
    ) -> None:
        self.runner = runner
        self._timeout_ns = timeout_ns
        self._clock = clock

    @property
    def spec(self) -> ModelSpec:
        return SPEC

    def run(self, batch: Sequence[Array]) -> list[Array]:
        """Raises DeadlineExceeded after the timeout, or the error that all calls of the run share."""
        calls: list[Call] = batch[0].tolist()
        now_ns = self._clock()
        for call in calls:
            call.chunk_timeout_ns = self._timeout_ns
            call.run_until_ns = min(call.run_until_ns, now_ns + self._timeout_ns)
        left_ns = max(call.run_until_ns for call in calls) - now_ns
        if left_ns <= 0:  # this half of a failed batch has used its time in the first run
            raise DeadlineExceeded("the script did not respond in time")
        return [as_array(self.runner.run(calls, left_ns / 1e9))]

    def close(self) -> None:
        self.runner.close()
