"""Chunks: the values that a script yields, and the turns that the responses of one run take."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from typing import Any

import pytest

from server.errors import DeadlineExceeded, ModelFailed
from server.scripts.call import Call, ScriptResponse
from server.scripts.chunks import Chunks, RunnerLost, send_chunks
from server.scripts.thread_pool import ThreadPool
from tests.unit.server.scripts.test_script_functions import ECHO, Load, ask, call, load  # noqa: F401 - a fixture


class Client:
    """A sink that reads ``room`` chunks before it stops reading, and leaves after ``most``."""

    def __init__(self, room: int = 1_000, most: int = 1_000) -> None:
        self.got: list[bytes] = []
        self.room = room
        self.most = most
        self.turn = threading.Event()

    @property
    def left(self) -> bool:
        return len(self.got) >= self.most

    @property
    def writable(self) -> bool:
        return len(self.got) < self.room

    def begin(self, response: ScriptResponse, changed: threading.Event) -> None:
        self.got.append(response.body)
        self.turn = changed

    def write(self, chunk: bytes) -> None:
        self.got.append(chunk)


class Run:
    """Responses that count down from a number each; ``log`` has every step."""

    def __init__(self, *counts: int) -> None:
        self.left = list(counts)
        self.log: list[str] = []
        self.lost_at = -1
        self.before_last: Callable[[], None] = lambda: None

    def take(self, index: int, _timeout_s: float) -> bytes | None:
        if self.left[-1] == 0:
            self.before_last()
        self.log.append(f"take {index}")
        if len(self.log) == self.lost_at:
            raise RunnerLost(ModelFailed("gone"))
        self.left[index] -= 1
        if self.left[index] < -50:
            raise ModelFailed("poison")
        return b"%d" % self.left[index] if self.left[index] >= 0 else None

    def drop(self, index: int) -> None:
        self.log.append(f"drop {index}")


def sent(run: Run, *clients: Client, **more: Any) -> tuple[bool, list[ScriptResponse]]:
    responses = [ScriptResponse(b"head", "text/plain", chunks=Chunks(nothing(), "f", "")) for _ in clients]
    calls = [Call(b"", None, "", sink=client, **{"chunk_timeout_ns": 10_000_000_000, **more}) for client in clients]
    return send_chunks(calls, responses, run.take, run.drop), responses


def nothing() -> Generator[Any, None, None]:
    yield from ()


def test_the_responses_of_a_run_take_turns() -> None:
    run, first, second = Run(2, 1), Client(), Client()
    assert sent(run, first, second)[0]
    assert first.got == [b"head", b"1", b"0"]
    assert second.got == [b"head", b"0"]
    assert run.log == ["take 0", "take 1", "take 0", "take 1", "take 0"]


def test_a_client_that_does_not_read_delays_no_other_client() -> None:
    run, slow, quick = Run(3, 3), Client(room=1), Client()

    def read() -> None:
        slow.room = 1_000
        slow.turn.set()

    run.before_last = read
    assert sent(run, slow, quick)[0]
    assert quick.got == slow.got == [b"head", b"2", b"1", b"0"]
    assert run.log[:3] == ["take 1"] * 3


def test_a_client_that_leaves_ends_its_response() -> None:
    run, client = Run(9), Client(most=3)
    assert sent(run, client)[0]
    assert run.log == ["take 0", "take 0", "drop 0"]


def test_clients_that_never_read_are_given_up() -> None:
    run, client = Run(9), Client(room=1)
    usable, responses = sent(run, client, chunk_timeout_ns=1)
    assert usable
    assert isinstance(responses[0].error, DeadlineExceeded)
    assert run.log == ["drop 0"]


def test_the_callers_deadline_holds_for_the_whole_response() -> None:
    run, client = Run(9), Client()
    _, responses = sent(run, client, deadline_ns=1)
    assert isinstance(responses[0].error, DeadlineExceeded)


def test_a_failure_of_one_response_leaves_the_others_alone() -> None:
    run, first, second = Run(-50, 1), Client(), Client()
    usable, responses = sent(run, first, second)
    assert usable
    assert isinstance(responses[0].error, ModelFailed)
    assert responses[1].error is None
    assert second.got == [b"head", b"0"]


def test_a_lost_thread_ends_all_unfinished_responses() -> None:
    run, first, second = Run(1, 9), Client(), Client()
    run.lost_at = 4
    usable, responses = sent(run, first, second)
    assert not usable
    assert responses[0].error is None
    assert isinstance(responses[1].error, ModelFailed)


YIELDS = "def model_fn(d): return 3\n"


def whole(script: Any, *calls: Call) -> ScriptResponse:
    runner = ThreadPool(script, "m")
    try:
        return runner.run(list(calls) or [call()], 10)[0]
    finally:
        runner.close()


def test_every_function_that_responds_may_yield(load: Load) -> None:  # noqa: F811
    output = "def predict_fn(x, m): return x\ndef output_fn(p, a):\n    for x in p: yield str(x)\n"
    assert whole(load(YIELDS + output)).body == b"12"
    transform = "def transform_fn(m, b, k, a):\n    yield 'a'\n    yield b'b'\n"
    assert whole(load(YIELDS + transform)).body == b"ab"
    handle = "def handle(data, context):\n    if data is not None: return gen()\ndef gen(): yield 'a'; yield 'b'\n"
    assert whole(load(handle)).body == b"ab"
    listed = handle.replace("return gen()", "return [gen() for one in data]")
    assert whole(load(listed)).body == b"ab"


def test_yielded_predictions_become_lines_of_json(load: Load) -> None:  # noqa: F811
    response = whole(load(YIELDS + "def predict_fn(x, m):\n    for v in x: yield {'y': v * m}\n"))
    assert (response.content_type, response.body) == ("application/jsonlines", b'{"y":3}\n{"y":6}\n')


def test_a_generator_decides_on_its_head_before_its_first_chunk(load: Load) -> None:  # noqa: F811
    text = (
        ECHO + "def output_fn(p, a, c):\n    c.set_response_status(206)\n"
        "    c.set_response_content_type(0, 'a/b')\n    yield 'x'\n"
    )
    response = ask(load(text))
    assert (response.status, response.content_type, response.body) == (206, "a/b", b"x")


def test_a_generator_without_chunks_is_an_empty_response(load: Load) -> None:  # noqa: F811
    response = ask(load(ECHO + "def output_fn(p, a):\n    yield from ()\n"))
    assert (response.status, response.body, response.chunks) == (200, b"", None)


def test_a_failure_before_the_first_chunk_is_an_ordinary_failure(load: Load) -> None:  # noqa: F811
    response = ask(load(ECHO + "def output_fn(p, a):\n    raise KeyError(1)\n    yield 'x'\n"))
    assert "output_fn raised KeyError" in str(response.error)
    assert response.chunks is None


def test_a_later_failure_is_the_error_of_the_begun_response(load: Load) -> None:  # noqa: F811
    response = whole(load(ECHO + "def output_fn(p, a):\n    yield 'x'\n    raise KeyError(1)\n"))
    assert "output_fn raised KeyError after its first chunk" in str(response.error)
    wrong = whole(load(ECHO + "def output_fn(p, a):\n    yield 'x'\n    yield 7\n"))
    assert "output_fn must yield str or bytes; it yielded int" in str(wrong.error)


def test_a_hanging_generator_costs_its_thread(load: Load) -> None:  # noqa: F811
    text = "import time\n" + ECHO + "def output_fn(p, a):\n    yield 'x'\n    while p[0] == 1: time.sleep(0.01)\n"
    runner = ThreadPool(load(text), "m")
    (response,) = runner.run([call(chunk_timeout_ns=20_000_000)], 10)
    assert isinstance(response.error, DeadlineExceeded)
    assert runner.lost == 1
    assert runner.run([call(b"[2]")], 10)[0].body == b"x"
    runner.close()


@pytest.mark.parametrize("status", [204, 304])
def test_a_response_without_a_body_has_no_chunks(load: Load, status: int) -> None:  # noqa: F811
    text = ECHO + f"def output_fn(p, a, c):\n    c.set_response_status({status})\n    yield 'x'\n"
    assert ask(load(text)).chunks is None
