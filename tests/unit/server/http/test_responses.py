"""The bytes of responses: one well-formed head each, dated, with the length of what follows."""

from __future__ import annotations

import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.http.responses import ResponseHeads
from server.request import Headers

NOON = 784111777.9
NOON_TEXT = b"Sun, 06 Nov 1994 08:49:37 GMT"


class Parsed:
    """A response as a client's parser reads it."""

    def __init__(self, response: bytes) -> None:
        self.reason = b""
        self.headers: Headers = []
        self.body = b""
        self.complete = False
        self.keep_alive = False
        self.parser = httptools.HttpResponseParser(self)
        self.parser.feed_data(response)
        self.status: int = self.parser.get_status_code()

    def on_status(self, reason: bytes) -> None:
        self.reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        self.keep_alive = self.parser.should_keep_alive()

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.complete = True


@pytest.fixture
def heads() -> ResponseHeads:
    made = ResponseHeads()
    made.tick(NOON)
    return made


def test_a_response_is_these_bytes(heads: ResponseHeads) -> None:
    assert heads.whole(200, b"application/json", b"[1]", [], False) == (
        b"HTTP/1.1 200 OK\r\ndate: " + NOON_TEXT + b"\r\ncontent-type: application/json\r\ncontent-length: 3\r\n\r\n[1]"
    )


def test_further_headers_and_the_closing_come_before_the_body(heads: ResponseHeads) -> None:
    response = heads.whole(429, b"text/plain", b"later", [(b"retry-after", b"2"), (b"x-a", b"b")], True)
    assert response.startswith(b"HTTP/1.1 429 Too Many Requests\r\n")
    assert response.endswith(b"\r\ncontent-length: 5\r\nretry-after: 2\r\nx-a: b\r\nconnection: close\r\n\r\nlater")


def test_a_status_that_http_does_not_know_still_has_a_phrase(heads: ResponseHeads) -> None:
    parsed = Parsed(heads.whole(499, b"text/plain", b"", [], False))
    assert (parsed.status, parsed.reason) == (499, b"Unknown")


@given(st.sampled_from([200, 400, 404, 413, 429, 500, 503, 504, 507]), st.binary(max_size=300), st.booleans())
def test_a_parser_reads_back_status_body_and_connection(status: int, body: bytes, close: bool) -> None:
    heads = ResponseHeads()
    heads.tick(NOON)
    parsed = Parsed(heads.whole(status, b"a/b", body, [(b"x-a", b"1")], close))
    assert parsed.complete
    assert (parsed.status, parsed.body, parsed.keep_alive) == (status, body, not close)
    names = [name for name, _ in parsed.headers]
    assert len(names) == len(set(names))
    assert dict(parsed.headers)[b"content-length"] == b"%d" % len(body)


def test_the_date_is_taken_over_at_a_tick_and_only_then(heads: ResponseHeads) -> None:
    before = heads.whole(200, b"a/b", b"", [], False)
    assert heads.whole(200, b"a/b", b"", [], False) == before
    heads.tick(NOON + 60)
    assert dict(Parsed(heads.whole(200, b"a/b", b"", [], False)).headers)[b"date"] == NOON_TEXT.replace(b"49", b"50")


def test_before_the_first_tick_there_is_no_date_rather_than_an_empty_one() -> None:
    assert b"date" not in dict(Parsed(ResponseHeads().whole(200, b"a/b", b"", [], False)).headers)


def test_heads_of_different_status_and_type_are_kept_apart(heads: ResponseHeads) -> None:
    wanted = [(200, b"a/b"), (200, b"c/d"), (404, b"a/b"), (200, b"a/b")]
    for status, content_type in wanted:
        parsed = Parsed(heads.whole(status, content_type, b"x", [], False))
        assert (parsed.status, dict(parsed.headers)[b"content-type"]) == (status, content_type)
