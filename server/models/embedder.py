"""The embedder: the text side of a pipeline that gives vectors, which counts and limits tokens before a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..backends import Tokenizing
from ..errors import MalformedInput
from ..ragged import ragged
from ..tensors import Array


@dataclass(frozen=True, slots=True)
class Embedder:
    """``output`` is the number of the vectors among the model's outputs, ``width`` their size.

    ``dimensions``: sizes to which they may be cut. ``normalized``: they have length one. ``pooling``: mean, cls, or
    empty where the model pools by itself.
    """

    tokenizer: Tokenizing
    output: int
    width: int
    dimensions: tuple[int, ...] = ()
    normalized: bool = False
    pooling: str = ""

    def check_dimensions(self, wanted: int) -> None:
        """Raises MalformedInput for a size that the vectors do not have and may not be cut to."""
        if wanted in (self.width, *self.dimensions):
            return
        sizes = ", ".join(str(size) for size in self.dimensions if size != self.width)
        may = f"may be cut to {sizes}" if sizes else 'may not be cut; leave "dimensions" out'
        raise MalformedInput(f"the vectors of this model have {self.width} dimensions and {may}")

    def tokenized(self, items: Sequence[str | Array]) -> tuple[Array, list[int]]:
        """The rows of a request for texts and arrays of token ids, and the number of tokens of each before it was cut.

        Takes long for long texts: not for the event loop. Raises MalformedInput or NotReady.
        """
        found = iter(self.tokenizer.tokenize([one for one in items if isinstance(one, str)]))
        rows, lengths = [], []
        for one in items:
            row, length = next(found) if isinstance(one, str) else (self.tokenizer.of_ids(one), len(one))
            rows.append(row)
            lengths.append(length)
        return ragged(rows), lengths

    def cut(self, lengths: Sequence[int]) -> int:
        """Tokens that are computed, of texts with so many."""
        return int(np.minimum(lengths, self.tokenizer.max_length).sum())
