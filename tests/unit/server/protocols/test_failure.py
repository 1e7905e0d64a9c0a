"""Errors and their way out: stable codes, one status each, a small JSON body, the caller's own request id."""

from __future__ import annotations

import json
import re

import pytest

from server import errors
from server.errors import Overloaded, SlipwayError
from server.protocols.failure import LONGEST_ID, STATUS, body_of, request_id, send_failure, status_of
from server.request import Head
from tests.fakes import FakeResponder

CLASSES = [one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, SlipwayError)]

CONTRACT: dict[str, tuple[int, bool]] = {
    # code: status, retryable. Clients rely on every row of it.
    "internal": (500, False),
    "malformed_input": (400, False),
    "unknown_model": (404, False),
    "unauthorized": (401, False),
    "forbidden": (403, False),
    "not_acceptable": (406, False),
    "slow_request": (408, True),
    "already_loaded": (409, False),
    "body_too_large": (413, False),
    "url_too_long": (414, False),
    "unsupported_media_type": (415, False),
    "head_too_large": (431, False),
    "server_full": (503, True),
    "unsupported_version": (505, False),
    "unprocessable_input": (422, False),
    "overloaded": (429, True),
    "client_gone": (499, False),
    "model_failed": (500, False),
    "not_ready": (503, True),
    "device_lost": (503, True),
    "deadline_exceeded": (504, True),
    "load_timed_out": (504, False),
    "out_of_memory": (507, True),
    "broken_artifact": (422, False),
    "no_such_artifact": (404, False),
    "bad_setting": (500, False),
}


def make(kind: type[SlipwayError], message: str = "what was wrong") -> SlipwayError:
    return Overloaded(message, 7) if kind is Overloaded else kind(message)


def head(*headers: tuple[bytes, bytes]) -> Head:
    return Head(b"POST", b"/invocations", list(headers))


def test_every_error_has_a_code_of_its_own() -> None:
    assert sorted(kind.code for kind in CLASSES) == sorted(CONTRACT)


def test_the_table_maps_errors_and_nothing_else_to_failures() -> None:
    assert all(issubclass(kind, SlipwayError) and 400 <= status < 600 for kind, status in STATUS.items())


def test_what_is_not_in_the_table_is_a_fault_of_ours() -> None:
    class Unheard(SlipwayError):
        """Nobody mapped it."""

    assert status_of(Unheard("x")) == 500


@pytest.mark.parametrize("kind", CLASSES)
def test_an_answer_is_sent_once_as_one_small_object(kind: type[SlipwayError]) -> None:
    responder = FakeResponder()
    send_failure(make(kind), head((b"x-request-id", b"r1")), responder)
    ((status, content_type, body, headers),) = responder.responses
    assert (status, kind.retryable) == (status_of(make(kind)), kind.retryable) == CONTRACT[kind.code]
    assert content_type == b"application/json"
    assert json.loads(body) == {"error": "what was wrong", "code": kind.code, "request_id": "r1"}
    assert kind.__doc__
    soon = dict.fromkeys(("not_ready", "device_lost", "server_full"), b"1")
    assert dict(headers).get(b"retry-after") == {"overloaded": b"7", **soon}.get(kind.code)


@pytest.mark.parametrize("message", ['say "no"', "line\nbreak", "ünïcode ✓", "lone \ud800 surrogate", "nul \0"])
def test_any_message_makes_a_body(message: str) -> None:
    body = json.loads(body_of(SlipwayError(message), "r1"))
    assert body["error"] == message.replace("\ud800", "?")


def test_sagemakers_id_wins_over_the_general_one() -> None:
    general, own = (b"x-request-id", b"general"), (b"x-amzn-sagemaker-inference-id", b"own")
    assert request_id(head(general, own)) == "own"
    assert request_id(head(general)) == "general"
    assert request_id(head((own[0], b""), general)) == "general"


def test_an_id_of_any_bytes_is_cut_and_still_text() -> None:
    assert request_id(head((b"x-request-id", b"\xff" * 500))) == "ÿ" * LONGEST_ID
    json.loads(body_of(SlipwayError("x"), request_id(head((b"x-request-id", bytes(range(1, 256)))))))


def test_requests_without_an_id_get_one_each() -> None:
    made = [request_id(head()) for _ in range(100)]
    assert len(set(made)) == 100
    assert all(re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]+", one) for one in made)
