"""The slowdown: extra time in one stage, for some seconds, on request. ``bench`` proves with it what a stage costs.

A stage cannot be made faster on demand, but it can be made slower: if a stage holds up the tail, then a little more
time there costs the tail more than the same time elsewhere. Nothing is wrapped unless ``--slowdowns`` is on, so that
the hot path is the same without it.
"""

from __future__ import annotations

import gc
import logging
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import perf_counter_ns, sleep, time
from typing import Any, ParamSpec, Protocol, TypeVar

from .errors import UnprocessableInput

log = logging.getLogger("slipway.slowdown")

DECODE, TIMER, COMPUTE, SCATTER, ENCODE = "decode", "queue_timer", "compute", "scatter", "encode"
STAGES = (DECODE, TIMER, COMPUTE, SCATTER, ENCODE)
COLLECTOR = "gc"
"""No stage: while it is named, Python's garbage collector does not run, and visits nothing if a script runs it."""
MAX_EXTRA_US = 1_000_000
MAX_SECONDS = 120.0
SPIN_NS = 200_000
"""A sleep ends late by up to about this much, so that the rest is spent looking at the clock."""

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
Later = Callable[[float, Callable[[], None]], object]


class Held(Protocol):
    """A queue with a batch timer, in nanoseconds."""

    max_delay_ns: int


@dataclass(frozen=True, slots=True)
class Injected:
    """``extra_us`` microseconds more in one stage, for each request, or for each run in ``compute`` and ``scatter``.

    In ``queue_timer`` they may be negative: down to no timer at all. ``COLLECTOR`` takes no time; it has 0.
    """

    stage: str
    extra_us: int


class Slowdown:
    """The slowdown of one server. Changed on the event loop; read where the stages run."""

    def __init__(self, later: Later, wait: Callable[[int], None] | None = None) -> None:
        """``later(seconds, call)`` calls on the event loop. ``wait``: spends nanoseconds of a run."""
        self._later = later
        self._wait = wait or pause
        self._turn = 0
        self._timers: weakref.WeakKeyDictionary[Held, int] = weakref.WeakKeyDictionary()
        self._ends_s = 0.0  # of the Unix epoch: all processes of a server share it
        self._collects = False
        self.now: Injected | None = None

    def to_json(self) -> dict[str, Any] | None:
        """What is slowed down and until when; None while nothing is."""
        if self.now is None:
            return None
        return {"stage": self.now.stage, "extra_us": self.now.extra_us, "ends_s": self._ends_s}

    def follow(self, wanted: Mapping[str, Any] | None) -> None:
        """Slow down what another process slows down, for as long."""
        if wanted == self.to_json():
            return
        left_s = wanted["ends_s"] - time() if wanted is not None else 0.0
        if wanted is None or left_s <= 0:
            self.end()
            return
        self.inject(Injected(wanted["stage"], wanted["extra_us"]), min(left_s, MAX_SECONDS))
        self._ends_s = wanted["ends_s"]

    def inject(self, wanted: Injected, seconds: float) -> None:
        """Slow a stage down for ``seconds``, in place of what was slowed down before: a client that crashes leaves
        nothing behind. Raises UnprocessableInput for an unknown stage, or time that is out of range."""
        if wanted.stage not in (*STAGES, COLLECTOR):
            raise UnprocessableInput(f"the stage {wanted.stage!r} cannot be slowed down; {', '.join(STAGES)} can")
        if wanted.stage == COLLECTOR and wanted.extra_us:
            raise UnprocessableInput(f"{COLLECTOR} takes no extra_us: it only stops the garbage collector")
        least = -MAX_EXTRA_US if wanted.stage == TIMER else 0
        if not least <= wanted.extra_us <= MAX_EXTRA_US or not 0 < seconds <= MAX_SECONDS:
            raise UnprocessableInput(
                f"extra_us must lie between {least} and {MAX_EXTRA_US} in {wanted.stage}, and seconds between 0 and "
                f"{MAX_SECONDS:g}"
            )
        self.end()
        self._turn += 1
        turn = self._turn
        self.now = wanted
        self._ends_s = time() + seconds
        if wanted.stage == TIMER:
            for queue, own_ns in self._timers.items():
                queue.max_delay_ns = max(own_ns + wanted.extra_us * 1_000, 0)
        if wanted.stage == COLLECTOR:
            self._collects = gc.isenabled()
            gc.disable()
            gc.freeze()
        self._later(seconds, lambda: self.end() if self._turn == turn else None)
        log.warning("a stage is slowed down stage=%s extra_us=%d seconds=%g", wanted.stage, wanted.extra_us, seconds)

    def end(self) -> None:
        """Every stage is as it was; a second call does nothing."""
        if self.now is None:
            return
        for queue, own_ns in self._timers.items():
            queue.max_delay_ns = own_ns
        if self.now.stage == COLLECTOR:
            gc.unfreeze()
            if self._collects:
                gc.enable()
        log.warning("the slowdown has ended stage=%s", self.now.stage)
        self.now = None

    def around(self, stage: str, call: Callable[P, R]) -> Callable[P, R]:
        """``call``, which takes longer while its stage is slowed down."""

        def slower(*args: P.args, **kwargs: P.kwargs) -> R:
            result = call(*args, **kwargs)
            now = self.now
            if now is not None and now.stage == stage:
                self._wait(now.extra_us * 1_000)
            return result

        return slower

    def hold(self, queue: Held) -> None:
        """Let ``queue_timer`` reach this queue."""
        self._timers[queue] = queue.max_delay_ns

    def scheduled(
        self, queue: Held, run: Callable[P, R], on_batch: Callable[Q, None]
    ) -> tuple[Callable[P, R], Callable[Q, None]]:
        """``run`` and ``on_batch`` of a scheduler, within reach of ``compute``, ``scatter`` and the timer."""
        self.hold(queue)
        return self.around(COMPUTE, run), self.around(SCATTER, on_batch)

    def codec(self, codec: object) -> None:
        """Let ``decode`` and ``encode`` reach this codec, which belongs to one server."""
        for stage in (DECODE, ENCODE):
            setattr(codec, stage, self.around(stage, getattr(codec, stage)))

    def writer(self, writer: object) -> None:
        """Let ``encode`` reach this writer, which belongs to one server."""
        setattr(writer, ENCODE, self.around(ENCODE, getattr(writer, ENCODE)))


def pause(lasts_ns: int) -> None:
    """Spend this time: asleep, and then looking at the clock."""
    until_ns = perf_counter_ns() + lasts_ns
    if lasts_ns > SPIN_NS:
        sleep((lasts_ns - SPIN_NS) / 1e9)
    while perf_counter_ns() < until_ns:
        pass
