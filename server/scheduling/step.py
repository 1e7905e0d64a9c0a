"""One step of a pipeline: its scheduler, the cost of its rows, and its inputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..ragged import filled, is_ragged, stacked
from ..tensors import Array, ModelSpec
from .batch import Batch
from .padding import Padding
from .scheduler import Scheduler

LEARNING = 0.2
"""Weight of the newest batch in the expected cost of a step."""


@dataclass(slots=True)
class Step:
    """One step, and the cost of a row there: ``row_ns`` at its best batch size of ``full`` rows, ``alone_ns`` alone,
    ``least_ns`` alone in the fastest run of the last minutes (-1: not known yet).

    ``inputs`` are the numbers of the values that it takes; ``inside`` counts the rows that wait or run here.
    ``sizes``: the lengths for which costs were measured.
    """

    name: str
    spec: ModelSpec
    scheduler: Scheduler
    inputs: tuple[int, ...]
    alone_ns: float
    row_ns: float
    full: int
    instances: int = 1
    padding: Padding | None = None
    sizes: tuple[int, ...] = ()
    inside: int = 0
    least_ns: float = -1.0

    def learn(self, batch: Batch) -> None:
        """Learn from the newest batch what a row costs now: the lengths of the requests change over time.

        A probe is believed as it is: the estimates may be why nothing else was admitted."""
        if batch.bucket is not None:
            cost = batch.bucket.cost
            weight = 1.0 if batch.probe else LEARNING
            self.alone_ns += weight * (cost.predict_ns(1) - self.alone_ns)
            self.row_ns += weight * (cost.row_ns - self.row_ns)
            least_ns = cost.least_ns(1)
            self.least_ns = least_ns if self.least_ns < 0 else self.least_ns + weight * (least_ns - self.least_ns)

    def run_once_ns(self, rows: int) -> float:
        """Nanoseconds of these rows where nothing else is in the step, in as many runs as they need."""
        return max(self.run_ns(rows), rows * self.row_ns / self.instances)

    @property
    def idle(self) -> bool:
        """Whether nothing waits and nothing runs here."""
        return not self.inside and self.scheduler.idle

    def run_ns(self, rows: int) -> float:
        """A run of this many rows, or as many as one run takes."""
        rows = min(rows, self.full)
        share = (rows - 1) / max(self.full - 1, 1)
        return self.alone_ns + share * max(self.full * self.row_ns - self.alone_ns, 0.0)

    def arrays(self, values: Sequence[Array]) -> list[Array]:
        """The inputs of this step; some may be ragged."""
        return [values[index] for index in self.inputs]


def rectangular(arrays: Sequence[Array], spec: ModelSpec, padding: Padding | None, step: str) -> tuple[Array, ...]:
    """The inputs of a step, ragged ones filled up to their longest row where it pads, stacked where it does not.

    Raises UnprocessableInput for rows of different lengths that cannot be padded.
    """
    padded = {one.index: one for one in padding.inputs} if padding is not None else {}
    whole = []
    for index, (array, tensor) in enumerate(zip(arrays, spec.inputs, strict=True)):
        if not is_ragged(array, tensor):
            whole.append(array)
        elif index in padded:
            whole.append(filled(array, tensor, padded[index].axis, padded[index].value))
        else:
            whole.append(stacked(array, tensor, step))
    return tuple(whole)
