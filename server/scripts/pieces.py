"""Answers in pieces: what a script yields, and how a run hands it on, no faster than each client reads."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Generator, Sequence
from time import perf_counter_ns
from typing import Any, Protocol

from ..errors import DeadlineExceeded, ModelFailed, SlipwayError
from . import media
from .call import Answer, Call

log = logging.getLogger("slipway.handlers")

LINES = "application/jsonlines"
WITH_LINES = frozenset(("predict_fn", "handle"))
"""Functions that need not yield text: other values become a line of JSON each."""


class Sink(Protocol):
    """Where the pieces of one answer go. Called on the thread of the run."""

    @property
    def left(self) -> bool:
        """Whether the client is gone: nothing more is to be computed."""
        ...

    @property
    def writable(self) -> bool:
        """False while more is on the way than the client reads."""
        ...

    def begin(self, answer: Answer, turn: threading.Event) -> None:
        """Send status, headers and the first piece. ``turn`` is to be set whenever ``left`` or ``writable`` change."""
        ...

    def write(self, piece: bytes) -> None: ...


class Lost(Exception):
    """Whoever computes the pieces is gone, and ``error`` is what becomes of all unfinished answers of the run."""

    def __init__(self, error: SlipwayError) -> None:
        super().__init__(str(error))
        self.error = error


class Pieces:
    """What a function of a script yields. Used on the thread on which the script runs."""

    def __init__(self, source: Generator[Any, None, None], function: str, request_id: str) -> None:
        self._source = source
        self._function = function
        self._request_id = request_id
        self.lines = False
        """Whether values are written as lines of JSON, which the first one decides."""

    def first(self) -> bytes | None:
        """The first piece, before anything of the answer has left; None: there is none. Raises what the script does."""
        return self._take()

    def next(self) -> bytes | None:
        """The next one; None: the end. Raises SlipwayError: the status has left, the author's choice does not count."""
        try:
            return self._take()
        except SlipwayError:
            raise
        except BaseException as error:
            log.error("request %s: %s failed after its first piece", self._request_id, self._function, exc_info=error)
            raise ModelFailed(
                f"{self._function} raised {type(error).__name__} after its first piece; the server's log has the "
                "details"
            ) from error

    def close(self) -> None:
        """Nobody wants the rest: the generator sees GeneratorExit at its yield."""
        try:
            self._source.close()
        except BaseException as error:
            log.error("request %s: %s failed while it was closed", self._request_id, self._function, exc_info=error)

    def _take(self) -> bytes | None:
        for value in self._source:
            return self._written(value)
        return None

    def _written(self, value: Any) -> bytes:
        if isinstance(value, str):
            return value.encode()
        if isinstance(value, (bytes, bytearray, memoryview)):
            return bytes(value)
        if self._function not in WITH_LINES:
            raise ModelFailed(f"{self._function} must yield str or bytes; it yielded {type(value).__name__}")
        self.lines = True
        try:
            return media.to_json(value) + b"\n"
        except SlipwayError as error:
            raise ModelFailed(f"{self._function} yielded what JSON cannot hold: {type(value).__name__}") from error


def send(
    calls: Sequence[Call],
    answers: Sequence[Answer],
    take: Callable[[int, float], bytes | None],
    drop: Callable[[int], None],
    clock: Callable[[], int] = perf_counter_ns,
) -> bool:
    """Hand on the pieces of all answers of a run that have some, in turns; ends when the last has ended.

    ``take(index, timeout_s)`` computes the next piece of an answer (None: the end), and raises SlipwayError, or Lost;
    ``drop(index)`` gives the rest up. What goes wrong with one answer becomes its error. Returns False when ``take`` or
    ``drop`` raised Lost: whoever computes must not be used again.
    """
    turn = threading.Event()
    going: dict[int, Sink] = {}
    for index, (call, answer) in enumerate(zip(calls, answers, strict=True)):
        if answer.pieces is not None:
            going[index] = sink = call.sink or _Whole()
            sink.begin(answer, turn)
    try:
        while going:
            turn.clear()
            moved = [_move(index, calls[index], answers[index], going, take, drop, clock) for index in list(going)]
            if going and not any(moved) and not turn.wait(min(calls[index].piece_ns for index in going) / 1e9):
                for index in going:
                    answers[index].error = DeadlineExceeded("the client did not read its answer")
                    drop(index)
                return True
    except Lost as lost:
        for index in going:
            answers[index].error = lost.error
        return False
    return True


def _move(
    index: int,
    call: Call,
    answer: Answer,
    going: dict[int, Sink],
    take: Callable[[int, float], bytes | None],
    drop: Callable[[int], None],
    clock: Callable[[], int],
) -> bool:
    """One step of one answer; False: it has to wait for its client."""
    sink = going[index]
    left_ns = min(call.piece_ns, call.ends_ns - clock())
    if sink.left or left_ns <= 0:
        if not sink.left:
            answer.error = DeadlineExceeded("the answer was not complete before its deadline")
        drop(index)
        del going[index]
        return True
    if not sink.writable:
        return False
    try:
        piece = take(index, left_ns / 1e9)
    except SlipwayError as error:
        answer.error = error
        piece = None
    if piece is None:
        del going[index]
    else:
        sink.write(piece)
    return True


class _Whole:
    """For who takes answers only whole: pieces are put together."""

    left = False
    writable = True

    def begin(self, answer: Answer, turn: threading.Event) -> None:  # noqa: ARG002 - it never waits
        self._answer = answer

    def write(self, piece: bytes) -> None:
        self._answer.body += piece
