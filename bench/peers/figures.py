"""The figures: what each peer reached under each load, round by round, and their medians and ratios."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median

from ..experiments.compare import ratio_of_pairs
from ..observe.environment import Environment

SCHEMA = "slipway.bench.peers/1"


@dataclass(frozen=True, slots=True)
class Load:
    """A load: so many callers that wait for their answers, or requests at a rate of an open loop."""

    name: str
    users: int | None = None
    rate_per_s: float | None = None


@dataclass(frozen=True, slots=True)
class Figure:
    """One load on one server, once.

    ``problems``: why its numbers must not be used; empty where they may. ``p99_ms``: None from too few answers.
    ``generator_cpu``: share of its core.
    """

    rate_per_s: float
    p50_ms: float
    p99_ms: float | None
    requests: int
    failures: int
    generator_cpu: float
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Visit:
    """One round of one server with one model. ``start_s``: from its start to its first right answer.

    ``trouble``: what ended the visit before all loads were measured, if anything did.
    """

    peer: str
    model: str
    round: int
    start_s: float | None
    figures: dict[str, Figure]
    trouble: str | None = None


@dataclass(frozen=True, slots=True)
class Told:
    """A peer as the result tells it. ``missing``: why it took no part, if it did not."""

    name: str
    title: str
    version: str
    settings: tuple[str, ...]
    advice: tuple[str, ...]
    missing: str | None = None


@dataclass(frozen=True, slots=True)
class Ratio:
    """Paired over rounds, with a 95 % interval: above 1, the first server (Slipway) is better by so much."""

    ratio: float
    low: float
    high: float
    pairs: int


@dataclass(frozen=True, slots=True)
class Summary:
    """One load of one peer over all rounds: medians, or None with the ``problem`` that there are none."""

    rate_per_s: float | None
    p50_ms: float | None
    p99_ms: float | None
    problem: str | None
    rate_ratio: Ratio | None = None
    p50_ratio: Ratio | None = None
    p99_ratio: Ratio | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """A whole run. ``loads``: by model. ``summaries``: by model, peer and load. ``partial``: Ctrl-C ended it early."""

    created: str
    command: str
    tool: str
    env: Environment
    generator: str
    server_cores: tuple[int, ...]
    generator_core: int
    rounds: int
    seconds: float
    models: dict[str, str]
    loads: dict[str, tuple[Load, ...]]
    peers: tuple[Told, ...]
    visits: tuple[Visit, ...]
    summaries: dict[str, dict[str, dict[str, Summary]]]
    partial: bool
    schema: str = field(default=SCHEMA)


def summarize(visits: Sequence[Visit], peer: str, first: str, model: str, load: str) -> Summary:
    """The medians of a peer's valid rounds, and its ratios to the first server of the same rounds."""
    mine, its = (_by_round(visits, one, model, load) for one in (peer, first))
    asked = sum(one.peer == peer and one.model == model for one in visits)
    valid = {at: one for at, one in mine.items() if not one.problems}
    if not valid or 2 * len(valid) < asked:
        return Summary(None, None, None, _problem(visits, peer, model, mine))
    pairs = [(its[at], one) for at, one in valid.items() if at in its and not its[at].problems] if peer != first else []
    return Summary(
        median(one.rate_per_s for one in valid.values()),
        median(one.p50_ms for one in valid.values()),
        _median([one.p99_ms for one in valid.values()]),
        None,
        # A rate is better when it is higher, a latency when it is lower.
        _ratio(pairs, lambda first_, other: (other.rate_per_s, first_.rate_per_s)),
        _ratio(pairs, lambda first_, other: (first_.p50_ms, other.p50_ms)),
        _ratio(pairs, lambda first_, other: (first_.p99_ms, other.p99_ms)),
    )


def start_s(visits: Sequence[Visit], peer: str) -> float | None:
    """The median time of a peer from its start to its first right answer."""
    found = [one.start_s for one in visits if one.peer == peer and one.start_s is not None]
    return median(found) if found else None


def _by_round(visits: Sequence[Visit], peer: str, model: str, load: str) -> dict[int, Figure]:
    here = (one for one in visits if one.peer == peer and one.model == model)
    return {one.round: one.figures[load] for one in here if load in one.figures}


def _problem(visits: Sequence[Visit], peer: str, model: str, figures: dict[int, Figure]) -> str:
    """The most recent reason; a load that was never reached has that of its visit."""
    reasons = [reason for one in figures.values() for reason in one.problems]
    troubles = [one.trouble for one in visits if one.peer == peer and one.model == model and one.trouble is not None]
    return (reasons or troubles or ["it was not measured"])[-1]


def _median(values: Sequence[float | None]) -> float | None:
    known = [one for one in values if one is not None]
    return median(known) if known else None


def _ratio(
    pairs: Sequence[tuple[Figure, Figure]], of: Callable[[Figure, Figure], tuple[float | None, float | None]]
) -> Ratio | None:
    asked = [of(one, other) for one, other in pairs]
    values = [(one, other) for one, other in asked if one is not None and other is not None]
    if not values or min(min(pair) for pair in values) <= 0:
        return None
    return Ratio(*ratio_of_pairs([one for one, _ in values], [other for _, other in values]), len(values))
