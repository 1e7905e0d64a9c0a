"""The verdict: at most three causes of a run's latency, ranked, each with what to do and how to prove it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

PROVEN, LIKELY, UNDECIDED, RULED_OUT = "proven", "likely", "undecided", "ruled_out"
CONFIDENCES = (PROVEN, LIKELY, UNDECIDED, RULED_OUT)
"""From the most to the least certain. Only an experiment makes a cause proven."""
NONE = "none"
NAMES = (
    *("capacity", "serial", "batch_timer", "codec", "bandwidth", "network_latency", "model_size", "hardware"),
    *("cpu_quota", "neighbour", "stall", "threads", "padding", "input_size", "cold_start", "connections"),
    *("other_traffic", "generator", NONE),
)
MAX_CAUSES = 3
P99_MS = "ms of p99"


@dataclass(frozen=True, slots=True)
class Gain:
    """What the remedy of a cause is expected to bring, as an interval in ``unit``.

    ``low`` and ``high``: None where the size of the gain is unknown.
    """

    low: float | None
    high: float | None
    unit: str = P99_MS


@dataclass(frozen=True, slots=True)
class Cause:
    """One cause of a run's latency.

    ``name``: of ``NAMES``; ``confidence``: of ``CONFIDENCES``. ``evidence``: sentences. ``do``: the remedy, in one
    sentence. ``prove``: the command that tests the cause, or the run once more, to compare after the remedy.
    """

    name: str
    confidence: str
    evidence: tuple[str, ...]
    do: str
    gain: Gain
    prove: str

    @property
    def prove_label(self) -> str:
        """The word before the command: ``again`` where it only shows what a remedy has changed."""
        return "prove" if "--confirm" in self.prove or self.name in ("capacity", "serial") else "again"


@dataclass(frozen=True, slots=True)
class Verdict:
    """``causes``: one to ``MAX_CAUSES``, the most important first. The first is ``none`` if no known cause was found.

    ``ruled_out``: names of causes that the run speaks against. ``tried``: those for which an experiment was made.
    """

    causes: tuple[Cause, ...]
    ruled_out: tuple[str, ...] = ()
    tried: tuple[str, ...] = ()


def rank(found: Sequence[Cause], ruled_out: Sequence[str] = ()) -> Verdict:
    """The verdict on these causes: by confidence, then by the upper end of the gain. ``found``: at least one."""
    ordered = sorted(found, key=lambda one: (CONFIDENCES.index(one.confidence), -(one.gain.high or 0.0)))
    return Verdict(tuple(ordered[:MAX_CAUSES]), tuple(ruled_out))


def sentence(cause: Cause) -> str:
    """The cause in one line of text: name, confidence, first evidence."""
    title = TITLES[cause.name]
    return f"{title} ({CONFIDENCE_WORDS[cause.confidence]}): {cause.evidence[0]}" if cause.evidence else title


def gain_in_words(gain: Gain) -> str:
    """The gain as text: ``12 to 40 ms of p99``; ``not known`` without figures."""
    if gain.high is None:
        return "not known"
    return f"{three_digits(gain.low or 0.0)} to {three_digits(gain.high)} {gain.unit}"


def three_digits(value: float, grouping: str = ",") -> str:
    """A number with three significant digits, and without an exponent below 10 billions."""
    return f"{float(f'{value:.3g}'):{grouping}.10g}"


CONFIDENCE_WORDS = {PROVEN: "proven", LIKELY: "likely", UNDECIDED: "undecided", RULED_OUT: "ruled out"}
TITLES = {
    "capacity": "Too many requests for the capacity of the server",
    "serial": "The server works on one request at a time",
    "batch_timer": "The server waits for a batch to fill",
    "codec": "Reading and writing of bodies (JSON and the like)",
    "bandwidth": "The network is too slow for these bodies",
    "network_latency": "The way through the network takes long",
    "model_size": "The model is too large for the memory",
    "hardware": "The computation takes long on these cores",
    "cpu_quota": "The CPU quota stops the server",
    "neighbour": "Other programs take the cores of the server",
    "stall": "The whole server stops from time to time",
    "threads": "Threads of the server take cores or the interpreter from each other",
    "padding": "The model computes padding",
    "input_size": "Large inputs take long",
    "cold_start": "The first requests wait for the start of the model",
    "connections": "Requests wait for new connections",
    "other_traffic": "Another client loads the server",
    "generator": "The load generator itself is late",
    NONE: "Nothing found that makes requests slow",
}
