"""Refusals: under overload a request is refused before anything is spent on its body."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from server.codecs.json import Json
from server.errors import Overloaded
from server.observe.metrics import ModelMetrics
from server.protocols.inference import infer
from server.protocols.offload import LARGE_BYTES
from server.request import NEVER, Head
from server.tensors import BY_NAME, ModelSpec, TensorSpec
from tests.fakes import FakeResponder

SPEC = ModelSpec((TensorSpec("x", BY_NAME["FP32"], (-1, 2)),), (TensorSpec("y", BY_NAME["FP32"], (-1, 2)),))
BROKEN = b"[[1,"


class Full:
    """A scheduler that has just refused a request, and would refuse the next one."""

    refusing = True

    def __init__(self) -> None:
        self.deadlines_ns: list[int] = []

    def foresee(self, deadline_ns: int) -> None:
        self.deadlines_ns.append(deadline_ns)
        raise Overloaded("overloaded", 3)


def ask(body: bytes, scheduler: Any, *headers: tuple[bytes, bytes], **model: Any) -> tuple[int, bytes]:
    fields = {
        "spec": SPEC,
        "metrics": ModelMetrics("m", "1"),
        "cache": None,
        "deadline_ns": 0,
        "watch": None,
        "trace": None,
        "capture": None,
    }
    served = SimpleNamespace(**{**fields, "scheduler": scheduler, **model})
    responder = FakeResponder()
    head = Head(b"POST", b"/invocations", list(headers), begun_ns=1_000)
    assert infer(cast(Any, served), head, body, responder, Json(), Json()) is None
    status, _, answer, _ = responder.responses[0]
    return status, answer


@pytest.mark.parametrize("longer", [0, LARGE_BYTES])
def test_a_body_is_not_read_while_requests_are_refused(longer: int) -> None:
    assert ask(BROKEN + b" " * longer, Full())[0] == 429


def test_a_body_is_read_when_the_last_request_was_admitted() -> None:
    assert ask(BROKEN, SimpleNamespace(refusing=False))[0] == 400


def test_a_body_that_may_hold_a_deadline_is_read() -> None:
    assert ask(BROKEN + b'"timeout"', Full())[0] == 400


def test_what_the_cache_may_hold_is_read() -> None:
    assert ask(BROKEN, Full(), cache=object())[0] == 400


@pytest.mark.parametrize(
    ("headers", "allowed_ns", "deadline_ns"),
    [
        ([], 0, NEVER),
        ([], 5_000, 6_000),
        ([(b"x-request-deadline-ms", b"2")], 5_000, 2_001_000),
    ],
)
def test_the_deadline_is_that_of_the_header_or_the_settings(
    headers: list[tuple[bytes, bytes]], allowed_ns: int, deadline_ns: int
) -> None:
    full = Full()
    ask(BROKEN, full, *headers, deadline_ns=allowed_ns)
    assert full.deadlines_ns == [deadline_ns]
