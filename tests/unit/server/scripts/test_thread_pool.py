"""The thread pool of a script, and the backend session above it."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from server.errors import DeadlineExceeded, NotReady
from server.scripts import thread_pool
from server.scripts.backend_session import ScriptSession
from server.scripts.call import Call, ScriptResponse, as_array
from server.scripts.thread_pool import ThreadPool
from tests.fakes import FakeClock


class FakeScript:
    """Responds with the body; ``hang`` waits until it is released."""

    def __init__(self) -> None:
        self.release = threading.Event()

    def run(self, calls: Sequence[Call]) -> list[ScriptResponse]:
        if calls[0].body == b"hang":
            self.release.wait(30)
        if calls[0].body == b"fail":
            raise KeyError("x")
        return [ScriptResponse(call.body, "text/plain") for call in calls]

    def close(self) -> None:
        self.release.set()


@pytest.fixture
def script() -> Any:
    fake = FakeScript()
    yield fake
    fake.release.set()


@pytest.fixture
def runner(script: Any) -> Iterator[ThreadPool]:
    one = ThreadPool(script, "m")
    yield one
    one.close()


def call(body: bytes) -> Call:
    return Call(body, None, "text/plain")


def test_a_hanging_thread_is_replaced_and_counted(runner: ThreadPool) -> None:
    with pytest.raises(DeadlineExceeded):
        runner.run([call(b"hang")], 0.01)
    assert runner.run([call(b"next")], 5)[0].body == b"next"
    assert runner.lost == 1


def test_a_failing_run_keeps_its_thread(runner: ThreadPool) -> None:
    with pytest.raises(KeyError):
        runner.run([call(b"fail")], 5)
    before = threading.active_count()
    assert runner.run([call(b"next")], 5)[0].body == b"next"
    assert threading.active_count() == before


def test_nothing_new_is_begun_while_too_many_hang(
    runner: ThreadPool, script: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(thread_pool, "MAX_HANGING_THREADS", 2)
    for _ in range(2):
        with pytest.raises(DeadlineExceeded):
            runner.run([call(b"hang")], 0.01)
    hanging = list(runner._hanging)
    with pytest.raises(NotReady):
        runner.run([call(b"next")], 5)
    script.release.set()
    for thread in hanging:
        thread.join(30)
    assert runner.run([call(b"next")], 5)[0].body == b"next"


class Recorder:
    """A runner that remembers how long it was given."""

    def __init__(self) -> None:
        self.timeouts_s: list[float] = []

    def run(self, calls: Sequence[Call], timeout_s: float) -> list[ScriptResponse]:
        self.timeouts_s.append(timeout_s)
        return [ScriptResponse(call.body, "text/plain") for call in calls]

    def close(self) -> None:
        """Nothing."""


def test_a_run_gets_the_timeout_whatever_the_deadlines_of_its_calls() -> None:
    runner, clock = Recorder(), FakeClock(1.0)
    session = ScriptSession(runner, 60_000_000_000, clock)
    soon = Call(b"a", None, "text/plain", deadline_ns=clock.now_ns + 500_000_000)
    (responses,) = session.run([as_array([soon, call(b"b")])])
    assert [response.body for response in responses] == [b"a", b"b"]
    clock.now_s += 59.5
    session.run([as_array([soon])])
    assert runner.timeouts_s == [60.0, 0.5]


def test_a_part_of_a_batch_that_has_had_its_time_is_not_run_again() -> None:
    clock = iter([0, 60_000_000_000])
    session = ScriptSession(Recorder(), 60_000_000_000, lambda: next(clock))
    one = call(b"a")
    session.run([as_array([one])])
    with pytest.raises(DeadlineExceeded):
        session.run([as_array([one])])
