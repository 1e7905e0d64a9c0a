"""The guard of the routes that change models."""

from __future__ import annotations

import pytest

from server.errors import Forbidden, SlipwayError, Unauthorized
from server.protocols.guard import Guard, is_loopback, new_token
from server.request import Head, Headers
from tests.fakes import FakeResponder

TOKEN = "t0ken"
BEARER = (b"authorization", b"Bearer t0ken")


def outcome(guard: Guard, headers: Headers) -> type[SlipwayError] | None:
    try:
        guard.check(Head(b"POST", b"/admin/models", headers))
    except SlipwayError as error:
        return type(error)
    return None


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([(b"host", b"localhost:8080"), BEARER], None),
        ([(b"host", b"127.0.0.1:8080"), BEARER], None),
        ([(b"host", b"[::1]:8080"), BEARER], None),
        ([(b"host", b"127.0.0.1"), (b"origin", b"http://127.0.0.1"), BEARER], None),
        ([(b"host", b"rebound.example:8080"), BEARER], Forbidden),
        ([(b"host", b"127.0.0.1.example"), BEARER], Forbidden),
        ([BEARER], Forbidden),
        ([(b"host", b"localhost"), (b"origin", b"http://other.example"), BEARER], Forbidden),
        ([(b"host", b"localhost"), (b"origin", b"null"), BEARER], Forbidden),
        ([(b"host", b"localhost"), (b"sec-fetch-site", b"cross-site"), BEARER], Forbidden),
        ([(b"host", b"localhost")], Unauthorized),
        ([(b"host", b"localhost"), (b"authorization", b"Bearer other")], Unauthorized),
        ([(b"host", b"localhost"), (b"authorization", b"\xff")], Unauthorized),
    ],
)
def test_a_local_guard_wants_this_host_no_other_origin_and_the_token(
    headers: Headers, expected: type[SlipwayError] | None
) -> None:
    assert outcome(Guard(local=True, token=TOKEN), headers) is expected


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([(b"host", b"models.example")], None),
        ([(b"host", b"models.example"), (b"origin", b"https://models.example")], None),
        ([(b"host", b"models.example"), (b"origin", b"https://other.example")], Forbidden),
    ],
)
def test_an_open_guard_refuses_only_other_origins(headers: Headers, expected: type[SlipwayError] | None) -> None:
    assert outcome(Guard(), headers) is expected


def test_a_refused_request_does_not_reach_its_handler() -> None:
    reached = []
    handler = Guard(local=True).around(lambda head, body, responder: reached.append(body))
    responder = FakeResponder()
    handler(Head(b"POST", b"/", [(b"host", b"other.example")]), b"", responder)
    assert responder.responses[0][0] == 403
    handler(Head(b"POST", b"/", [(b"host", b"localhost")]), b"let in", responder)
    assert reached == [b"let in"]


@pytest.mark.parametrize(
    ("name", "is_own"), [("127.8.9.1", True), ("::1", True), ("LOCALHOST.", True), ("0.0.0.0", False)]
)
def test_own_names_are_known_by_their_form(name: str, is_own: bool) -> None:
    assert is_loopback(name) is is_own


def test_tokens_differ() -> None:
    assert new_token() != new_token()
