"""The lanes: threads of this process in which a script runs. One that hangs costs a thread and not the server."""

from __future__ import annotations

import ctypes
import logging
import os
import threading
from collections import deque
from collections.abc import Sequence
from queue import Empty, SimpleQueue
from typing import Any

from ..errors import DeadlineExceeded, NotReady
from .call import Answer, Call
from .program import Program

log = logging.getLogger("slipway.handlers")

MOST_LOST = 16
"""Threads that may hang at once; beyond that nothing new is begun until one comes back."""


class Late(Exception):
    """A run has not ended in time. Never leaves this package."""


class Lane:
    """One thread that answers one run after another."""

    def __init__(self, program: Program, name: str) -> None:
        self._program = program
        self._runs: SimpleQueue[Sequence[Call] | None] = SimpleQueue()
        self._ends: SimpleQueue[Any] = SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()

    def answer(self, calls: Sequence[Call], timeout_s: float) -> list[Answer]:
        """Raises Late when it takes longer: the lane is not to be used again. Raises what the program raises."""
        self._runs.put(calls)
        try:
            end = self._ends.get(timeout=timeout_s)
        except Empty as error:
            raise Late from error
        if isinstance(end, BaseException):
            raise end
        answers: list[Answer] = end
        return answers

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
        while (calls := self._runs.get()) is not None:
            try:
                end: Any = self._program.answer(calls)
            except BaseException as error:  # noqa: BLE001 - handed to whoever waits
                end = error
            if os.getpid() != owner:
                os._exit(0)  # the script forked, and this is the child: it must not go on as if it were the server
            self._ends.put(end)


class Lanes:
    """The session of a script in this process. ``lost``: how many threads were given up."""

    def __init__(self, program: Program, name: str) -> None:
        self._program = program
        self._name = name
        self._idle: deque[Lane] = deque()
        self._hanging: list[Lane] = []
        self.lost = 0

    def answer(self, calls: Sequence[Call], timeout_s: float) -> list[Answer]:
        """Raises DeadlineExceeded after ``timeout_s``; NotReady when too many threads hang already."""
        try:
            lane = self._idle.pop()
        except IndexError:
            lane = self._new()
        try:
            answers = lane.answer(calls, timeout_s)
        except Late:
            self.lost += 1
            self._hanging.append(lane)
            lane.give_up()
            log.error(
                "request %s: the script of model %s did not answer within %.1f s; its thread is given up (%d so far)",
                *(calls[0].request_id, self._name, timeout_s, self.lost),
            )
            raise DeadlineExceeded("the script did not answer in time") from None
        except BaseException:
            self._idle.append(lane)
            raise
        self._idle.append(lane)
        return answers

    def _new(self) -> Lane:
        self._hanging = [lane for lane in self._hanging if lane.lives]
        if len(self._hanging) >= MOST_LOST:
            raise NotReady(f"{MOST_LOST} threads of the script hang; nothing new is begun until one comes back")
        return Lane(self._program, f"{self._name}-script")

    def close(self) -> None:
        while self._idle:
            self._idle.pop().end()
        self._program.close()
