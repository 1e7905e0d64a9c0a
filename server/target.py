"""The target of an artifact: the device that it was made for, and the closed shapes that run there."""

from __future__ import annotations

import bisect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .errors import BrokenArtifact
from .fields import MANIFEST, each, take

CPU = "cpu"
DEVICES = (CPU, "cuda", "tensorrt", "tensorrt_rtx")
"""The kinds of devices, by the runtime that drives them."""


LEAST_DRIVERS = {12: 525, 13: 580}
"""By the major version of CUDA: the lowest major version of the NVIDIA driver that runs it."""


@dataclass(frozen=True, slots=True)
class DeviceTarget:
    """The device that a model was made for.

    ``sm``: the one compute capability that an engine runs on, 90 for 9.0; 0: any. ``least_sm``: the lowest one.
    ``least_driver``: the lowest major version of the NVIDIA driver. ``versions``: library to the version that must be
    installed exactly, such as an engine's ``tensorrt``. ``options``: what ``optimize`` measured to be best, read by the
    backend: ``tf32``, ``graphs``, ``cudnn_conv_algo_search``. ``bytes``: device memory of the weights. ``refittable``:
    an engine that takes other weights.
    """

    kind: str = CPU
    sm: int = 0
    least_sm: int = 0
    least_driver: int = 0
    versions: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    bytes: int = 0
    refittable: bool = False

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "sm": self.sm,
            "least_sm": self.least_sm,
            "least_driver": self.least_driver,
            "versions": dict(self.versions),
            "options": dict(self.options),
            "bytes": self.bytes,
            "refittable": self.refittable,
        }

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> DeviceTarget:
        """Raises BrokenArtifact naming the field that is wrong."""
        kind = take(row, "kind", str)
        if kind not in DEVICES:
            raise BrokenArtifact(f"{MANIFEST}: the kind of 'device' is {kind!r}; this build knows {', '.join(DEVICES)}")
        versions = take(row, "versions", dict, {})
        return cls(
            kind,
            sm=take(row, "sm", int, 0),
            least_sm=take(row, "least_sm", int, 0),
            least_driver=take(row, "least_driver", int, 0),
            versions={name: take(versions, name, str) for name in versions},
            options=take(row, "options", dict, {}),
            bytes=take(row, "bytes", int, 0),
            refittable=take(row, "refittable", bool, False),
        )


@dataclass(frozen=True, slots=True)
class BucketBytes:
    """Device memory of one bucket in bytes: its inputs, outputs, and what the runtime needs meanwhile."""

    rows: int
    length: int
    bytes: int


@dataclass(frozen=True, slots=True)
class ClosedShapes:
    """The shapes that reach a device: every number of ``rows`` with every one of ``lengths``, both ascending.

    ``lengths`` are those of the padded axis; empty where nothing is padded. ``bytes``: what a bucket takes, if known.
    """

    rows: tuple[int, ...]
    lengths: tuple[int, ...] = ()
    bytes: tuple[BucketBytes, ...] = ()

    def rows_for(self, rows: int) -> int:
        """The smallest bucket that holds so many rows; 0 where none does."""
        return _least(self.rows, rows)

    def length_for(self, length: int) -> int:
        """The smallest bucket that holds this length; 0 where none does."""
        return _least(self.lengths, length)

    def buckets(self) -> list[tuple[int, int]]:
        """(rows, length) of every bucket, the largest first; length 0 where nothing is padded."""
        return [(rows, length) for rows in reversed(self.rows) for length in reversed(self.lengths or (0,))]

    def to_json(self) -> dict[str, Any]:
        return {
            "rows": list(self.rows),
            "lengths": list(self.lengths),
            "bytes": [{"rows": one.rows, "length": one.length, "bytes": one.bytes} for one in self.bytes],
        }

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> ClosedShapes:
        """Raises BrokenArtifact naming the field that is wrong."""
        rows = tuple(sorted(set(each(row, "rows", int, least=1))))
        if not rows:
            raise BrokenArtifact(f"{MANIFEST}: the 'rows' of 'shapes' must not be empty")
        return cls(
            rows,
            tuple(sorted(set(each(row, "lengths", int, [], least=1)))),
            tuple(
                BucketBytes(take(one, "rows", int, least=1), take(one, "length", int, 0), take(one, "bytes", int))
                for one in each(row, "bytes", dict, [])
            ),
        )


def _least(sizes: tuple[int, ...], wanted: int) -> int:
    place = bisect.bisect_left(sizes, wanted)
    return sizes[place] if place < len(sizes) else 0
