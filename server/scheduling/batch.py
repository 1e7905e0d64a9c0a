"""The batch: rows of one shape bucket that run together."""

from __future__ import annotations

from ..request import InferRequest
from ..tensors import Array
from .waiting import Bucket

Slice = tuple[InferRequest, int, int]
"""A request, and the first and the end row of it that are in the batch."""


class Batch:
    """Slices of requests that run together, with the arrays, outputs and time stamps of their run.

    ``bucket`` is the shape bucket whose cost table learns from the run; None when the run teaches nothing. ``length``
    is the length to which the padded axis is padded; 0 when nothing is padded. ``probe``: its first request was tried
    although it was predicted to be late. Times are in nanoseconds; at ``finished_ns`` the event loop got the outputs.
    """

    __slots__ = (
        *("arrays", "assembled_ns", "bucket", "computed_ns", "finished_ns", "length", "out_of_memory", "outputs"),
        *("picked_ns", "probe", "rows", "slices"),
    )

    def __init__(self, bucket: Bucket | None, slices: list[Slice], rows: int, picked_ns: int, length: int = 0) -> None:
        self.bucket = bucket
        self.slices = slices
        self.rows = rows
        self.picked_ns = picked_ns
        self.length = length
        self.probe = slices[0][0].probe if slices else False
        self.out_of_memory = False
        self.arrays: tuple[Array, ...] = ()
        self.outputs: list[Array] = []
        self.assembled_ns = 0
        self.computed_ns = 0
        self.finished_ns = 0

    def positions(self) -> tuple[int, int]:
        """Positions of the padded axis over the rows that did not fail: (requested, added by padding)."""
        real = rows = 0
        for request, start, stop in self.slices:
            real += request.positions(start, stop)
            rows += stop - start
        return real, rows * self.length - real
