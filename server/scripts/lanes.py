"""The lanes: threads of this process in which a script runs. One that hangs costs a thread and not the server."""

from __future__ import annotations

import ctypes
import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any

from ..errors import DeadlineExceeded, NotReady
from .call import Answer, Call
from .pieces import Lost, Pieces, send
from .program import Program

log = logging.getLogger("slipway.handlers")

MOST_LOST = 16
"""Threads that may hang at once; beyond that nothing new is begun until one comes back."""


class Late(Exception):
    """A run has not ended in time. Never leaves this package."""


class Lane:
    """One thread that does one thing after another."""

    def __init__(self, name: str) -> None:
        self._runs: SimpleQueue[Callable[[], Any] | None] = SimpleQueue()
        self._ends: SimpleQueue[Any] = SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()

    def do(self, work: Callable[[], Any], timeout_s: float) -> Any:
        """Raises Late when it takes longer: the lane is not to be used again. Raises what the work raises."""
        self._runs.put(work)
        try:
            end = self._ends.get(timeout=timeout_s)
        except Empty as error:
            raise Late from error
        if isinstance(end, BaseException):
            raise end
        return end

    @property
    def lives(self) -> bool:
        return self._thread.is_alive()

    def end(self) -> None:
        """After the run that is under way, if any."""
        self._runs.put(None)

    def give_up(self) -> None:
        """End a lane that hangs: a loop in Python is interrupted at its next step, native code when it returns."""
        self.end()
        ident = self._thread.ident
        if ident is not None and self.lives:
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident), ctypes.py_object(SystemExit))

    def _serve(self) -> None:
        owner = os.getpid()
        while (work := self._runs.get()) is not None:
            try:
                end: Any = work()
            except BaseException as error:  # noqa: BLE001 - handed to whoever waits
                end = error
            if os.getpid() != owner:
                os._exit(0)  # the script forked, and this is the child: it must not go on as if it were the server
            self._ends.put(end)
            del work, end  # they hold a request's arrays: not until the next one comes


class Lanes:
    """The session of a script in this process. ``lost``: how many threads were given up."""

    def __init__(self, program: Program, name: str) -> None:
        self._program = program
        self._name = name
        self._idle: deque[Lane] = deque()
        self._hanging: list[Lane] = []
        self.lost = 0

    def answer(self, calls: Sequence[Call], timeout_s: float) -> list[Answer]:
        """Raises DeadlineExceeded after ``timeout_s``; NotReady when too many threads hang already.

        What an answer has in pieces is sent from here: until its end the lane belongs to this run.
        """
        try:
            lane = self._idle.pop()
        except IndexError:
            lane = self._new()
        try:
            answers: list[Answer] = lane.do(partial(self._program.answer, calls), timeout_s)
        except Late:
            raise self._give_up(lane, calls[0], timeout_s) from None
        except BaseException:
            self._idle.append(lane)
            raise
        if not any(answer.pieces for answer in answers) or self._send(lane, calls, answers):
            self._idle.append(lane)
        return answers

    def _send(self, lane: Lane, calls: Sequence[Call], answers: list[Answer]) -> bool:
        def take(index: int, timeout_s: float) -> bytes | None:
            pieces = answers[index].pieces
            assert isinstance(pieces, Pieces)
            try:
                piece: bytes | None = lane.do(pieces.next, timeout_s)
            except Late:
                raise Lost(self._give_up(lane, calls[index], timeout_s)) from None
            return piece

        def drop(index: int) -> None:
            pieces, timeout_s = answers[index].pieces, calls[index].piece_ns / 1e9
            assert isinstance(pieces, Pieces)
            try:
                lane.do(pieces.close, timeout_s)
            except Late:
                raise Lost(self._give_up(lane, calls[index], timeout_s)) from None

        return send(calls, answers, take, drop)

    def _give_up(self, lane: Lane, call: Call, waited_s: float) -> DeadlineExceeded:
        self.lost += 1
        self._hanging.append(lane)
        lane.give_up()
        log.error(
            "request %s: the script of model %s did not answer within %.1f s; its thread is given up (%d so far)",
            *(call.request_id, self._name, waited_s, self.lost),
        )
        return DeadlineExceeded("the script did not answer in time")

    def _new(self) -> Lane:
        self._hanging = [lane for lane in self._hanging if lane.lives]
        if len(self._hanging) >= MOST_LOST:
            raise NotReady(f"{MOST_LOST} threads of the script hang; nothing new is begun until one comes back")
        return Lane(f"{self._name}-script")

    def close(self) -> None:
        while self._idle:
            self._idle.pop().end()
        self._program.close()
