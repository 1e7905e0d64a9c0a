"""Alternation: blocks of a load without and with a change, in the order A B B A, and the effect of the change."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ..errors import Unusable
from ..explain.ratio import Ratio
from ..load.raw_run import Watch
from . import amounts, blocks, compare
from .blocks import Block, Variant

OLD, NEW, PLACEBO = "old", "new", "placebo"
"""The variants: the unchanged load (baseline), the change (treatment), and a change that should have no effect."""
PAIRS = 8
"""Cycles end after this many valid pairs of blocks. A cycle has two pairs."""
LEAST_PAIRS, LEAST_CYCLES = 5, 3
MOST_CYCLES = 8
WIDER = {4: 1.836, 5: 1.659, 6: 1.569, 7: 1.515, 8: 1.480, 9: 1.455, 10: 1.437}
"""Student's t for a 99 % interval over that for 95 %, by the number of pairs. A proof uses 99 %, an estimate 95 %."""
WIDER_OF_MORE = 1.437
UNBOUNDED = 1e9
NEEDED = {"p99": 473, "p95": 93, "p90": 46, "p50": 9}
"""The responses that a block needs for each percentile."""
Cycle = dict[str, tuple[Block, Block]]
"""The two blocks of each variant: one from the first half of the cycle, one from the second half in reverse order."""


@dataclass(frozen=True, slots=True)
class Effect:
    """The percentile ``name`` with the change over that without it, and the same for the placebo, with 99 % intervals.

    ``agree``: the change moved the percentile in the same direction in every cycle. ``lost``: how many pairs are
    invalid and why; empty if all are valid. ``late``: the pairs include treatment blocks in which the generator was
    late. Lateness only adds latency, so that these blocks can show a decrease, and cannot rule one out.
    """

    name: str
    change: Ratio
    placebo: Ratio
    agree: bool
    lost: str
    late: bool


def cycles(
    variants: Mapping[str, Variant],
    name: str,
    end_s: float,
    watch: Callable[[], Watch | None],
    run: blocks.Execute,
    clock: Callable[[], float] = time.monotonic,
) -> list[Cycle]:
    """Measure cycles of blocks until ``PAIRS`` pairs have the percentile ``name``, or until the time is over.

    A cycle starts only if one as long as the last one would end in time.

    ``variants``: OLD and NEW, and PLACEBO unless the placebo is the unchanged load. ``end_s``: the latest end by
    ``clock``. All blocks of a cycle get the same arrivals. Raises what ``blocks.measured`` raises.
    """
    completed: list[Cycle] = []
    last_cycle_s = 0.0
    order = list(variants)
    while len(_pairs(completed, NEW, name)) < PAIRS and len(completed) < MOST_CYCLES:
        start_s = clock()
        if start_s + last_cycle_s > end_s:
            break
        measured: dict[str, list[Block]] = {variant: [] for variant in order}
        for variant in (*order, *order[::-1]):
            if clock() > end_s:
                return completed  # a block outlasts its load when requests queue at a saturated server
            measured[variant].append(blocks.measured(variants[variant], len(completed), watch, run))
        completed.append({variant: (first, second) for variant, (first, second) in measured.items()})
        last_cycle_s = clock() - start_s
    return completed


def require_change(variants: Mapping[str, Variant], measured: Sequence[Cycle]) -> None:
    """Raises Unusable if the blocks with the change show that it did not take effect."""
    amount = variants[NEW].amount
    if amount is not None:
        before, after = ([block.amount for cycle in measured for block in cycle[name]] for name in (OLD, NEW))
        amounts.require_fall(amount, before, after)


def effect(measured: Sequence[Cycle], names: Sequence[str]) -> Effect:
    """The effect at the first of the percentiles ``names`` that at least ``LEAST_PAIRS`` pairs have.

    Pairs with a late generator count only if no percentile has enough other pairs. Raises Unusable without such a
    percentile, and without a valid pair for the placebo.
    """
    candidates = [(name, late) for late in (False, True) for name in names]
    chosen = next((one for one in candidates if len(_pairs(measured, NEW, *one)) >= LEAST_PAIRS), None)
    total = 2 * len(measured)
    if chosen is None:
        valid = len(_pairs(measured, NEW, names[-1]))
        raise Unusable(f"{valid} of {total} pairs of blocks were valid, {LEAST_PAIRS} are needed{_reason(measured)}")
    name, late = chosen
    pairs, placebo = _pairs(measured, NEW, name, late), _pairs(measured, PLACEBO, name)
    if not placebo:
        raise Unusable(f"no pair of blocks with the placebo was valid{_reason(measured)}")
    lost = total - len(pairs)
    log_ratios = [[math.log(new / old) for old, new in _pairs([cycle], NEW, name, late)] for cycle in measured]
    directions = {sum(logs) > 0 for logs in log_ratios if logs}
    return Effect(
        name,
        _ratio(pairs),
        _ratio(placebo),
        agree=len(directions) == 1,
        lost=f"{lost} of {total} pairs of blocks were invalid{_reason(measured)}" if lost else "",
        late=late,
    )


def _pairs(measured: Sequence[Cycle], variant: str, name: str, late: bool = False) -> list[tuple[float, float]]:
    """The percentile ``name`` in ms, without and with the change, of each half of a cycle in which both blocks have it.

    Cycles without blocks of ``variant`` (no separate placebo) pair their two unchanged blocks. ``late``: include
    treatment blocks in which the generator was late.
    """
    pairs = []
    for cycle in measured:
        for old, new in zip(cycle[OLD], cycle[variant], strict=True) if variant in cycle else [cycle[OLD]]:
            new_ms = {**new.late_ms, **new.ms} if late else new.ms
            if name in old.ms and name in new_ms:
                pairs.append((old.ms[name], new_ms[name]))
    return pairs


def _reason(measured: Sequence[Cycle]) -> str:
    """The most frequent reason for which a percentile is missing, after a colon; empty without one."""
    reasons = Counter(block.why for cycle in measured for both in cycle.values() for block in both if block.why)
    return f": {reasons.most_common(1)[0][0]}" if reasons else ""


def _ratio(pairs: Sequence[tuple[float, float]]) -> Ratio:
    return wide(Ratio(*compare.ratio_of_pairs(*zip(*pairs, strict=True))), len(pairs))


def wide(ratio: Ratio, pairs: int) -> Ratio:
    """The ratio with a 99 % interval in place of its 95 % one; unbounded for fewer than four ``pairs``."""
    if pairs < min(WIDER):
        return Ratio(ratio.value, 1 / UNBOUNDED, UNBOUNDED)
    half = WIDER.get(pairs, WIDER_OF_MORE) * math.log(ratio.high / ratio.value)
    return Ratio(ratio.value, ratio.value * math.exp(-half), ratio.value * math.exp(half))


def percentiles(requests: float, simulated: bool) -> list[str]:
    """The percentiles for which a block of so many responses is long enough, the highest first; p50 in any case.

    ``simulated``: only the percentiles that a forecast by simulation has.
    """
    known = blocks.NAMES if simulated else blocks.MEASURED
    return [name for name, needed in NEEDED.items() if name in known and requests >= needed] or ["p50"]
