"""Alternation: blocks of a load without and with a change, ABBA, until enough pairs are good or the time is over."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ..errors import Unusable
from ..explain.ratio import Ratio
from ..load.raw_run import Watch
from . import blocks, compare
from .blocks import Block, Variant

OLD, NEW, PLACEBO = "old", "new", "placebo"
PAIRS = 8
LEAST_PAIRS, LEAST_CYCLES = 5, 3
"""A cycle has two pairs."""
MOST_CYCLES = 8
WIDER = {4: 1.836, 5: 1.659, 6: 1.569, 7: 1.515, 8: 1.480, 9: 1.455, 10: 1.437}
"""Student's 99 % over his 95 %, by the number of pairs: a proof asks for more than an estimate."""
WIDER_OF_MORE = 1.437
UNBOUNDED = 1e9
NEEDED = {"p99": 473, "p95": 93, "p90": 46, "p50": 9}
"""Responses for a percentile of one block."""
Cycle = dict[str, tuple[Block, Block]]
"""By side, its two blocks: the first half of the cycle in one order, the second half in the reverse one."""


@dataclass(frozen=True, slots=True)
class Effect:
    """The percentile ``name`` with the change over that without it, with 99 % intervals; the same of the placebo.

    ``agree``: in every cycle the change moved it the same way. ``lost``: how many pairs were lost and why, if any were.
    ``late``: pairs enough needed blocks with the change in which the generator was late. It only adds to a latency, so
    that such blocks can show that the change takes some away, but not that it takes none away.
    """

    name: str
    change: Ratio
    placebo: Ratio
    agree: bool
    lost: str
    late: bool


def cycles(
    sides: Mapping[str, Variant],
    name: str,
    end_s: float,
    watch: Callable[[], Watch | None],
    run: blocks.Execute,
    clock: Callable[[], float] = time.monotonic,
) -> list[Cycle]:
    """Cycles of blocks, A B B A, until ``PAIRS`` pairs have the percentile ``name``, or another one would end too late.

    ``end_s``: the latest end by ``clock``.
    ``sides``: OLD and NEW, and PLACEBO where that is more than the unchanged load once again. All blocks of a cycle get
    the same arrivals. Raises what ``blocks.measured`` does.
    """
    found: list[Cycle] = []
    lasted_s = 0.0
    names = list(sides)
    while len(_pairs(found, NEW, name)) < PAIRS and len(found) < MOST_CYCLES:
        cycle_s = clock()
        if cycle_s + lasted_s > end_s:
            break
        each: dict[str, list[Block]] = {name: [] for name in names}
        for side in (*names, *names[::-1]):
            if clock() > end_s:
                return found  # blocks may last longer than their load, where requests wait for a saturated server
            each[side].append(blocks.measured(sides[side], len(found), watch, run))
        found.append({side: (first, second) for side, (first, second) in each.items()})
        lasted_s = clock() - cycle_s
    return found


def effect(found: Sequence[Cycle], names: Sequence[str]) -> Effect:
    """The effect at the first of these percentiles that pairs enough have. Raises Unusable."""
    ways_to_pair = [(one, late) for late in (False, True) for one in names]
    chosen, late = next((one for one in ways_to_pair if len(_pairs(found, NEW, *one)) >= LEAST_PAIRS), (None, False))
    whole = 2 * len(found)
    if chosen is None:
        good = len(_pairs(found, NEW, names[-1]))
        raise Unusable(f"{good} of {whole} pairs of blocks were good, and {LEAST_PAIRS} are needed{_why(found)}")
    pairs, placebo = _pairs(found, NEW, chosen, late), _pairs(found, PLACEBO, chosen)
    if not placebo:
        raise Unusable(f"no pair of blocks with the placebo was good{_why(found)}")
    lost = whole - len(pairs)
    each = [[math.log(new / old) for old, new in _pairs([one], NEW, chosen, late)] for one in found]
    ways = {sum(logs) > 0 for logs in each if logs}
    return Effect(
        chosen,
        _ratio(pairs),
        _ratio(placebo),
        agree=len(ways) == 1,
        lost=f"{lost} of {whole} pairs of blocks were lost{_why(found)}" if lost else "",
        late=late,
    )


def _pairs(found: Sequence[Cycle], side: str, name: str, late: bool = False) -> list[tuple[float, float]]:
    """The percentile without and with a change, of the blocks of each half of a cycle in which both have it.

    Without a placebo of its own, the second unchanged block of a cycle is compared with the first one. ``late``: also
    of blocks with the change in which the generator was late.
    """
    pairs = []
    for one in found:
        for old, new in zip(one[OLD], one[side], strict=True) if side in one else [one[OLD]]:
            of_new = {**new.late_ms, **new.ms} if late else new.ms
            if name in old.ms and name in of_new:
                pairs.append((old.ms[name], of_new[name]))
    return pairs


def _why(found: Sequence[Cycle]) -> str:
    """The most frequent reason for which a percentile is missing."""
    reasons = Counter(block.why for one in found for both in one.values() for block in both if block.why)
    return f": {reasons.most_common(1)[0][0]}" if reasons else ""


def _ratio(pairs: Sequence[tuple[float, float]]) -> Ratio:
    return wide(Ratio(*compare.ratio_of_pairs(*zip(*pairs, strict=True))), len(pairs))


def wide(ratio: Ratio, pairs: int) -> Ratio:
    """A ratio over ``pairs`` pairs with its 99 % interval, from the 95 % one; of less than four it has no bounds."""
    if pairs < min(WIDER):
        return Ratio(ratio.value, 1 / UNBOUNDED, UNBOUNDED)
    half = WIDER.get(pairs, WIDER_OF_MORE) * math.log(ratio.high / ratio.value)
    return Ratio(ratio.value, ratio.value * math.exp(-half), ratio.value * math.exp(half))


def percentiles(requests: float, simulated: bool) -> list[str]:
    """The percentiles for which a block has responses enough, the highest first; p50 in any case.

    ``simulated``: those that a forecast by simulation has.
    """
    known = blocks.NAMES if simulated else blocks.MEASURED
    return [name for name, needed in NEEDED.items() if name in known and requests >= needed] or ["p50"]
