"""Traffic between two versions of a model: a canary that answers a part, a shadow whose answers are only compared.

A model that is not compared has ``ServedModel.choose`` and ``.watch`` unset, and pays nothing.
"""

from __future__ import annotations

import logging
import zlib
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter_ns
from typing import Any

import numpy as np

from ..errors import MalformedInput, SlipwayError
from ..request import REQUEST_ID_HEADERS, Head, InferRequest
from ..tensors import Array
from .served import ServedModel

log = logging.getLogger("slipway.models")

PARTS = 10_000
"""Shares are kept in hundredths of a percent."""

LATENCIES = 1_000
"""Answers of each version whose latency is kept: the newest."""

FAULTS = frozenset(("internal", "model_failed", "out_of_memory", "deadline_exceeded", "overloaded"))
"""Outcomes that count as faults of a version. A malformed body fails with any version."""

MOST_PENDING = 64
"""Copies that may wait for a shadow; further requests are not copied, so that memory stays bounded."""

COMPARED_VALUES = 65_536
"""Values of each output that are compared: the comparison runs on the event loop."""

RELATIVE, ABSOLUTE = 1e-3, 1e-5
"""Tolerances within which two answers are the same: the differences between two builds of one network."""


@dataclass(frozen=True, slots=True)
class Rules:
    """When a canary is rolled back: ``error_rate`` above the stable version's by more than this (0..1), or the p95 of
    ``latency`` more than this times the stable version's; judged from ``least`` answers of each version on. 0: never.
    """

    error_rate: float = 0.0
    latency: float = 0.0
    least: int = 50


@dataclass(frozen=True, slots=True)
class Figures:
    """Counts of a version over some time; ``p95_ns`` is 0 where no latencies were measured."""

    answers: int
    faults: int
    p95_ns: int

    @property
    def error_rate(self) -> float:
        return self.faults / max(self.answers, 1)


class Arm:
    """The counters of one version while it is compared."""

    def __init__(self, model: ServedModel, clock: Callable[[], int], faults: frozenset[str] = FAULTS) -> None:
        """``faults``: the outcomes that count against the version."""
        self.model = model
        self._clock = clock
        self._blamed = faults
        self._before = Counter(model.metrics.answers)
        self._latencies_ns: deque[int] = deque(maxlen=LATENCIES)

    def watch(self, request: InferRequest) -> None:
        """Time a request from its admission to its answer."""
        done, begun_ns = request.done, self._clock()

        def timed(ended: InferRequest) -> None:
            self._latencies_ns.append(self._clock() - begun_ns)
            done(ended)

        request.done = timed

    def figures(self) -> Figures:
        """The figures since the comparison began."""
        return Figures(self.answers, self.faults, self.p95_ns)

    @property
    def answers(self) -> int:
        return sum((self.model.metrics.answers - self._before).values())

    @property
    def faults(self) -> int:
        answers = self.model.metrics.answers - self._before
        return sum(count for outcome, count in answers.items() if outcome in self._blamed)

    @property
    def p95_ns(self) -> int:
        """Over the newest answers; 0 before the first."""
        ordered = sorted(self._latencies_ns)
        return ordered[int(0.95 * (len(ordered) - 1))] if ordered else 0


def judge(ours: Figures, theirs: Figures, rules: Rules) -> str | None:
    """Why a version breaks the rules against another one, or None."""
    if rules.error_rate and ours.error_rate > theirs.error_rate + rules.error_rate:
        return f"error rate {ours.error_rate:.1%} against {theirs.error_rate:.1%} over {ours.answers} answers"
    if rules.latency and theirs.p95_ns and ours.p95_ns > rules.latency * theirs.p95_ns:
        return f"p95 {ours.p95_ns / 1e6:.2f} ms against {theirs.p95_ns / 1e6:.2f} ms over {ours.answers} answers"
    return None


class Canary:
    """Sends a part of the requests to a candidate.

    The request's id decides where it has one, so that a client which keeps its id keeps its version; else requests are
    split evenly by count.
    """

    KIND = "canary"

    def __init__(
        self,
        stable: ServedModel,
        candidate: ServedModel,
        percent: float,
        rules: Rules,
        clock: Callable[[], int] = perf_counter_ns,
    ) -> None:
        """Raises MalformedInput when the two do not take the same inputs."""
        require_same_inputs(stable, candidate)
        self.stable = Arm(stable, clock)
        self.candidate = Arm(candidate, clock)
        self.rules = rules
        self.percent = percent
        self._share = round(percent * PARTS / 100)
        self._credit = 0

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": self.KIND,
            "version": self.candidate.model.version,
            "percent": self.percent,
            "rules": {name: getattr(self.rules, name) for name in Rules.__slots__},
        }

    def attach(self) -> None:
        self.stable.model.choose = self.choose
        self.stable.model.watch = self.stable.watch
        self.candidate.model.watch = self.candidate.watch

    def detach(self) -> None:
        self.stable.model.choose = None
        self.stable.model.watch = self.candidate.model.watch = None

    def choose(self, head: Head) -> ServedModel:
        """The version that answers this request."""
        for name in REQUEST_ID_HEADERS:
            value = head.get(name)
            if value:
                return self._model(zlib.crc32(value) % PARTS < self._share)
        self._credit += self._share
        due = self._credit >= PARTS
        if due:
            self._credit -= PARTS
        return self._model(due)

    @property
    def judged(self) -> bool:
        """Whether there is a rule that could roll the candidate back."""
        return bool(self.rules.error_rate or self.rules.latency)

    def verdict(self) -> str | None:
        """The reason to roll the candidate back; None while there is none."""
        if min(self.candidate.answers, self.stable.answers) < self.rules.least:
            return None
        return judge(self.candidate.figures(), self.stable.figures(), self.rules)

    def _model(self, candidate: bool) -> ServedModel:
        return self.candidate.model if candidate else self.stable.model


