"""Optimization profiles: the ranges of shapes that an engine is built for, from the closed shapes. Pure arithmetic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

MOST_PROFILES = 6
"""Each profile adds size and build time: 8 take four times as long as one. Beyond this, the smallest rows share one."""

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Shapes:
    """The least, the usual and the largest shape of one input in one profile. Kernels are chosen for the usual one."""

    least: Shape
    usual: Shape
    largest: Shape


Profile = Mapping[str, Shapes]


def of(
    inputs: Mapping[str, Sequence[int]], rows: Sequence[int], lengths: Sequence[int] = (), most: int = MOST_PROFILES
) -> list[Profile]:
    """One profile for each closed number of rows, at most ``most``; each holds all ``lengths``.

    ``inputs``: the shapes of the graph, -1 where they are free: the batch on axis 0, the length elsewhere. A profile
    is tuned for its largest rows and length. Raises ValueError for a free axis when there are no lengths, for no rows,
    and for sizes below 1.
    """
    sizes, long = sorted(set(rows)), sorted(set(lengths))
    if not sizes or sizes[0] < 1 or (long and long[0] < 1) or most < 1:
        raise ValueError(f"rows {list(rows)}, lengths {list(lengths)} and {most} profiles: all must be at least 1")
    shared = max(0, len(sizes) - most) + 1
    groups = [sizes[:shared], *([size] for size in sizes[shared:])]
    return [
        {
            name: Shapes(
                _sized(name, shape, group[0], long[:1]),
                _sized(name, shape, group[-1], long[-1:]),
                _sized(name, shape, group[-1], long[-1:]),
            )
            for name, shape in inputs.items()
        }
        for group in groups
    ]


def _sized(name: str, shape: Sequence[int], rows: int, length: Sequence[int]) -> Shape:
    if any(size < 0 for size in shape[1:]) and not length:
        raise ValueError(f"{name!r} has a free axis besides the batch, and no lengths are given")
    return tuple(size if size >= 0 else rows if at == 0 else length[0] for at, size in enumerate(shape))
