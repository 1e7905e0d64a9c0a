"""The request: its head, its decoded body, and the object that goes through the scheduler."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from .errors import SlipwayError
from .tensors import Array

log = logging.getLogger("slipway.request")

Headers = list[tuple[bytes, bytes]]

STAGES = ("receive", "decode", "queue_busy", "queue_timer", "assemble", "compute", "scatter", "encode", "send")

NEVER = 1 << 62
"""A deadline in nanoseconds that no clock reaches."""

PATIENCE_NS = 2_500_000_000
"""A request is ordered as if it had this much time, times its priority (1 is the most urgent), or its deadline if that
is sooner: a less urgent request runs when it has waited that much longer."""

ORDINARY = 4
"""The priority of a request that names none."""


class StepTimes:
    """The times of one step of a pipeline for one request, in nanoseconds, and the rows of its batch.

    ``computed_ns`` is when that batch was computed; ``rows`` are those of the request in it.
    """

    __slots__ = ("assemble_ns", "compute_ns", "computed_ns", "name", "queue_ns", "rows", "run_rows")

    def __init__(
        self, name: str, queue_ns: int, assemble_ns: int, compute_ns: int, run_rows: int, computed_ns: int, rows: int
    ) -> None:
        self.name = name
        self.queue_ns = queue_ns
        self.assemble_ns = assemble_ns
        self.compute_ns = compute_ns
        self.run_rows = run_rows
        self.computed_ns = computed_ns
        self.rows = rows


class Journey:
    """The state of a request in a pipeline: its step, all values up to now, and the times of each step."""

    __slots__ = ("begun_ns", "entered_ns", "held_ns", "over", "rows", "step", "times", "values")

    def __init__(self, arrays: tuple[Array, ...], rows: int, begun_ns: int) -> None:
        self.values: list[Array] = list(arrays)
        self.rows = rows
        self.step = 0
        self.begun_ns = begun_ns
        self.entered_ns = begun_ns
        self.held_ns = 0
        self.times: list[StepTimes] = []
        self.over = False  # the request has ended; what other parts of it bring is dropped


REQUEST_ID_HEADERS = (b"x-amzn-sagemaker-inference-id", b"x-request-id")


class Head:
    """Method, path and headers of a request; header names are lower case, all as raw bytes.

    ``begun_ns`` and ``received_ns`` (``perf_counter_ns``) are when its first byte and the last of its body arrived.
    """

    __slots__ = ("begun_ns", "headers", "method", "path", "received_ns")

    query = b""
    """The part of the URL behind the question mark; always empty on the hot path."""

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
    ``rows`` is the size of the batch axis (1 for a model without one). ``style`` is the codec's own note on the form
    of the response. ``wanted`` are indices of the outputs asked for (None: all). ``parameters`` are the request's
    own, such as Open Inference's ``timeout``. ``notes`` are kept by the codec from decode to encode.
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
    """One request in the scheduler, and the times at which it passed each stage.

    It ends in one call of :meth:`end`, on the event loop, with either ``outputs`` (arrays in the order of the model's
    outputs, ``rows`` rows each) or ``error`` set. ``done`` is called then; the cache and comparisons of versions wrap
    it. ``respond`` is the innermost ``done``: it sends the response and sets ``answered``. ``context`` belongs to the
    submitter.
    Setting ``abandoned`` says that its client has left: then it is not run any more.
    """

    __slots__ = (
        "abandoned",
        "ahead_rows",
        "answered",
        "arrays",
        "assembled_ns",
        "cached",
        "computed_ns",
        "context",
        "cursor",
        "deadline_ns",
        "decoded_ns",
        "digest",
        "done",
        "ended",
        "error",
        "filled",
        "held_ns",
        "joined",
        "joined_rows",
        "journey",
        "length",
        "object_bytes",
        "outputs",
        "patience_ns",
        "picked_ns",
        "probe",
        "respond",
        "rows",
        "run_length",
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
        self.respond = self.done = done
        self.answered = False
        self.context = context
        self.deadline_ns = deadline_ns
        self.decoded_ns = decoded_ns
        self.patience_ns = ORDINARY * PATIENCE_NS
        self.length = 0  # of the padded axis; 0 when the model has none
        self.filled = 0  # positions added to its own rows, to bring them to that length
        self.size_bytes = 0
        self.object_bytes = -1  # of the strings in its arrays; -1: not counted yet
        self.digest = b""  # of its arrays, for the response cache; empty: not computed yet
        self.abandoned = False
        self.probe = False  # predicted to be late, and tried all the same: its run corrects the estimates
        self.ended = False
        self.journey: Journey | None = None  # through a pipeline
        self.cached = ""  # how the response cache answered it, if it did
        self.cursor = 0  # rows that are in a batch already
        self.ahead_rows = -1  # rows that waited in the queue when it joined them; -1: it was in no queue
        self.joined: list[Array] | None = None  # outputs of the rows that have run, when split over batches
        self.joined_rows = 0
        self.outputs: list[Array] | None = None
        self.error: SlipwayError | None = None
        self.held_ns = 0
        self.picked_ns = 0
        self.assembled_ns = 0
        self.computed_ns = 0
        self.scattered_ns = 0
        self.run_rows = 0
        self.run_length = 0  # of the padded axis in its run

    def end(self) -> None:
        """End the request: call ``done``, once; a second call does nothing. Raises nothing.

        If ``done`` raises, :meth:`rescue` sends an error.
        """
        if self.ended:
            return
        self.ended = True
        try:
            self.done(self)
        except Exception as error:  # noqa: BLE001 - logged there
            self.rescue(error)

    def refuse(self) -> None:
        """The submission has raised, and its caller sends the error: the request must neither run nor end later."""
        self.ended = self.abandoned = True

    def rescue(self, error: Exception) -> None:
        """The last resort when completing the request has raised ``error``: log it, and call ``respond`` with an error
        unless the response was sent. Raises nothing."""
        self.ended = True
        log.error("completing a request failed answered=%s", self.answered, exc_info=error)
        if self.answered:
            return
        self.outputs = None
        if isinstance(error, SlipwayError):
            self.error = error
        else:
            self.error = SlipwayError("the server failed on this request; its log has the details")
        try:
            self.respond(self)
        except Exception:
            log.exception("sending an error failed; the request has no response")

    def positions(self, start: int, stop: int) -> int:
        """Positions of the padded axis that these rows have without padding. ``filled`` is shared evenly by rows."""
        rows = stop - start
        return rows * self.length - self.filled * rows // self.rows
