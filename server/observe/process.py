"""Metrics of the process: garbage collection, lag of the event loop, cores and context switches."""

from __future__ import annotations

import bisect
import gc
import itertools
import resource
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from time import perf_counter_ns
from typing import Any, Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

from .histograms import BOUNDS_S, Histograms, seconds_buckets

BOUNDS_NS = [round(bound * 1e9) for bound in BOUNDS_S]
INTERVAL_S = 0.1
RESOLUTION_NS = 1_000_000
"""Resolution of the event loop's timers; a smaller lag is not counted."""
PAUSE_NS = 10_000_000
"""Pauses of at least this length are told with their instant."""


class Timers(Protocol):
    """The part of an event loop that LoopLag uses."""

    def call_later(self, delay: float, callback: Callable[[], None], /) -> object: ...


class Pauses:
    """The newest long pause of each kind, with its end, so that slow requests can be laid beside it."""

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._newest: dict[str, tuple[float, int]] = {}

    def add(self, kind: str, lasted_ns: int) -> None:
        """A pause has just ended."""
        if lasted_ns >= PAUSE_NS:
            self._newest[kind] = (self._now(), lasted_ns)

    def families(self) -> Iterator[Any]:
        ends = GaugeMetricFamily(
            "slipway_last_pause_timestamp_seconds", "End of the newest pause of 10 ms or more", labels=["kind"]
        )
        lengths = GaugeMetricFamily("slipway_last_pause_seconds", "Length of that pause", labels=["kind"])
        for kind, (end_s, lasted_ns) in list(self._newest.items()):
            ends.add_metric([kind], end_s)
            lengths.add_metric([kind], lasted_ns / 1e9)
        yield from (ends, lengths)


class Collections:
    """Pauses of the interpreter by the garbage collector, from two clock readings for each collection.

    Collections do not overlap, so the counts need no lock. A scrape shows the collections that have ended.
    """

    def __init__(self, clock: Callable[[], int] = perf_counter_ns, pauses: Pauses | None = None) -> None:
        self._clock = clock
        self._pauses = pauses or Pauses()
        self._begun_ns = 0
        self._counts = [0] * (len(BOUNDS_NS) + 1)
        self._sum_ns = 0

    def start(self) -> None:
        """Register with the interpreter's garbage collector."""
        if self.on_collection not in gc.callbacks:
            gc.callbacks.append(self.on_collection)

    def stop(self) -> None:
        if self.on_collection in gc.callbacks:
            gc.callbacks.remove(self.on_collection)

    def on_collection(self, phase: str, _info: Mapping[str, int]) -> None:
        """The callback of ``gc.callbacks``, on the thread that triggered the collection."""
        if phase == "start":
            self._begun_ns = self._clock()
        elif self._begun_ns:
            pause_ns = self._clock() - self._begun_ns
            self._counts[bisect.bisect_left(BOUNDS_NS, pause_ns)] += 1
            self._sum_ns += pause_ns
            self._pauses.add("gc", pause_ns)

    def families(self) -> Iterator[Any]:
        family = HistogramMetricFamily("slipway_gc_pause_seconds", "Pauses by Python's garbage collector")
        family.add_metric([], seconds_buckets(list(itertools.accumulate(self._counts))), self._sum_ns / 1e9)
        yield family


class LoopLag:
    """Lag of the event loop: the delay of a timer, measured ten times a second. Sockets wait as long."""

    def __init__(self, loop: Timers, clock: Callable[[], int] = perf_counter_ns, pauses: Pauses | None = None) -> None:
        self._loop = loop
        self._pauses = pauses or Pauses()
        self._clock = clock
        self._late = Histograms(1)
        self._due_ns = 0

    def start(self) -> None:
        """Measure for as long as the event loop runs."""
        self._due_ns = self._clock() + int(INTERVAL_S * 1e9)
        self._loop.call_later(INTERVAL_S, self._measure)

    def families(self) -> Iterator[Any]:
        counts, total_s = self._late.cumulative(0)
        family = HistogramMetricFamily(
            "slipway_loop_lag_seconds", "Delay of an event loop timer beyond its resolution of one millisecond"
        )
        family.add_metric([], seconds_buckets(counts), total_s)
        yield family

    def _measure(self) -> None:
        late_ns = max(self._clock() - self._due_ns - RESOLUTION_NS, 0)
        self._late.record((late_ns,))
        self._pauses.add("loop", late_ns)
        self.start()


class Cores:
    """The cores of this process, its Python threads and its context switches."""

    def __init__(self, cores: int) -> None:
        self._cores = cores

    def families(self) -> Iterator[Any]:
        yield GaugeMetricFamily("slipway_cores", "Cores that affinity and quota allow", value=self._cores)
        yield GaugeMetricFamily("slipway_python_threads", "Threads that run Python", value=threading.active_count())
        used = resource.getrusage(resource.RUSAGE_SELF)
        switches = CounterMetricFamily(
            "slipway_context_switches",
            "Context switches: voluntary (the thread waited) or involuntary (the thread was preempted)",
            labels=["kind"],
        )
        switches.add_metric(["voluntary"], used.ru_nvcsw)
        switches.add_metric(["involuntary"], used.ru_nivcsw)
        yield switches


class Switches:
    """What was switched on at start, for whoever explains this process from outside."""

    def __init__(self, slowdowns: bool) -> None:
        self._slowdowns = slowdowns

    def families(self) -> Iterator[Any]:
        yield GaugeMetricFamily("slipway_slowdowns", "1 with --slowdowns, else 0", value=float(self._slowdowns))


def watched(loop: Timers, cores: int, slowdowns: bool) -> list[Callable[[], Iterator[Any]]]:
    """What returns the families of this process, which is watched from now on. ``cores``: those that it may use."""
    pauses = Pauses()
    collections, lag = Collections(pauses=pauses), LoopLag(loop, pauses=pauses)
    collections.start()
    lag.start()
    return [collections.families, lag.families, pauses.families, Cores(cores).families, Switches(slowdowns).families]
