"""Parts: the rows of one request grouped by length, so that short rows need not be padded to the longest.

Rows of different bucket sizes become parts that wait separately. Where padding them together pays, the queue joins
them again, as it does with rows of different requests.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import ModelFailed
from ..ragged import is_ragged, lengths, ragged
from ..request import InferRequest
from ..tensors import Array, ModelSpec
from .padding import Padding


class Split:
    """A request that runs in parts; ``left`` counts those that have not ended yet."""

    __slots__ = ("done", "left", "whole")

    def __init__(self, whole: InferRequest) -> None:
        self.whole = whole
        self.left = 0
        self.done: list[Part] = []


class Part(InferRequest):
    """Rows ``numbers`` of a request, ``lengths`` long each, on their way through one step."""

    __slots__ = ("lengths", "numbers", "split")

    def __init__(self, split: Split, numbers: Sequence[int], row_lengths: Sequence[int]) -> None:
        whole = split.whole
        self.split = split
        super().__init__((), len(numbers), whole.done, whole.context, whole.deadline_ns)
        self.patience_ns = whole.patience_ns
        self.journey = whole.journey
        self.probe = whole.probe
        self.numbers = list(numbers)
        self.lengths = list(row_lengths)
        split.left += 1

    @property
    def abandoned(self) -> bool:
        """Whether the whole request is abandoned."""
        return self.split.whole.abandoned

    @abandoned.setter
    def abandoned(self, value: bool) -> None:
        if value:
            self.split.whole.abandoned = True


def apart(
    request: InferRequest, arrays: Sequence[Array], spec: ModelSpec, padding: Padding | None, sizes: Sequence[int]
) -> list[Part]:
    """The parts of a request whose ragged rows are of several sizes; none when it can stay whole."""
    if padding is None:
        return []
    padded = [one for one in padding.inputs if is_ragged(arrays[one.index], spec.inputs[one.index])]
    if len(padded) < len(padding.inputs):
        return []
    rows = lengths(arrays[padded[0].index], padded[0].axis)
    by_size: dict[int, list[int]] = {}
    for number, length in enumerate(rows):
        by_size.setdefault(next((size for size in sizes if size >= length), length), []).append(number)
    if len(by_size) < 2:
        return []
    split = Split(request)
    return [Part(split, numbers, [rows[number] for number in numbers]) for _, numbers in sorted(by_size.items())]


def filled_up(arrays: Sequence[Array], request: InferRequest, spec: ModelSpec, padding: Padding) -> int:
    """Positions that were added to bring a request's own rows to one length; ``arrays``: as they were before."""
    first = padding.inputs[0]
    if request.rows < 2 or not is_ragged(arrays[first.index], spec.inputs[first.index]):
        return 0
    return request.rows * request.length - sum(lengths(arrays[first.index], first.axis))


def rejoin(split: Split, padding: Padding | None) -> list[Array]:
    """The outputs of all parts in the order of the rows; those that have the padded axis become ragged.

    Raises ModelFailed when an output has another shape in one part than in another, and nothing declares that.
    """
    axes = dict(padding.outputs) if padding is not None else {}
    total = sum(part.rows for part in split.done)
    joined: list[Array] = []
    for index in range(len(split.done[0].outputs or ())):
        rows: list[Array] = [np.empty(0)] * total
        for part in split.done:
            assert part.outputs is not None
            for number, length, row in zip(part.numbers, part.lengths, part.outputs[index], strict=True):
                rows[number] = row[(slice(None),) * (axes[index] - 1) + (slice(length),)] if index in axes else row
        if index in axes:
            joined.append(ragged(rows))
        elif isinstance(rows[0], np.ndarray) and len({row.shape for row in rows}) > 1:
            raise ModelFailed("an output depends on the length of its input, and the padding does not declare it")
        else:
            joined.append(np.stack(rows) if isinstance(rows[0], np.ndarray) else np.array(rows))
    return joined
