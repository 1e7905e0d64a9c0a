"""Blocks: two or more variants of a load in turn, so that a drift of the machine meets all of them alike."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace

from ..errors import Unusable
from ..explain.ratio import Ratio
from ..load.raw_run import Watch
from ..result.record import RunRecord
from ..result.repeats import Columns
from . import compare
from .config import RunConfig
from .run import execute

ATTEMPTS = 3
NAMES = ("p50", "p90", "p99")
"""Those of a forecast."""
MEASURED = ("p50", "p90", "p95", "p99")
Milliseconds = dict[str, float]
"""The percentiles of one block."""
Execute = Callable[[RunConfig, Watch | None], tuple[RunRecord, Columns]]


@dataclass(frozen=True, slots=True)
class Variant:
    """A load, and what is changed on the server while it runs. ``check``: raises Unusable if nothing was changed.

    ``trust``: keep percentiles apart that the generator made longer.
    """

    config: RunConfig
    changed: Callable[[], AbstractContextManager[None]] = field(default=contextlib.nullcontext)
    check: Callable[[Columns], None] = field(default=lambda _columns: None)
    trust: bool = True


@dataclass(frozen=True, slots=True)
class Block:
    """The percentiles that a block has responses enough for. ``late_ms``: those that the generator made longer, which
    are not in ``ms``, and ``why``."""

    ms: Milliseconds
    late_ms: Milliseconds = field(default_factory=dict)
    why: str = ""


def in_turn(
    variants: Mapping[str, Variant],
    rounds: int,
    watch: Callable[[], Watch | None],
    run: Execute = execute,
    percentiles: Sequence[str] = NAMES,
    attempts: int = ATTEMPTS,
    most_rounds: int = 0,
    enough: Callable[[Sequence[Mapping[str, Milliseconds]]], bool] = lambda _found: True,
) -> list[dict[str, Milliseconds]]:
    """``rounds`` blocks of each variant, in one order and then in the reverse one: AB, BA, AB, ...

    Then one round more at a time, up to ``most_rounds`` in all, until those so far are ``enough``.
    ``percentiles``: those that each block must have responses enough for. All blocks of a round get the same arrivals.
    A round with a block that the load generator spoiled, ``attempts`` times, is left out.
    Raises Unusable if fewer than two of several rounds are left (one has no interval), or for a block that is invalid
    for another reason; KeyboardInterrupt on Ctrl-C.
    """
    found: list[dict[str, Milliseconds]] = []
    names = list(variants)
    for number in range(max(rounds, most_rounds)):
        if number >= rounds and enough(found):
            break
        order = names if number % 2 == 0 else names[::-1]
        each = {}
        for name in order:
            each[name] = _block(variants[name], number, watch, run, percentiles, attempts)
        if all(ms is not None for ms in each.values()):
            found.append({name: ms for name, ms in each.items() if ms is not None})
    if len(found) < min(2, rounds):
        raise Unusable(
            f"the load generator was the limit in all but {len(found)} of the rounds: lower the rate, or give "
            "it a core of its own"
        )
    return found


def ratio(rounds: Sequence[Mapping[str, Milliseconds]], new: str, old: str, name: str) -> Ratio:
    """The percentile ``name`` of ``new`` over that of ``old``, with Student's interval over the rounds."""
    return Ratio(*compare.ratio_of_pairs([one[old][name] for one in rounds], [one[new][name] for one in rounds]))


def measured(one: Variant, number: int, watch: Callable[[], Watch | None], run: Execute) -> Block:
    """A block of round ``number``.

    Raises Unusable if nothing was changed in it, or if it is invalid for another reason than a late generator, and
    KeyboardInterrupt on Ctrl-C.
    """
    with one.changed():
        result, columns = run(replace(one.config, seed=one.config.seed + number), watch())
    if result.partial:
        raise KeyboardInterrupt
    one.check(columns)
    latency, validity = result.latency, result.validity
    why = validity.reasons[0] if validity.reasons else ""
    if not latency.corrected and not validity.generator_bound:
        raise Unusable(f"a block was invalid: {why}")
    known, late = (
        {name: ms for name in MEASURED if name in found and (ms := found[name].value_ms) is not None}
        for found in (latency.corrected or {}, latency.untrusted or {})
    )
    return Block(known, late, why) if one.trust else Block({**late, **known}, {}, why)


def _block(
    one: Variant,
    number: int,
    watch: Callable[[], Watch | None],
    run: Execute,
    percentiles: Sequence[str],
    attempts: int,
) -> Milliseconds | None:
    for _ in range(attempts):
        found = measured(one, number, watch, run)
        if all(name in found.ms for name in percentiles):
            return found.ms
        if not found.why:
            raise Unusable(f"the responses of a block are too few for {percentiles[-1]}: raise --block")
    return None
