"""The thread pool of a script: it runs in threads of the server's process; a hanging run costs one thread."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any

from ..errors import DeadlineExceeded, NotReady, release
from ..system.threads import interrupt
from .call import Call, ScriptResponse
from .chunks import Chunks, RunnerLost, send_chunks
from .loaded_script import LoadedScript

log = logging.getLogger("slipway.scripts")

MAX_HANGING_THREADS = 16
"""Abandoned threads that may hang at once. While so many hang, no new run starts."""

RunScript = Callable[[Sequence[Call]], list[ScriptResponse]]


class RunTimedOut(Exception):
    """A run did not end in time. Internal to this module."""


class ScriptThread:
    """One thread that runs one piece of work after another."""

    def __init__(self, name: str) -> None:
        self._work: SimpleQueue[Callable[[], Any] | None] = SimpleQueue()
        self._results: SimpleQueue[Any] = SimpleQueue()
        self._abandoned = False
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()

    def do(self, work: Callable[[], Any], timeout_s: float) -> Any:
        """Run ``work`` and return its result, or raise its exception.

        Raises RunTimedOut after ``timeout_s`` seconds; the thread must not be used again.
        """
        self._work.put(work)
        try:
            result = self._results.get(timeout=timeout_s)
        except Empty as error:
            raise RunTimedOut from error
        if isinstance(result, BaseException):
            raise result
        return result

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def join(self, timeout_s: float) -> None:
        """Wait for the end of the thread."""
        self._thread.join(timeout_s)

    def end(self) -> None:
        """End the thread after its current run."""
        self._work.put(None)

    def abandon(self) -> None:
        """End a hanging thread: Python code is interrupted at its next step, native code when it returns."""
        self._abandoned = True
        self._drop_results()
        self.end()
        interrupt(self._thread)

    def _serve(self) -> None:
        owner = os.getpid()
        while (work := self._work.get()) is not None:
            try:
                result: Any = work()
            except BaseException as error:  # noqa: BLE001 - raised again on the thread that waits
                result = error
            if os.getpid() != owner:
                os._exit(0)  # the script forked and this is the child: it must not serve requests
            self._results.put(result)
            del work, result  # they hold a request's arrays; the next work may come much later
            if self._abandoned:
                self._drop_results()

    def _drop_results(self) -> None:
        """Let go of results that nobody waits for: an error has frames that hold the requests of its run."""
        with contextlib.suppress(Empty):
            while True:
                result = self._results.get_nowait()
                for one in result if isinstance(result, list) else [result]:
                    error = one.error if isinstance(one, ScriptResponse) else one
                    if isinstance(error, BaseException):
                        release(error)


class ThreadPool:
    """Runs a script in threads. ``lost`` counts the abandoned threads."""

    def __init__(self, script: LoadedScript, name: str, run: RunScript | None = None) -> None:
        """``run``: what runs the script on a thread, instead of its own method."""
        self._script = script
        self._run = run or script.run
        self._name = name
        self._idle: deque[ScriptThread] = deque()
        self._hanging: list[ScriptThread] = []
        self.lost = 0

    def run(self, calls: Sequence[Call], timeout_s: float) -> list[ScriptResponse]:
        """One response for each call; chunks are sent before it returns, and the thread belongs to the run until then.

        Raises DeadlineExceeded after ``timeout_s`` seconds, and NotReady while too many threads hang.
        """
        try:
            thread = self._idle.pop()
        except IndexError:
            thread = self._new_thread()
        try:
            responses: list[ScriptResponse] = thread.do(partial(self._run, calls), timeout_s)
        except RunTimedOut:
            raise self._abandon(thread, calls[0], timeout_s) from None
        except BaseException:
            self._idle.append(thread)
            raise
        if not any(response.chunks for response in responses) or self._send(thread, calls, responses):
            self._idle.append(thread)
        return responses

    def _send(self, thread: ScriptThread, calls: Sequence[Call], responses: list[ScriptResponse]) -> bool:
        def on_thread(index: int, work: Callable[[Chunks], Any], timeout_s: float) -> Any:
            chunks = responses[index].chunks
            assert isinstance(chunks, Chunks)
            try:
                return thread.do(partial(work, chunks), timeout_s)
            except RunTimedOut:
                raise RunnerLost(self._abandon(thread, calls[index], timeout_s)) from None

        def take(index: int, timeout_s: float) -> bytes | None:
            chunk: bytes | None = on_thread(index, Chunks.next, timeout_s)
            return chunk

        def drop(index: int) -> None:
            on_thread(index, Chunks.close, calls[index].chunk_timeout_ns / 1e9)

        return send_chunks(calls, responses, take, drop)

    def _abandon(self, thread: ScriptThread, call: Call, waited_s: float) -> DeadlineExceeded:
        self.lost += 1
        self._hanging.append(thread)
        thread.abandon()
        log.error(
            "script timed out; its thread is abandoned request=%s model=%s waited_s=%.1f abandoned_total=%d",
            *(call.request_id, self._name, waited_s, self.lost),
        )
        return DeadlineExceeded("the script did not respond in time")

    def _new_thread(self) -> ScriptThread:
        self._hanging = [thread for thread in self._hanging if thread.alive]
        if len(self._hanging) >= MAX_HANGING_THREADS:
            raise NotReady(f"{MAX_HANGING_THREADS} threads of the script hang; retry when one of them has ended")
        return ScriptThread(f"{self._name}-script")

    def close(self) -> None:
        while self._idle:
            self._idle.pop().end()
        self._script.close()
