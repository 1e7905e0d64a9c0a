"""Repair: keeps the noisiest layers of an inaccurate candidate in float, as few as possible."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from server.errors import SlipwayError

from ..passes import PassRecord
from .sensitivity import Sensitivity

TRIED = 6
"""Layers that are kept in float one at a time, to measure the gain of each for the whole model."""

MOST_SHARE = 0.5
"""Largest share of layers in float: beyond half of them, little speed is left."""


class RepairBuilder(Protocol):
    """The builder of one candidate. All methods raise our errors."""

    def rebuild(self, keep_float: tuple[str, ...]) -> PassRecord: ...

    def sensitivities(self) -> Sequence[Sensitivity]: ...

    def quality_db(self, record: PassRecord) -> float:
        """The signal-to-noise ratio of the outputs on a few rows, in decibel."""
        ...

    def time_left(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Repair:
    """The result: the ranked layers, those ``kept`` in float, and ``record`` if the accuracy limit holds."""

    ranking: tuple[Sensitivity, ...]
    kept: tuple[str, ...] = ()
    record: PassRecord | None = None
    reason: str = ""


def repair(builder: RepairBuilder, broken: PassRecord, holds: Callable[[PassRecord], str | None]) -> Repair:
    """Find the fewest layers to keep in float. ``holds`` returns why a record is not accurate enough, or None.

    Layers are ranked by the noise that they add. The first few are then kept in float one at a time and ranked by the
    gain of the outputs, because noise may cancel or not matter. Layers are kept greedily in that order.
    """
    ranking = tuple(builder.sensitivities())
    if not ranking:
        return Repair((), reason="its layers cannot be told apart")
    ranking = _leave_one_out(builder, broken, ranking)
    most = max(1, int(MOST_SHARE * len(ranking)))
    reason = ""
    for count in _steps(most):
        if not builder.time_left():
            return Repair(ranking, reason=f"the time was up with {count - 1} layer(s) in float: {reason}")
        kept = tuple(row.tensor for row in ranking[:count])
        try:
            record = builder.rebuild(kept)
            still = holds(record)
        except SlipwayError as error:
            return Repair(ranking, kept, reason=f"with {count} layer(s) in float it fails: {error}")
        if still is None:
            return Repair(ranking, kept, record)
        reason = still
    return Repair(ranking, reason=f"with {most} of {len(ranking)} layers in float still {reason}")


def _leave_one_out(
    builder: RepairBuilder, broken: PassRecord, ranking: tuple[Sensitivity, ...]
) -> tuple[Sensitivity, ...]:
    base = builder.quality_db(broken)
    tried = []
    for row in ranking[:TRIED]:
        if not builder.time_left():
            break
        try:
            tried.append(row.tried(builder.quality_db(builder.rebuild((row.tensor,))) - base))
        except SlipwayError:
            continue
    tried.sort(key=lambda row: -(row.gain_db or 0.0))
    names = {row.tensor for row in tried}
    return (*tried, *(row for row in ranking if row.tensor not in names))


def _steps(most: int) -> list[int]:
    """1, 2, 3, 4, 6, 9, 13 ... and ``most``: exact for few layers, coarse for many."""
    steps, count = [], 1
    while count < most:
        steps.append(count)
        count = count + 1 if count < 4 else count + count // 2
    return [*steps, most]
