"""The process as it holds itself up: garbage collection, a late event loop, threads that cores were taken from."""

from __future__ import annotations

import bisect
import gc
import itertools
import resource
import threading
from collections.abc import Callable, Iterator, Mapping
from time import perf_counter_ns
from typing import Any, Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

from .histograms import BOUNDS_S, Histograms, seconds_buckets

BOUNDS_NS = [round(bound * 1e9) for bound in BOUNDS_S]
LOOK_S = 0.1
RESOLUTION_NS = 1_000_000
"""Timers of the event loop count whole milliseconds: what is late by less than one is not late."""


class Timers(Protocol):
    """What is needed of an event loop."""

    def call_later(self, delay: float, callback: Callable[[], None], /) -> object: ...


class Collections:
    """How long the garbage collector stopped the interpreter: two clock readings for each collection, nothing else.

    Only one at a time runs, so what is kept needs no lock; a scrape sees the collections that have ended.
    """

    def __init__(self, clock: Callable[[], int] = perf_counter_ns) -> None:
        self._clock = clock
        self._begun_ns = 0
        self._counts = [0] * (len(BOUNDS_NS) + 1)
        self._sum_ns = 0

    def start(self) -> None:
        """Listen to this interpreter's collector, once."""
        if self.heard not in gc.callbacks:
            gc.callbacks.append(self.heard)

    def stop(self) -> None:
        if self.heard in gc.callbacks:
            gc.callbacks.remove(self.heard)

    def heard(self, phase: str, _info: Mapping[str, int]) -> None:
        """What ``gc.callbacks`` calls, on whichever thread set off a collection."""
        if phase == "start":
            self._begun_ns = self._clock()
        elif self._begun_ns:
            pause_ns = self._clock() - self._begun_ns
            self._counts[bisect.bisect_left(BOUNDS_NS, pause_ns)] += 1
            self._sum_ns += pause_ns

    def families(self) -> Iterator[Any]:
        family = HistogramMetricFamily("slipway_gc_pause_seconds", "Time in which Python's garbage collector ran")
        family.add_metric([], seconds_buckets(list(itertools.accumulate(self._counts))), self._sum_ns / 1e9)
        yield family


class LoopLag:
    """How late the event loop comes to a timer, ten times a second: so late it comes to a socket, too."""

    def __init__(self, loop: Timers, clock: Callable[[], int] = perf_counter_ns) -> None:
        self._loop = loop
        self._clock = clock
        self._late = Histograms(1)
        self._due_ns = 0

    def start(self) -> None:
        """Look from now on, for as long as the loop runs."""
        self._due_ns = self._clock() + int(LOOK_S * 1e9)
        self._loop.call_later(LOOK_S, self._look)

    def families(self) -> Iterator[Any]:
        counts, total_s = self._late.cumulative(0)
        family = HistogramMetricFamily(
            "slipway_loop_lag_seconds", "How late the event loop was for a timer, beyond the millisecond it counts in"
        )
        family.add_metric([], seconds_buckets(counts), total_s)
        yield family

    def _look(self) -> None:
        self._late.record((max(self._clock() - self._due_ns - RESOLUTION_NS, 0),))
        self.start()


class Cores:
    """The cores that this process may use, and what became of its threads on them."""

    def __init__(self, cores: int) -> None:
        self._cores = cores

    def families(self) -> Iterator[Any]:
        yield GaugeMetricFamily("slipway_cores", "Cores that affinity and quota allow", value=self._cores)
        yield GaugeMetricFamily("slipway_python_threads", "Threads that run Python", value=threading.active_count())
        used = resource.getrusage(resource.RUSAGE_SELF)
        switches = CounterMetricFamily(
            "slipway_context_switches",
            "Cores given up by a thread that waits (voluntary), or taken from one that was working (involuntary)",
            labels=["kind"],
        )
        switches.add_metric(["voluntary"], used.ru_nvcsw)
        switches.add_metric(["involuntary"], used.ru_nivcsw)
        yield switches
