"""What travels: the head of a request, what a codec made of its body, and the request as the scheduler sees it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .errors import SlipwayError
from .tensors import Array

Headers = list[tuple[bytes, bytes]]

STAGES = ("receive", "decode", "queue_busy", "queue_timer", "assemble", "compute", "scatter", "encode", "send")

NEVER = 1 << 62
"""A deadline in nanoseconds that no clock reaches."""

PATIENCE_NS = 2_500_000_000
"""A request is ordered as if it had this much time, times its priority (1 is the most urgent), or its deadline if that
is sooner: a less urgent one gets its turn when it has waited that much longer."""

ORDINARY = 4
"""The priority of a request that names none."""


class StepTimes:
    """What one step of a pipeline took for one request, in nanoseconds, and the rows of the batch that it ran in."""

    __slots__ = ("assemble_ns", "compute_ns", "name", "queue_ns", "run_rows")

    def __init__(self, name: str, queue_ns: int, assemble_ns: int, compute_ns: int, run_rows: int) -> None:
        self.name = name
        self.queue_ns = queue_ns
        self.assemble_ns = assemble_ns
        self.compute_ns = compute_ns
        self.run_rows = run_rows


class Journey:
    """What a request carries through a pipeline: where it is, every value up to now, and what each step took."""

    __slots__ = ("begun_ns", "entered_ns", "held_ns", "rows", "step", "times", "values")

    def __init__(self, arrays: tuple[Array, ...], rows: int, begun_ns: int) -> None:
        self.values: list[Array] = list(arrays)
        self.rows = rows
        self.step = 0
        self.begun_ns = begun_ns
        self.entered_ns = begun_ns
        self.held_ns = 0
        self.times: list[StepTimes] = []


REQUEST_ID_HEADERS = (b"x-amzn-sagemaker-inference-id", b"x-request-id")


class Head:
    """Method, path and headers of a request; header names are lower case, all as raw bytes.

    ``begun_ns`` and ``received_ns`` (``perf_counter_ns``) are when its first byte and the last of its body arrived.
    """

    __slots__ = ("begun_ns", "headers", "method", "path", "received_ns")

    query = b""
    """What follows the question mark; never on the hot path, which knows no such URL."""

    def __init__(self, method: bytes, path: bytes, headers: Headers, begun_ns: int = 0, received_ns: int = 0) -> None:
        self.method = method
        self.path = path
        self.headers = headers
        self.begun_ns = begun_ns
        self.received_ns = received_ns

    def get(self, name: bytes) -> bytes | None:
        """The first value of a header, by its lower-case name."""
        for key, value in self.headers:
            if key == name:
                return value
        return None


class ColdHead(Head):
    """A head whose URL may have a query."""

    __slots__ = ("query",)

    def __init__(self, method: bytes, path: bytes, headers: Headers, begun_ns: int, query: bytes) -> None:
        super().__init__(method, path, headers, begun_ns)
        self.query = query


class Payload:
    """A decoded body.

    ``arrays`` in the order of the model's inputs, C-contiguous, of exactly the model's dtypes, shapes checked;
    ``rows`` is the size of the batch axis (1 for a model without one). ``style`` is the codec's own note on how to
    phrase the reply. ``wanted`` are indices of the outputs asked for (None: all). ``parameters`` are the request's
    own, such as Open Inference's ``timeout``. ``notes`` is the codec's memory from decode to encode.
    """

    __slots__ = ("arrays", "notes", "parameters", "request_id", "rows", "style", "wanted")

    def __init__(
        self,
        arrays: tuple[Array, ...],
        rows: int,
        style: str = "",
        request_id: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        wanted: tuple[int, ...] | None = None,
        notes: Any = None,
    ) -> None:
        self.arrays = arrays
        self.rows = rows
        self.style = style
        self.request_id = request_id
        self.parameters = parameters
        self.wanted = wanted
        self.notes = notes


class InferRequest:
    """One request on its way through the scheduler, and the times at which it passed each station.

    It ends in exactly one call of ``done``, on the event loop, with either ``outputs`` (arrays in the order of the
    model's outputs, ``rows`` rows each) or ``error`` set. ``context`` is whatever the submitter wants to find again.
    Setting ``abandoned`` asks that it is not run any more: nobody waits for the answer.
    """

    __slots__ = (
        "abandoned",
        "arrays",
        "assembled_ns",
        "cached",
        "computed_ns",
        "context",
        "cursor",
        "deadline_ns",
        "decoded_ns",
        "done",
        "ended",
        "error",
        "filled",
        "held_ns",
        "journey",
        "length",
        "outputs",
        "parts",
        "patience_ns",
        "picked_ns",
        "rows",
        "run_rows",
        "scattered_ns",
        "size_bytes",
    )

    def __init__(
        self,
        arrays: tuple[Array, ...],
        rows: int,
        done: Callable[[InferRequest], None],
        context: Any = None,
        deadline_ns: int = NEVER,
        decoded_ns: int = 0,
    ) -> None:
        self.arrays = arrays
        self.rows = rows
        self.done = done
        self.context = context
        self.deadline_ns = deadline_ns
        self.decoded_ns = decoded_ns
        self.patience_ns = ORDINARY * PATIENCE_NS
        self.length = 0  # of the padded axis; 0 when the model has none
        self.filled = 0  # positions added to its own rows, to bring them to that length
        self.size_bytes = 0
        self.abandoned = False
        self.ended = False
        self.journey: Journey | None = None  # through a pipeline
        self.cached = ""  # how the response cache answered it, if it did
        self.cursor = 0  # rows that are in a batch already
        self.parts: list[tuple[int, list[Array]]] | None = None  # (first row, outputs) when split over batches
        self.outputs: list[Array] | None = None
        self.error: SlipwayError | None = None
        self.held_ns = 0
        self.picked_ns = 0
        self.assembled_ns = 0
        self.computed_ns = 0
        self.scattered_ns = 0
        self.run_rows = 0

    def positions(self, start: int, stop: int) -> int:
        """Positions of the padded axis that these rows have of their own; where ``filled`` is not of all rows alike,
        each part is taken to have its share."""
        rows = stop - start
        return rows * self.length - self.filled * rows // self.rows
