"""The CPU time of a model's runs beside their wall time: of all long runs, and of a sample of the short ones."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from time import perf_counter_ns, thread_time_ns
from typing import TypeVar

A = TypeVar("A")
R = TypeVar("R")

LONG_NS = 200_000
"""Reading the CPU clock twice costs less than a hundredth of a run that takes this long."""
SAMPLE = 32
"""One of so many shorter runs is measured."""
MOST_PENDING = 4_096


class RunCpu:
    """CPU time of the thread that runs a model, and wall time of the same runs.

    A run waits (for a lock, the interpreter, a core, a device, another service) where its CPU time is less than its
    wall time. Compute threads that the runtime adds are not counted. Runs may take place on several threads.
    """

    __slots__ = ("_clock", "_cpu", "_pending", "_skip", "cpu_ns", "wall_ns")

    def __init__(
        self, clock: Callable[[], int] = perf_counter_ns, cpu_clock: Callable[[], int] = thread_time_ns
    ) -> None:
        self._clock = clock
        self._cpu = cpu_clock
        self._skip = 0
        # Appending is atomic, so that threads need no lock. What a scrape does not fetch in time is dropped.
        self._pending: deque[tuple[int, int]] = deque(maxlen=MOST_PENDING)
        self.cpu_ns = 0
        self.wall_ns = 0

    def around(self, run: Callable[[A], R]) -> Callable[[A], R]:
        """``run``, measured. A run that raises is not counted."""

        def measured(batch: A) -> R:
            if self._skip > 0:
                self._skip -= 1
                return run(batch)
            begun_ns, begun_cpu_ns = self._clock(), self._cpu()
            result = run(batch)
            cpu_ns, wall_ns = self._cpu() - begun_cpu_ns, self._clock() - begun_ns
            self._pending.append((cpu_ns, wall_ns))
            if wall_ns < LONG_NS:
                self._skip = SAMPLE - 1
            return result

        return measured

    def fold(self) -> None:
        """Add the newest runs to ``cpu_ns`` and ``wall_ns``. Called on one thread."""
        while self._pending:
            cpu_ns, wall_ns = self._pending.popleft()
            self.cpu_ns += cpu_ns
            self.wall_ns += wall_ns
