"""State that clients can make grow, beside limits that have tests of their own: each kind has a bound.

Sessions are in ``test_sessions``, names, versions and loads in ``test_registry``, shapes in ``test_queue``.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from server.codecs.media import Negotiator
from server.codecs.numpy import _layouts, read_array
from server.errors import MalformedInput
from server.models.repository import Found
from server.models.versions import MOST_LABELS, State, Version, Versions
from server.observe.metrics import Metrics, ModelMetrics
from server.protocols.failure import LONGEST_ID, request_id
from server.protocols.sagemaker.sessions import MARGIN_S, Sessions
from server.request import Head
from tests.fakes import FakeClock


class Timers:
    """Timers that a test fires."""

    def __init__(self) -> None:
        self.waiting: list[tuple[float, Callable[[], None]]] = []

    def later(self, seconds: float, call: Callable[[], None]) -> None:
        self.waiting.append((seconds, call))

    def fire(self) -> float:
        seconds, call = self.waiting.pop(0)
        call()
        return seconds


def test_sessions_that_are_opened_and_closed_leave_one_timer() -> None:
    timers, clock = Timers(), FakeClock(1_000.0)
    sessions = Sessions(60, clock.seconds, later=timers.later)
    for _ in range(500):
        sessions.close(sessions.open().id)
    assert len(timers.waiting) == 1


def test_the_timer_ends_every_session_in_its_time() -> None:
    timers, clock = Timers(), FakeClock(1_000.0)
    sessions = Sessions(60, clock.seconds, later=timers.later)
    sessions.open()
    clock.now_s += 10
    sessions.open()
    clock.now_s += 50 + MARGIN_S
    assert timers.fire() == 60 + MARGIN_S
    assert len(sessions) == 1
    clock.now_s += 10
    assert timers.fire() == pytest.approx(10)
    assert (len(sessions), timers.waiting) == (0, [])


def test_choices_of_codecs_are_forgotten_and_long_headers_never_kept() -> None:
    negotiator = Negotiator()
    for number in range(3_000):
        negotiator.negotiate(b"text/csv; n=%d" % number, None)
    negotiator.negotiate(b"text/csv; n=" + b"x" * 600, None)
    assert len(negotiator._remembered) <= 1_024
    assert all(len(key[0] or b"") <= 512 for key in negotiator._remembered)


def test_headers_of_arrays_are_forgotten() -> None:
    for width in range(1_000):
        head = b"{'descr': '<f4', 'fortran_order': False, 'shape': (0, %d), }" % width
        read_array(b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head)
    assert len(_layouts) <= 256


def test_an_unloaded_model_has_no_metrics_and_errors_have_a_few_codes() -> None:
    metrics = Metrics(lambda: True, "1")
    for number in range(100):
        model = ModelMetrics(f"m{number}", "1")
        metrics.add(model)
        metrics.remove(model)
    assert b'model="' not in metrics.text()


def test_an_id_of_a_client_is_cut() -> None:
    assert len(request_id(Head(b"GET", b"/", [(b"x-request-id", b"x" * 10_000)]))) == LONGEST_ID


def test_labels_of_a_model_are_bounded_and_may_be_moved() -> None:
    known = {one: Version(Found(Path("m"), "m", one), state=State.READY) for one in ("1", "2")}
    versions = Versions("m", known)
    for number in range(MOST_LABELS):
        versions.label(f"l{number}", "1")
    versions.label("l0", "2")
    with pytest.raises(MalformedInput, match="remove one"):
        versions.label("more", "1")
