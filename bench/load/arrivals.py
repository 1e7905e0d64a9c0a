"""Arrivals: processes that make the instants of requests, each a pure function of its parameters and a seed.

Instants are nanoseconds after the start (int64, ascending). Traces and profiles have a rate of their own; the other
processes are given one.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import Unusable
from . import trace

NS_PER_S = 1_000_000_000
Offsets = NDArray[np.int64]
SPECS = "poisson, constant, gamma:CV, mmpp:RATIOxSECONDS, steps:RATExSECONDS,..., ramp:FROM-TOxSECONDS or trace:FILE"
"""The syntax of arrivals, for help texts and errors."""


class Process(Protocol):
    """A process of arrivals. ``spec``: the user's text. Rate and duration are None where the caller sets them."""

    @property
    def spec(self) -> str: ...

    @property
    def rate_per_s(self) -> float | None: ...

    @property
    def duration_s(self) -> float | None: ...

    def offsets_ns(self, rate_per_s: float, duration_s: float, seed: int) -> Offsets: ...


@dataclass(frozen=True, slots=True)
class Constant:
    """Evenly spaced: the i-th instant is i / rate, so that rounding does not add up over the run."""

    spec: str = "constant"
    rate_per_s: None = None
    duration_s: None = None

    def offsets_ns(self, rate_per_s: float, duration_s: float, seed: int) -> Offsets:  # noqa: ARG002 - Process
        count = math.ceil(rate_per_s * duration_s)
        return _within(np.arange(count, dtype=np.float64) / rate_per_s, duration_s)


@dataclass(frozen=True, slots=True)
class Renewal:
    """Independent gaps, gamma distributed with this coefficient of variation.

    At 1 the process is Poisson, like many independent callers; above, arrivals cluster; below, they are more even. The
    number of arrivals is random too: a fixed number would hide bursts.
    """

    spec: str
    variation: float = 1.0
    rate_per_s: None = None
    duration_s: None = None

    def offsets_ns(self, rate_per_s: float, duration_s: float, seed: int) -> Offsets:
        random = np.random.default_rng(seed)
        shape = self.variation**-2
        mean = rate_per_s * duration_s
        # Six standard deviations above the mean are enough in all but one of a billion runs; the loop covers the rest.
        chunk = int(mean + 6 * max(self.variation, 1) * math.sqrt(mean)) + 16
        gaps_s = [_gaps(random, shape, rate_per_s, chunk)]
        while sum(float(part.sum()) for part in gaps_s) < duration_s:
            gaps_s.append(_gaps(random, shape, rate_per_s, chunk))
        return _within(np.cumsum(np.concatenate(gaps_s)), duration_s)


def _gaps(random: np.random.Generator, shape: float, rate_per_s: float, count: int) -> NDArray[np.float64]:
    if shape == 1:
        return random.exponential(1 / rate_per_s, count)
    return random.gamma(shape, 1 / (shape * rate_per_s), count)


@dataclass(frozen=True, slots=True)
class Modulated:
    """A Markov-modulated Poisson process: calm and burst alternate, each for ``dwell_s`` on average (exponential).

    The rate in a burst is ``ratio`` times the calm rate. The mean rate over a long time is ``rate_per_s``.
    """

    spec: str
    ratio: float
    dwell_s: float
    rate_per_s: None = None
    duration_s: None = None

    def offsets_ns(self, rate_per_s: float, duration_s: float, seed: int) -> Offsets:
        random = np.random.default_rng(seed)
        calm = 2 * rate_per_s / (1 + self.ratio)
        bursting = bool(random.integers(2))
        segments, left_s = [], duration_s
        while left_s > 0:
            dwell_s = min(float(random.exponential(self.dwell_s)), left_s)
            rate = calm * (self.ratio if bursting else 1)
            segments.append(Segment(rate, rate, dwell_s))
            left_s -= dwell_s
            bursting = not bursting
        return _profile_offsets_ns(tuple(segments), duration_s, random)


@dataclass(frozen=True, slots=True)
class Segment:
    """A time in which the rate changes linearly from one value to another."""

    from_per_s: float
    to_per_s: float
    seconds: float

    @property
    def expected(self) -> float:
        """The mean number of arrivals in the segment."""
        return (self.from_per_s + self.to_per_s) / 2 * self.seconds


