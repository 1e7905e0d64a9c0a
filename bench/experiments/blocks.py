"""Blocks: two or more variants of a load, alternating so that a drift of the machine affects all of them alike."""

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
from .amounts import Amount
from .config import RunConfig
from .run import execute

ATTEMPTS = 3
NAMES = ("p50", "p90", "p99")
"""The percentiles of a forecast."""
MEASURED = ("p50", "p90", "p95", "p99")
"""The percentiles of a block, where it has enough responses."""
Milliseconds = dict[str, float]
"""The percentiles of one block in ms, by name."""
Execute = Callable[[RunConfig, Watch | None], tuple[RunRecord, Columns]]


@dataclass(frozen=True, slots=True)
class Variant:
    """A load, and a change of the server while it runs.

    ``changed``: a context manager that makes the change and undoes it. ``check``: raises Unusable if the rows of a
    block show no change. ``trust``: False to use percentiles at which the generator was late like any other.
    ``amount``: what the change must lower, to be measured in each block; None if its effect is beyond doubt.
    """

    config: RunConfig
    changed: Callable[[], AbstractContextManager[None]] = field(default=contextlib.nullcontext)
    check: Callable[[Columns], None] = field(default=lambda _columns: None)
    trust: bool = True
    amount: Amount | None = None


@dataclass(frozen=True, slots=True)
class Block:
    """The percentiles for which a block has enough responses.

    ``ms``: those that are valid. ``late_ms``: those at which the generator was late. ``why``: the first reason why the
    block is not valid as a whole; empty for a valid block. ``amount``: of the variant; None without one, or if unknown.
    """

    ms: Milliseconds
    late_ms: Milliseconds = field(default_factory=dict)
    why: str = ""
    amount: float | None = None


def in_turn(
    variants: Mapping[str, Variant],
    rounds: int,
    watch: Callable[[], Watch | None],
    run: Execute = execute,
    percentiles: Sequence[str] = NAMES,
    attempts: int = ATTEMPTS,
    most_rounds: int = 0,
    enough: Callable[[Sequence[Mapping[str, Milliseconds]]], bool] = lambda _valid: True,
) -> list[dict[str, Milliseconds]]:
    """Measure ``rounds`` blocks of each variant, reversing the order in each round: AB, BA, AB, ...

    After those, one round more at a time, up to ``most_rounds`` in all, until the valid ones are ``enough``.
    Returns the percentiles of each valid round by variant. All blocks of a round get the same arrivals.
    ``percentiles``: those that each block must have. A block in which the load generator was late is measured again, up
    to ``attempts`` times in all; after that its round is left out. Raises Unusable if fewer than two of several rounds
    are left, because one round gives no interval, and for a block that is invalid for another reason. Raises
    KeyboardInterrupt on Ctrl-C.
    """
    valid: list[dict[str, Milliseconds]] = []
    names = list(variants)
    for number in range(max(rounds, most_rounds)):
        if number >= rounds and enough(valid):
            break
        order = names if number % 2 == 0 else names[::-1]
        measured_ms = {name: _block(variants[name], number, watch, run, percentiles, attempts) for name in order}
        valid_ms = {name: ms for name, ms in measured_ms.items() if ms is not None}
        if len(valid_ms) == len(variants):
            valid.append(valid_ms)
    if len(valid) < min(2, rounds):
        raise Unusable(
            f"the load generator was the limit in all but {len(valid)} of the rounds: lower the rate, or give "
            "it a core of its own"
        )
    return valid


def ratio(rounds: Sequence[Mapping[str, Milliseconds]], new: str, old: str, name: str) -> Ratio:
    """The percentile ``name`` of variant ``new`` over that of ``old``: geometric mean and 95 % interval over rounds."""
    old_ms, new_ms = ([by_variant[variant][name] for by_variant in rounds] for variant in (old, new))
    return Ratio(*compare.ratio_of_pairs(old_ms, new_ms))


def measured(variant: Variant, number: int, watch: Callable[[], Watch | None], run: Execute) -> Block:
    """Measure one block. ``number``: of its round, which is added to the seed.

    Raises Unusable if the change had no effect on the server, and if the block is invalid for another reason than a
    late generator. Raises KeyboardInterrupt on Ctrl-C.
    """
    with variant.changed():
        amount_until_now = variant.amount.start() if variant.amount is not None else _no_amount
        result, columns = run(replace(variant.config, seed=variant.config.seed + number), watch())
        amount = amount_until_now(result, columns)
    if result.partial:
        raise KeyboardInterrupt
    variant.check(columns)
    latency, validity = result.latency, result.validity
    why = validity.reasons[0] if validity.reasons else ""
    if not latency.corrected and not validity.generator_bound:
        raise Unusable(f"a block was invalid: {why}")
    valid_ms, late_ms = (
        {name: ms for name in MEASURED if name in percentiles and (ms := percentiles[name].value_ms) is not None}
        for percentiles in (latency.corrected or {}, latency.untrusted or {})
    )
    if not variant.trust:
        valid_ms, late_ms = {**late_ms, **valid_ms}, {}
    return Block(valid_ms, late_ms, why, amount)


def _no_amount(_record: RunRecord, _columns: Columns) -> None:
    return None


def _block(
    variant: Variant,
    number: int,
    watch: Callable[[], Watch | None],
    run: Execute,
    percentiles: Sequence[str],
    attempts: int,
) -> Milliseconds | None:
    """The percentiles of a block; None if the generator was late at one of ``percentiles`` in all attempts."""
    for _ in range(attempts):
        block = measured(variant, number, watch, run)
        if all(name in block.ms for name in percentiles):
            return block.ms
        if not block.why:
            raise Unusable(f"a block has too few responses for {percentiles[-1]}: raise --block")
    return None
