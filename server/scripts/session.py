"""The session of a script: what the scheduler runs, in threads or in processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import perf_counter_ns
from typing import Protocol

from ..errors import DeadlineExceeded
from ..tensors import Array, ModelSpec
from .call import SPEC, Answer, Call, as_array


class Runner(Protocol):
    """Where a script runs."""

    def answer(self, calls: Sequence[Call], timeout_s: float) -> list[Answer]:
        """One answer for each call. Raises DeadlineExceeded when it takes longer than that."""
        ...

    def close(self) -> None: ...


class ScriptSession:
    """Arrays of calls in, arrays of answers out. ``timeout_ns``: the longest that a run may take, whatever the
    deadlines are."""

    def __init__(self, runner: Runner, timeout_ns: int, clock: Callable[[], int] = perf_counter_ns) -> None:
        self.runner = runner
        self._timeout_ns = timeout_ns
        self._clock = clock

    @property
    def spec(self) -> ModelSpec:
        return SPEC

    def run(self, batch: Sequence[Array]) -> list[Array]:
        """Raises DeadlineExceeded when the time is over, or what several calls ended in together."""
        calls: list[Call] = batch[0].tolist()
        now_ns = self._clock()
        for call in calls:
            call.piece_ns = self._timeout_ns
            call.deadline_ns = min(call.deadline_ns, now_ns + self._timeout_ns)
        left_ns = max(call.deadline_ns for call in calls) - now_ns
        if left_ns <= 0:  # a part of a batch that has had its time already
            raise DeadlineExceeded("the script did not answer in time")
        return [as_array(self.runner.answer(calls, left_ns / 1e9))]

    def close(self) -> None:
        self.runner.close()
