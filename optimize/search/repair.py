"""Repair: a candidate that loses too much keeps its worst layers in float, one after the other, until it does not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from server.errors import SlipwayError

from ..passes import PassRecord
from .sensitivity import Sensitivity

TRIED = 6
"""Layers that are left out one at a time, to see what each is worth for the whole model."""

MOST_SHARE = 0.5
"""A form that keeps more than half of its layers in float has nothing left to be fast with."""


class Workshop(Protocol):
    """What a repair has done for it. All of these raise our errors."""

    def rebuild(self, keep_float: tuple[str, ...]) -> PassRecord: ...

    def sensitivities(self) -> Sequence[Sensitivity]: ...

    def quality_db(self, record: PassRecord) -> float:
        """Signal to noise of the outputs on a few rows."""
        ...

    def time_left(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Repair:
    """What a repair came to: the layers' sensitivities, which stayed in float, and ``record`` if the limit holds."""

    ranking: tuple[Sensitivity, ...]
    kept: tuple[str, ...] = ()
    record: PassRecord | None = None
    reason: str = ""


def repair(workshop: Workshop, broken: PassRecord, holds: Callable[[PassRecord], str | None]) -> Repair:
    """Search for the fewest layers to keep in float. ``holds`` gives the reason why a record is still not good enough.

    Layers are ranked by the noise that they add; the first few are then left out one at a time, because noise may
    cancel or may not matter, and ranked by what the outputs gained. They are kept greedily in that order.
    """
    ranking = tuple(workshop.sensitivities())
    if not ranking:
        return Repair((), reason="no layer of it can be told apart")
    ranking = _leave_one_out(workshop, broken, ranking)
    most = max(1, int(MOST_SHARE * len(ranking)))
    reason = ""
    for count in _steps(most):
        if not workshop.time_left():
            return Repair(ranking, reason=f"the time was up with {count - 1} layer(s) in float: {reason}")
        kept = tuple(row.tensor for row in ranking[:count])
        try:
            record = workshop.rebuild(kept)
            still = holds(record)
        except SlipwayError as error:
            return Repair(ranking, kept, reason=f"with {count} layer(s) in float it fails: {error}")
        if still is None:
            return Repair(ranking, kept, record)
        reason = still
    return Repair(ranking, reason=f"with {most} of {len(ranking)} layers in float still {reason}")


def _leave_one_out(workshop: Workshop, broken: PassRecord, ranking: tuple[Sensitivity, ...]) -> tuple[Sensitivity, ...]:
    base = workshop.quality_db(broken)
    tried = []
    for row in ranking[:TRIED]:
        if not workshop.time_left():
            break
        try:
            tried.append(row.tried(workshop.quality_db(workshop.rebuild((row.tensor,))) - base))
        except SlipwayError:
            continue
    tried.sort(key=lambda row: -(row.gain_db or 0.0))
    names = {row.tensor for row in tried}
    return (*tried, *(row for row in ranking if row.tensor not in names))


def _steps(most: int) -> list[int]:
    """1, 2, 3, 4, 6, 8, 12 ... and the most: exact where it is cheap, quick where it is hopeless anyway."""
    steps, count = [], 1
    while count < most:
        steps.append(count)
        count = count + 1 if count < 4 else count + count // 2
    return [*steps, most]