class Shadow:
    """Copies the requests that the stable version admits to the shadow, compares both answers and drops the shadow's.

    The client's answer leaves before the comparison, and the copy enters the shadow's queue after the request has
    entered its own. Both versions share the processor: a smaller ``percent`` costs less.
    """

    KIND = "shadow"

    def __init__(
        self,
        stable: ServedModel,
        shadow: ServedModel,
        percent: float = 100.0,
        clock: Callable[[], int] = perf_counter_ns,
    ) -> None:
        """Raises MalformedInput when the two do not take the same inputs."""
        require_same_inputs(stable, shadow)
        self.stable = Arm(stable, clock)
        self.shadow = Arm(shadow, clock)
        self.percent = percent
        self.outcomes = shadow.metrics.shadowed
        self.largest_difference = 0.0
        self._share = round(percent * PARTS / 100)
        self._credit = 0
        self._pending = 0

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.KIND, "version": self.shadow.model.version, "percent": self.percent}

    def attach(self) -> None:
        self.stable.model.watch = self.copy

    def detach(self) -> None:
        self.stable.model.watch = None

    def copy(self, request: InferRequest) -> None:
        """Give an admitted request to the shadow too."""
        self._credit += self._share
        if self._credit < PARTS:
            return
        self._credit -= PARTS
        if self._pending >= MOST_PENDING:
            self.outcomes["skipped"] += 1
            return
        pair = Pair(self)
        twin = InferRequest(request.arrays, request.rows, pair.shadow_answered)
        try:
            self.shadow.model.submit(twin)
        except SlipwayError:
            self.outcomes["skipped"] += 1
            return
        self._pending += 1
        self.shadow.watch(twin)
        self.stable.watch(request)
        pair.deliver = request.done
        request.done = pair.answered

    def compare(self, ours: InferRequest, theirs: InferRequest) -> None:
        """Count the outcome of a pair that has ended: failed, same or different. Raises nothing."""
        self._pending -= 1
        try:
            self._count(ours, theirs)
        except Exception:
            log.exception("comparing the outputs of two versions failed model=%s", self.stable.model.name)
            self.outcomes["failed"] += 1

    def _count(self, ours: InferRequest, theirs: InferRequest) -> None:
        if theirs.outputs is None or theirs.error is not None:
            self.outcomes["failed"] += 1
        elif ours.outputs is not None and ours.error is None:
            apart = difference(ours.outputs, theirs.outputs)
            self.outcomes["same" if apart is None else "different"] += 1
            self.largest_difference = max(self.largest_difference, apart or 0.0)


class Pair:
    """A request and its copy, until both have ended."""

    __slots__ = ("_first", "_shadow", "deliver")

    def __init__(self, shadow: Shadow) -> None:
        self._shadow = shadow
        self._first: InferRequest | None = None
        self.deliver: Callable[[InferRequest], None] | None = None

    def answered(self, request: InferRequest) -> None:
        """Deliver the answer to the client, then compare."""
        try:
            if self.deliver is not None:
                self.deliver(request)
        finally:
            if self._first is None:
                self._first = request
            else:
                self._shadow.compare(request, self._first)

    def shadow_answered(self, twin: InferRequest) -> None:
        if self._first is None:
            self._first = twin
        else:
            self._shadow.compare(self._first, twin)


def difference(ours: Sequence[Array], theirs: Sequence[Array]) -> float | None:
    """None when the outputs are the same within the tolerances, else the largest difference (infinite where the two
    cannot be compared at all). Looks at the first values of large outputs only."""
    if [array.shape for array in ours] != [array.shape for array in theirs]:
        return float("inf")
    apart: float | None = None
    for one, other in zip(ours, theirs, strict=True):
        a, b = one.reshape(-1)[:COMPARED_VALUES], other.reshape(-1)[:COMPARED_VALUES]
        if a.dtype.kind not in "fiub" or b.dtype.kind not in "fiub":
            if not np.array_equal(a, b):
                return float("inf")
            continue
        if not np.allclose(a, b, RELATIVE, ABSOLUTE, equal_nan=True):
            gap = np.abs(a.astype(np.float64) - b.astype(np.float64))
            apart = max(apart or 0.0, float(np.nanmax(gap)) if not np.isnan(gap).all() else float("inf"))
    return apart


def require_same_inputs(stable: ServedModel, other: ServedModel) -> None:
    """Raises MalformedInput unless both versions take the same inputs."""
    if stable is other:
        raise MalformedInput(f"version {stable.version!r} cannot be compared with itself")
    if stable.spec.inputs != other.spec.inputs or stable.independent != other.independent:
        raise MalformedInput(f"versions {stable.version!r} and {other.version!r} do not take the same inputs")
