"""Figures: rate and latency of each peer under each load, by round, with medians and ratios over the rounds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median

from ..experiments.compare import ratio_of_pairs
from ..observe.environment import Environment

SCHEMA = "slipway.bench.peers/1"


@dataclass(frozen=True, slots=True)
class Load:
    """A load: a closed loop of ``users`` callers, or an open loop at ``rate_per_s``. The other field is None."""

    name: str
    users: int | None = None
    rate_per_s: float | None = None


@dataclass(frozen=True, slots=True)
class Figure:
    """The measurement of one load on one server in one round.

    ``rate_per_s``: successful responses per second. ``p99_ms``: None with too few responses. ``generator_cpu``: share
    of the generator's core. ``problems``: why the figure is invalid; empty for a valid one.
    """

    rate_per_s: float
    p50_ms: float
    p99_ms: float | None
    requests: int
    failures: int
    generator_cpu: float
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RoundResult:
    """One round of one server with one model: ``figures`` by the name of the load.

    ``start_s``: seconds from the start of the process to its first correct response; None without one. ``trouble``: the
    error that ended the round before all loads were measured; None if they were.
    """

    peer: str
    model: str
    round: int
    start_s: float | None
    figures: dict[str, Figure]
    trouble: str | None = None


@dataclass(frozen=True, slots=True)
class PeerInfo:
    """A peer in the result. ``missing``: why it was not measured; None if it was."""

    name: str
    title: str
    version: str
    settings: tuple[str, ...]
    advice: tuple[str, ...]
    missing: str | None = None


@dataclass(frozen=True, slots=True)
class Ratio:
    """How much better the first server (Slipway) is than a peer: a factor, above 1 if the first server is better.

    It is the geometric mean over ``pairs`` rounds, with a 95 % interval.
    """

    ratio: float
    low: float
    high: float
    pairs: int


@dataclass(frozen=True, slots=True)
class Summary:
    """One load of one peer over all rounds: medians, or None and a ``problem`` without enough valid rounds."""

    rate_per_s: float | None
    p50_ms: float | None
    p99_ms: float | None
    problem: str | None
    rate_ratio: Ratio | None = None
    p50_ratio: Ratio | None = None
    p99_ratio: Ratio | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """The result of ``bench peers``.

    ``models``: the description of each model by name. ``loads``: by model. ``visits``: the result of each peer in each
    round. ``summaries``: by model, peer and load. ``partial``: Ctrl-C ended the run early.
    """

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
    peers: tuple[PeerInfo, ...]
    visits: tuple[RoundResult, ...]
    summaries: dict[str, dict[str, dict[str, Summary]]]
    partial: bool
    schema: str = field(default=SCHEMA)


def summarize(results: Sequence[RoundResult], peer: str, first: str, model: str, load: str) -> Summary:
    """The medians over the valid rounds of a peer, and the ratios to the ``first`` server over the same rounds.

    If fewer than half of the rounds are valid, the summary has no figures, and names the latest problem.
    """
    own, reference = (_by_round(results, one, model, load) for one in (peer, first))
    rounds = sum(one.peer == peer and one.model == model for one in results)
    valid = {number: one for number, one in own.items() if not one.problems}
    if not valid or 2 * len(valid) < rounds:
        return Summary(None, None, None, _problem(results, peer, model, own))
    pairs = []
    if peer != first:
        pairs = [
            (reference[number], one)
            for number, one in valid.items()
            if number in reference and not reference[number].problems
        ]
    return Summary(
        median(one.rate_per_s for one in valid.values()),
        median(one.p50_ms for one in valid.values()),
        _median([one.p99_ms for one in valid.values()]),
        None,
        # A rate is better when it is higher, a latency when it is lower.
        _ratio(pairs, lambda one, other: (other.rate_per_s, one.rate_per_s)),
        _ratio(pairs, lambda one, other: (one.p50_ms, other.p50_ms)),
        _ratio(pairs, lambda one, other: (one.p99_ms, other.p99_ms)),
    )


def start_s(results: Sequence[RoundResult], peer: str) -> float | None:
    """The median time of a peer from its start to its first correct response, in s; None if there never was one."""
    times_s = [one.start_s for one in results if one.peer == peer and one.start_s is not None]
    return median(times_s) if times_s else None


def _by_round(results: Sequence[RoundResult], peer: str, model: str, load: str) -> dict[int, Figure]:
    matching = (one for one in results if one.peer == peer and one.model == model)
    return {one.round: one.figures[load] for one in matching if load in one.figures}


def _problem(results: Sequence[RoundResult], peer: str, model: str, figures: dict[int, Figure]) -> str:
    """The latest problem of a load; for a load that was never measured, the error that ended its round."""
    reasons = [reason for one in figures.values() for reason in one.problems]
    errors = [one.trouble for one in results if one.peer == peer and one.model == model and one.trouble is not None]
    return (reasons or errors or ["it was not measured"])[-1]


def _median(values: Sequence[float | None]) -> float | None:
    known = [one for one in values if one is not None]
    return median(known) if known else None


def _ratio(
    pairs: Sequence[tuple[Figure, Figure]], values_of: Callable[[Figure, Figure], tuple[float | None, float | None]]
) -> Ratio | None:
    candidates = [values_of(own, reference) for own, reference in pairs]
    values = [(own, reference) for own, reference in candidates if own is not None and reference is not None]
    if not values or min(min(pair) for pair in values) <= 0:
        return None
    return Ratio(*ratio_of_pairs([own for own, _ in values], [reference for _, reference in values]), len(values))
