"""Streamed responses: the chunks that a script yields, sent no faster than each client reads them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Generator, Sequence
from time import perf_counter_ns
from typing import Any, Protocol

from ..errors import DeadlineExceeded, ModelFailed, SlipwayError
from .call import Call, ScriptResponse
from .default_output import to_json

log = logging.getLogger("slipway.scripts")

JSON_LINES = "application/jsonlines"
MAY_YIELD_VALUES = frozenset(("predict_fn", "handle"))
"""Functions whose yielded values need not be text: any other value becomes one line of JSON."""


class ChunkSink(Protocol):
    """The client's side of a streamed response. Called on the thread of the run."""

    @property
    def left(self) -> bool:
        """True after the client has closed the connection: nothing more needs to be computed."""
        ...

    @property
    def writable(self) -> bool:
        """False while too many unsent bytes wait for the client."""
        ...

    def begin(self, response: ScriptResponse, changed: threading.Event) -> None:
        """Send status, headers and the first chunk. The sink sets ``changed`` when ``left`` or ``writable`` change."""
        ...

    def write(self, chunk: bytes) -> None:
        """Send one chunk."""
        ...


class RunnerLost(Exception):
    """The thread or process that computes the chunks is lost; ``error`` ends every unfinished response of the run."""

    def __init__(self, error: SlipwayError) -> None:
        super().__init__(str(error))
        self.error = error


class Chunks:
    """The chunks that one script function yields. Used on the thread that runs the script.

    ``as_lines`` becomes True with the first value that is written as a line of JSON.
    """

    def __init__(self, source: Generator[Any, None, None], function: str, request_id: str) -> None:
        self._source = source
        self._function = function
        self._request_id = request_id
        self.as_lines = False

    def first(self) -> bytes | None:
        """The first chunk, None if there is none. Raises whatever the script raises: nothing has been sent yet."""
        return self._take()

    def next(self) -> bytes | None:
        """The next chunk, None at the end. Raises SlipwayError only: the status has been sent already."""
        try:
            return self._take()
        except SlipwayError:
            raise
        except BaseException as error:
            log.error("script failed after its first chunk request=%s function=%s", *self._place, exc_info=error)
            raise ModelFailed(
                f"{self._function} raised {type(error).__name__} after its first chunk; the server's log has the "
                "details"
            ) from error

    def close(self) -> None:
        """End the generator early: it sees GeneratorExit at its ``yield``."""
        try:
            self._source.close()
        except BaseException as error:
            log.error(
                "script failed while its generator was closed request=%s function=%s", *self._place, exc_info=error
            )

    @property
    def _place(self) -> tuple[str, str]:
        return self._request_id, self._function

    def _take(self) -> bytes | None:
        for value in self._source:
            return self._written(value)
        return None

    def _written(self, value: Any) -> bytes:
        if isinstance(value, str):
            return value.encode()
        if isinstance(value, (bytes, bytearray, memoryview)):
            return bytes(value)
        if self._function not in MAY_YIELD_VALUES:
            raise ModelFailed(f"{self._function} must yield str or bytes; it yielded {type(value).__name__}")
        self.as_lines = True
        try:
            return to_json(value) + b"\n"
        except SlipwayError as error:
            raise ModelFailed(f"{self._function} yielded a {type(value).__name__}, which JSON cannot hold") from error


def send_chunks(
    calls: Sequence[Call],
    responses: Sequence[ScriptResponse],
    take: Callable[[int, float], bytes | None],
    drop: Callable[[int], None],
    clock: Callable[[], int] = perf_counter_ns,
) -> bool:
    """Send the chunks of every streamed response of a run, in turns, until the last response is complete.

    ``take(index, timeout_s)`` computes the next chunk of a response (None at its end); it raises SlipwayError or
    RunnerLost. ``drop(index)`` ends a response early. A failure of one response becomes that response's error.
    Returns False after RunnerLost: the thread or process must not be used again.
    """
    changed = threading.Event()
    open_sinks: dict[int, ChunkSink] = {}
    for index, (call, response) in enumerate(zip(calls, responses, strict=True)):
        if response.chunks is not None:
            open_sinks[index] = sink = call.sink or JoiningSink()
            sink.begin(response, changed)
    try:
        while open_sinks:
            changed.clear()
            moved = [
                _send_next(index, calls[index], responses[index], open_sinks, take, drop, clock)
                for index in list(open_sinks)
            ]
            if open_sinks and not any(moved):
                timeout_ns = min(calls[index].chunk_timeout_ns for index in open_sinks)
                if not changed.wait(timeout_ns / 1e9):
                    for index in open_sinks:
                        responses[index].error = DeadlineExceeded("the client did not read the response in time")
                        drop(index)
                    return True
    except RunnerLost as lost:
        for index in open_sinks:
            responses[index].error = lost.error
        return False
    return True


def _send_next(
    index: int,
    call: Call,
    response: ScriptResponse,
    open_sinks: dict[int, ChunkSink],
    take: Callable[[int, float], bytes | None],
    drop: Callable[[int], None],
    clock: Callable[[], int],
) -> bool:
    """Send the next chunk of one response. Returns False if the client has to read first."""
    sink = open_sinks[index]
    late = clock() >= call.deadline_ns
    if sink.left or late:
        if not sink.left:
            response.error = DeadlineExceeded("the response was not complete before its deadline")
        drop(index)
        del open_sinks[index]
        return True
    if not sink.writable:
        return False
    try:
        chunk = take(index, call.chunk_timeout_ns / 1e9)
    except SlipwayError as error:
        response.error = error
        chunk = None
    if chunk is None:
        del open_sinks[index]
    else:
        sink.write(chunk)
    return True


class ClosedSink:
    """The sink of a response that was sent without the run, such as an error at its deadline."""

    left = True
    writable = True

    def begin(self, response: ScriptResponse, changed: threading.Event) -> None:
        """Nothing is sent."""

    def write(self, chunk: bytes) -> None:
        """Nothing is sent."""


CLOSED = ClosedSink()


class JoiningSink:
    """Joins the chunks into the response's body, for a client that takes only whole bodies."""

    left = False
    writable = True

    def begin(self, response: ScriptResponse, changed: threading.Event) -> None:  # noqa: ARG002 - it never waits
        self._response = response

    def write(self, chunk: bytes) -> None:
        self._response.body += chunk