@dataclass(frozen=True, slots=True)
class Profile:
    """Steps and ramps: Poisson arrivals whose rate follows the segments."""

    spec: str
    segments: tuple[Segment, ...]

    @property
    def duration_s(self) -> float:
        return math.fsum(one.seconds for one in self.segments)

    @property
    def rate_per_s(self) -> float:
        return math.fsum(one.expected for one in self.segments) / self.duration_s

    def offsets_ns(self, rate_per_s: float, duration_s: float, seed: int) -> Offsets:  # noqa: ARG002 - Process
        return _profile_offsets_ns(self.segments, duration_s, np.random.default_rng(seed))


@dataclass(frozen=True, slots=True, eq=False)
class Recorded:
    """The instants of a trace, unchanged, with the trace's own rate."""

    spec: str
    recorded: trace.Trace

    @property
    def duration_s(self) -> float:
        return self.recorded.duration_s

    @property
    def rate_per_s(self) -> float:
        return self.recorded.rate_per_s

    def offsets_ns(self, rate_per_s: float, duration_s: float, seed: int) -> Offsets:  # noqa: ARG002 - Process
        return _within(self.recorded.offsets_ns / NS_PER_S, duration_s)


def parse(spec: str) -> Process:
    """Parse a user's text. Raises Unusable with the syntax."""
    name, _, text = spec.partition(":")
    try:
        if spec == "constant":
            return Constant()
        if spec == "poisson":
            return Renewal(spec)
        if name == "gamma":
            return Renewal(spec, _number(text))
        if name == "mmpp":
            ratio, _, dwell = text.partition("x")
            return Modulated(spec, _number(ratio), _number(dwell))
        if name in ("steps", "ramp"):
            return _profile(spec, text)
    except ValueError as error:
        raise Unusable(f"cannot read the arrivals {spec!r}: {error}; write {SPECS}") from error
    if name == "trace" and text:
        return _recorded(spec, text)
    raise Unusable(f"unknown arrivals {spec!r}: write {SPECS}")


def _recorded(spec: str, text: str) -> Recorded:
    """``FILE``, or ``FILE@2`` for twice as fast."""
    name, at, speed = text.rpartition("@")
    if not at or Path(text).exists():
        return Recorded(spec, trace.read(Path(text)))
    try:
        return Recorded(spec, trace.faster(trace.read(Path(name)), _number(speed)))
    except ValueError as error:
        raise Unusable(f"cannot read the speed in {spec!r}: {error}; write trace:FILE@2") from error


def _profile(spec: str, text: str) -> Profile:
    profile = Profile(spec, tuple(_segment(part) for part in text.split(",")))
    if not profile.rate_per_s:
        raise ValueError("its rate is 0 throughout")
    return profile


def _segment(text: str) -> Segment:
    found = re.fullmatch(r"([^x-]+)(?:-([^x-]+))?x([^x-]+)", text.strip())
    if found is None:
        raise ValueError(f"{text!r} is no RATExSECONDS")
    first, last, seconds = found.groups()
    return Segment(_number(first, zero=True), _number(last or first, zero=True), _number(seconds))


def _number(text: str, zero: bool = False) -> float:
    number = float(text)
    if not (math.isfinite(number) and (number > 0 or (zero and number == 0))):
        raise ValueError(f"{text!r} is no positive number")
    return number


def _profile_offsets_ns(segments: tuple[Segment, ...], duration_s: float, random: np.random.Generator) -> Offsets:
    """Arrivals at unit rate, mapped by the inverse of the cumulative rate (time rescaling), which is exact."""
    expected = np.array([one.expected for one in segments])
    ends = np.cumsum(expected)
    starts_s = np.concatenate([[0.0], np.cumsum([one.seconds for one in segments])])
    count = int(ends[-1] + 6 * math.sqrt(ends[-1])) + 16
    unit = np.cumsum(random.exponential(1.0, count))
    while unit[-1] < ends[-1]:
        unit = np.concatenate([unit, unit[-1] + np.cumsum(random.exponential(1.0, count))])
    unit = unit[unit < ends[-1]]
    at = np.searchsorted(ends, unit, side="right")
    into = unit - (ends[at] - expected[at])
    first = np.array([one.from_per_s for one in segments])[at]
    slope = np.array([(one.to_per_s - one.from_per_s) / one.seconds for one in segments])[at]
    # The positive root of slope/2 t^2 + first t = into, written so that a slope of zero is no special case.
    within_s = 2 * into / (first + np.sqrt(np.maximum(first**2 + 2 * slope * into, 0)))
    return _within(np.sort(starts_s[at] + within_s), duration_s)


def _within(instants_s: NDArray[np.float64], duration_s: float) -> Offsets:
    offsets: Offsets = np.floor(instants_s * NS_PER_S).astype(np.int64)
    return offsets[offsets < duration_s * NS_PER_S]
