"""The causes: the five reasons why a model server is slow, each with its share and its evidence. No verdicts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from . import evidence, self_inflicted, weights
from .evidence import CODEC, Evidence
from .observations import Observations
from .sentence import MIN_GAP_MS, MIN_GAP_SHARE
from .stages import TERMS

BANDWIDTH, MODEL, REQUESTS, HARDWARE, SELF = "bandwidth", "model_too_large", "too_many_requests", "hardware", "self"
TITLES = {
    BANDWIDTH: "Bandwidth: the transfer of bodies",
    MODEL: "The model is too large",
    REQUESTS: "Too many requests",
    HARDWARE: "Too little hardware",
    SELF: "Self-inflicted: timers, codecs, event loop",
}
TERMS_OF = {
    BANDWIDTH: ("write", "receive"),
    MODEL: (),
    REQUESTS: ("queue_busy",),
    HARDWARE: ("compute",),
    SELF: ("queue_timer", *CODEC),
}
"""The terms of a request's account that belong to each cause. The other terms belong to network and generator."""


@dataclass(frozen=True, slots=True)
class Threshold:
    """A value of at least ``speaks_for`` speaks for the cause (None: no value does). A value below ``speaks_against``
    speaks against it."""

    cause: str
    measure: str
    speaks_for: float | None
    speaks_against: float


THRESHOLDS = (
    Threshold(BANDWIDTH, "share_median", 0.40, 0.10),
    Threshold(BANDWIDTH, "share_tail", 0.40, 0.10),
    Threshold(BANDWIDTH, "nominal_use", 0.70, 0.30),
    # An upper bound of the link's use can speak against the link, but never for it.
    Threshold(BANDWIDTH, "link_use", None, 0.30),
    Threshold(MODEL, "memory_share", 0.95, 0.80),
    Threshold(MODEL, "major_faults_per_s", 10.0, 1.0),
    Threshold(MODEL, "fixed_share", None, 0.20),
    Threshold(MODEL, "weights_share", 0.50, 0.20),
    Threshold(MODEL, "weights_use", 0.50, 0.10),
    Threshold(MODEL, "weights_over_cache", None, 1.0),
    Threshold(REQUESTS, "share_tail", 0.50, 0.10),
    Threshold(REQUESTS, "load", 0.70, 0.50),
    Threshold(REQUESTS, "utilisation", 0.70, 0.50),
    Threshold(HARDWARE, "share_median", 0.50, 0.25),
    Threshold(HARDWARE, "cpu_share", 0.90, 0.50),
    Threshold(HARDWARE, "throttled", 0.01, 0.001),
    Threshold(SELF, "share_median", 0.30, 0.10),
    Threshold(SELF, "share_tail", 0.30, 0.10),
    Threshold(SELF, "loop_delay", 0.10, 0.02),
    Threshold(SELF, "loop_lag_share", 0.30, 0.10),
    # A pause that fills a hundredth of the time delays one request in a hundred, which is the p99.
    Threshold(SELF, "gc_share", 0.02, 0.005),
    Threshold(SELF, "padding_share", 0.30, 0.10),
    Threshold(SELF, "oversubscription", 0.20, 0.05),
)
"""Defaults, to be tuned against planted causes. A verdict also needs an experiment."""


@dataclass(frozen=True, slots=True)
class Cause:
    """One cause with its evidence.

    ``share_median``: its share of a typical request's time. ``share_tail``: its share of the time that the p99 adds;
    None if the p99 adds hardly any. ``at_most``: both shares are upper bounds, and are contained in another cause's.
    """

    name: str
    title: str
    share_median: float | None
    share_tail: float | None
    at_most: bool
    evidence: tuple[Evidence, ...]


def weigh(observed: Observations) -> tuple[Cause, ...]:
    """The five causes, the largest share first. Raises KeyError without a band around the median."""
    makers: dict[str, Callable[[Observations], list[Evidence]]] = {
        BANDWIDTH: evidence.of_bandwidth,
        MODEL: lambda one: [*evidence.of_model(one), *weights.of_weights(one)],
        REQUESTS: evidence.of_requests,
        HARDWARE: evidence.of_hardware,
        SELF: self_inflicted.of_self_inflicted,
    }
    found = []
    for name, make in makers.items():
        median, tail = _shares(observed, name)
        findings = [*evidence.of_shares(median, tail, name == MODEL), *make(observed)]
        judged = tuple(_judged(name, one) for one in findings)
        found.append(Cause(name, TITLES[name], median, tail, name == MODEL, judged))
    return tuple(sorted(found, key=lambda cause: -max(cause.share_median or 0.0, cause.share_tail or 0.0)))


def speaks(cause: str, measure: str | None, value: float | None) -> str | None:
    """``for``, ``against``, or None: the side of a cause that a value of a measure speaks for."""
    for threshold in THRESHOLDS:
        if value is not None and (threshold.cause, threshold.measure) == (cause, measure):
            if threshold.speaks_for is not None and value >= threshold.speaks_for:
                return "for"
            return "against" if value < threshold.speaks_against else None
    return None


def _judged(cause: str, one: Evidence) -> Evidence:
    return Evidence(one.text, one.measure, one.value, speaks(cause, one.measure, one.value))


def _shares(observed: Observations, cause: str) -> tuple[float | None, float | None]:
    """The cause's share of a typical request's time, and of the time that the tail adds."""
    if not observed.account.with_server:
        return None, None
    names = TERMS_OF[cause]
    scale = 1.0
    if cause == MODEL:
        # A run of any size reads all weights once, so that reading them costs at most the fixed part of a run.
        law = observed.batching.law if observed.batching is not None else None
        if law is None or law.fixed_ms <= 0:
            return None, None
        rows = float(np.mean(observed.account.batch[observed.account.batch > 0]))
        names, scale = TERMS_OF[HARDWARE], min(law.fixed_ms / law.ms(rows), 1.0)
    in_median = sum(observed.median.terms_ms[name] for name in names)
    if cause == BANDWIDTH:
        in_median += evidence.reading_ms(observed)
    median = scale * max(in_median, 0.0) / observed.median.total_ms if observed.median.total_ms > 0 else None
    gap = observed.tail
    if gap is None or (gap.gap_ms < MIN_GAP_MS and gap.gap_ms < MIN_GAP_SHARE * gap.median_ms):
        return median, None
    in_tail = sum(gap.terms[name].ms for name in names)
    return median, scale * min(max(in_tail / gap.gap_ms, 0.0), 1.0)


def terms_without_cause() -> tuple[str, ...]:
    """The terms of the account that belong to no cause: those of the generator, and what is unexplained."""
    claimed = {name for names in TERMS_OF.values() for name in names}
    return tuple(name for name in TERMS if name not in claimed)
